"""Batches of images for training: batch i is a pure function of (seed, i).

A Grain `MapDataset` shuffles by a keyed permutation of the indices, anew in each epoch, so that any batch can be asked
for directly and a run that resumes at step n starts its iterator there; nothing has to be saved. Indices are batched
before images are fetched, so that every transformation works on whole arrays.

Integer images x in 0..255 become x / 127.5 - 1 in [-1, 1]. For likelihoods they are dequantised first (Theis, van den
Oord and Bethge, arXiv:1511.01844, section 3.1): (x + u) / 256 with u uniform in [0, 1), and then 2 y - 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

Batch = dict[str, np.ndarray]


def batches(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    *,
    start_step: int = 0,
    flip: bool = False,
    dequantise: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Endless batches from number `start_step` on: {"image": float32 [B, H, W, C], "label": int32 [B]}.

    Arguments are those of `dataset`. Two batches are made ahead by a background thread.

    Raises:
      TypeError, ValueError: as `dataset`; or `start_step` is negative.
    """
    if start_step < 0:
        raise ValueError(f"start_step must not be negative, got {start_step}")
    steps = dataset(images, labels, batch_size, seed, flip=flip, dequantise=dequantise, shard=shard)
    return iter(steps[start_step:].to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def dataset(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    seed: int,
    *,
    flip: bool = False,
    dequantise: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """The batches as a sequence with random access, `dataset(...)[i]`.

    Args:
      images: [N, H, W, C], uint8 (they are scaled), or floating and finite (latents: they are passed on as float32).
      labels: integers [N].
      batch_size: B, of all processes together.
      seed: of the order, the flips and the dequantisation, 0 <= seed < 2^32.
      flip: mirror each image left to right with probability 1/2.
      dequantise: add uniform noise of one grey level.
      shard: (index, count) of this process; it receives the index-th of `count` equal parts of every batch, so that
        the processes together see the batches that one process would see alone.

    Raises:
      TypeError, ValueError: the data are empty, of a wrong shape or dtype, or not finite; the batch is larger than the
        data, or cannot be divided by the number of processes; the seed is out of range.
    """
    check(images, labels, batch_size, shard)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie in 0..2^32 - 1, got {seed}")
    if dequantise and images.dtype != np.uint8:
        raise TypeError(f"dequantise needs uint8 images, got {images.dtype}")
    index, count = shard
    part = slice(index * batch_size // count, (index + 1) * batch_size // count)

    def fetch(rows: np.ndarray, rng: np.random.Generator) -> Batch:
        x = images[rows[part]].astype(np.float32)
        if dequantise:  # random numbers are drawn for the whole batch, and then the shard takes its own
            u = rng.random((batch_size, *images.shape[1:]), np.float32)
            x = (x + u[part]) / 128 - 1
        elif images.dtype == np.uint8:
            x = x / np.float32(127.5) - 1
        if flip:
            mirrored = rng.random(batch_size)[part] < 0.5
            x[mirrored] = x[mirrored, :, ::-1]
        return {"image": x, "label": labels[rows[part]].astype(np.int32)}

    indices = grain.MapDataset.range(len(images)).seed(seed).shuffle().repeat()
    return indices.batch(batch_size, batch_fn=np.array).random_map(fetch)


def check(images: Any, labels: Any, batch_size: int, shard: tuple[int, int]) -> None:
    """Raise the errors that `dataset` promises."""
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"images must be [N, H, W, C] and not empty, got the shape {images.shape}")
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {len(images)} integers, got {labels.dtype} of shape {labels.shape}")
    if np.issubdtype(images.dtype, np.floating):
        bad = int((~np.isfinite(images)).any(axis=(1, 2, 3)).sum())
        if bad:
            raise ValueError(f"{bad} of {len(images)} images hold NaN or infinite values; drop or repair them first")
    elif images.dtype != np.uint8:
        raise TypeError(f"images must be uint8 (0..255) or floating, got {images.dtype}")
    if not 1 <= batch_size <= len(images):
        raise ValueError(f"batch_size must lie in 1..{len(images)}, the number of images, got {batch_size}")
    index, count = shard
    if not 0 <= index < count or batch_size % count:
        raise ValueError(f"shard (index, count) = {shard} does not divide a batch of {batch_size} evenly")


def to_float(images: np.ndarray) -> np.ndarray:
    """uint8 in 0..255 -> float32 in [-1, 1], the scaling that `batches` applies."""
    return np.asarray(images).astype(np.float32) / np.float32(127.5) - 1


def to_uint8(x: Any) -> np.ndarray:
    """[-1, 1] -> uint8, rounded and clipped: the inverse of `to_float`.

    Raises:
      ValueError: a value is NaN.
    """
    x = np.asarray(x, np.float32)
    if np.isnan(x).any():
        raise ValueError(f"{int(np.isnan(x).sum())} of {x.size} values are NaN: there is no grey level for them")
    return np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)

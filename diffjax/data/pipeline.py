"""Batches for training: batch i is a pure function of (seed, i).

A Grain `MapDataset` shuffles by a keyed permutation of the indices, anew in each epoch, so that any batch can be made
directly and a run that resumes at step n starts its iterator there; nothing has to be saved. Indices are batched before
examples are fetched, so that every transformation works on whole arrays.

Integer images x in 0..255 become x / 127.5 - 1 in [-1, 1]. For likelihoods they are dequantised first (Theis, van den
Oord and Bethge, arXiv:1511.01844, section 3.1): (x + u) / 256 with u uniform in [0, 1), and then 2 y - 1.

A batch is a dict of fields, all of them of the same examples: "image", "label", and any other, such as "text".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np

from diffjax.checks import check_count
from diffjax.data.units import as_array, check_images

Batch = dict[str, Any]
ENDLESS = 2**40  # examples; Grain's own endless repetition overflows for batches of one


def batches(
    images: Any,
    labels: Any = None,
    batch_size: int | None = None,
    seed: int = 0,
    *,
    start_step: int = 0,
    **options: Any,
) -> Iterator[Batch]:
    """Endless batches from number `start_step` on: {"image": float32 [B, H, W, C], "label": int32 [B], ...}.

        data.batches(images, batch_size=64, seed=0)
        data.batches(images, labels, 64, seed=0)
        data.batches({"image": images, "text": vectors, "mask": masks}, batch_size=64, seed=0)

    Arguments and options (flip, dequantise, shard, as_is) are those of `dataset`. A background thread makes two batches
    ahead.

    Raises:
      TypeError, ValueError: as `dataset`; or `start_step` is negative.
    """
    check_count("start_step", start_step, 0)
    steps = dataset(images, labels, batch_size, seed, **options)
    return iter(steps[start_step:].to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)))


def dataset(
    images: Any,
    labels: Any = None,
    batch_size: int | None = None,
    seed: int = 0,
    *,
    flip: bool = False,
    dequantise: bool = False,
    shard: tuple[int, int] = (0, 1),
    as_is: bool = False,
) -> grain.MapDataset:
    """The batches as a sequence with random access, `dataset(...)[i]`.

    Args:
      images: [N, H, W, C], uint8 (they are scaled), or floating in [-1, 1] (they are passed on as float32); or a dict
        of fields of N examples each: "image" like this, "label", and any others, which may be nested dicts. Their
        floats are passed on as float32, their integers, booleans and strings as they are.
      labels: the field "label", integers [N] from 0 on; None for a set without.
      batch_size: B, of all processes together.
      seed: of the order, the flips and the dequantisation, 0 <= seed < 2^32.
      flip: mirror each image left to right with probability 1/2; other fields stay as they are.
      dequantise: add uniform noise of one grey level.
      shard: (index, count) of this process; it receives the index-th of `count` equal parts of every batch, so that
        the processes together see the batches that one process would see alone.
      as_is: the images are no pictures but latents, features or points [N, ...], in units of their own.

    Raises:
      TypeError, ValueError: the data are empty, of a wrong shape or dtype, in other units, not finite, or differ in
        length; the batch is larger than the data, or cannot be divided by the number of processes; the seed is out of
        range.
    """
    fields = read_fields(images, labels, as_is)
    count = len(jax.tree.leaves(fields)[0])
    size = check_sizes(count, batch_size, seed, shard)
    pictures: Any = fields.get("image")
    if (flip or dequantise) and not isinstance(pictures, np.ndarray):
        raise ValueError("flip and dequantise are for the field 'image', but there is none")
    if dequantise and pictures.dtype != np.uint8:
        raise TypeError(f"dequantise needs uint8 images, got {pictures.dtype}")
    index, of = shard
    part = slice(index * size // of, (index + 1) * size // of)

    def fetch(rows: np.ndarray, rng: np.random.Generator) -> Batch:
        batch = jax.tree.map(lambda x: _plain(x[rows[part]]), fields)
        if dequantise:  # random numbers are drawn for the whole batch, and then the shard takes its own
            u = rng.random((size, *pictures.shape[1:]), np.float32)
            batch["image"] = (batch["image"].astype(np.float32) + u[part]) / 128 - 1
        elif pictures is not None and pictures.dtype == np.uint8:
            batch["image"] = batch["image"].astype(np.float32) / np.float32(127.5) - 1
        if flip:
            mirrored = rng.random(size)[part] < 0.5
            batch["image"][mirrored] = batch["image"][mirrored, :, ::-1]
        return batch

    indices = grain.MapDataset.range(count).seed(int(seed)).shuffle().repeat(ENDLESS // count + 1)
    return indices.batch(size, batch_fn=np.array).random_map(fetch)


def _plain(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x


def read_fields(images: Any, labels: Any, as_is: bool) -> Batch:
    """The fields of all examples as NumPy arrays [N, ...], checked as `dataset` documents."""
    fields = dict(images) if isinstance(images, Mapping) else {"image": images}
    if isinstance(labels, int | np.integer) and not isinstance(images, Mapping):
        raise TypeError(f"the second argument is the labels, got {labels}: write batch_size={labels} by name")
    if labels is not None:
        if isinstance(images, Mapping) and (np.ndim(labels) == 0 or "label" in fields):
            raise TypeError(
                f"with a dict of fields write batch_size=... by name, and labels as its field 'label'; got {labels!r}"
            )
        fields["label"] = labels
    if not all(isinstance(name, str) for name in fields):
        raise TypeError(f"fields are named by strings, got {list(fields)}")
    leaf = lambda x: type(x) in (list, tuple) or x is None  # noqa: E731  (captions; a named tuple is a dict of arrays)
    fields = jax.tree_util.tree_map_with_path(lambda p, x: as_array(_name(p), x), fields, is_leaf=leaf)
    found = jax.tree_util.tree_leaves_with_path(fields)
    if not found:
        raise ValueError("there is no field: give images, or a dict of arrays")
    if isinstance(fields.get("image"), np.ndarray):
        check_images(fields["image"], as_is)
    lengths = {_name(path): len(x) if x.ndim else 0 for path, x in found}
    if "label" in fields:
        fields["label"] = _labels(fields["label"], next(iter(lengths.values())))
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"the fields must be of the same examples, one or more, got the lengths {lengths}")
    for path, x in found:
        if jnp.issubdtype(x.dtype, jnp.floating):
            bad = int((~np.isfinite(x)).reshape(len(x), -1).any(axis=1).sum())
            if bad:
                name = "images" if _name(path) == "image" else f"entries of {_name(path)!r}"
                raise ValueError(f"{bad} of {len(x)} {name} hold NaN or infinite values; drop or repair them first")
    return fields


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path)


def _labels(labels: Any, n: int) -> np.ndarray:
    if not isinstance(labels, np.ndarray):
        raise TypeError("the field 'label' must be an array of integers, and other conditions have names of their own")
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be {n} integers, got {labels.dtype} of shape {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= 2**31):
        raise ValueError(f"labels must count classes from 0 on, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int32)


def check_sizes(n: int, batch_size: Any, seed: Any, shard: Any) -> int:
    """The batch size; raise the errors that `dataset` documents for its numbers, for n examples."""
    if batch_size is None:
        raise TypeError("batch_size is missing: write data.batches(images, labels, batch_size=..., seed=...)")
    check_count("batch_size", batch_size, 0)
    if not 1 <= batch_size <= n:
        raise ValueError(f"batch_size must lie in 1..{n}, the number of images, got {batch_size}")
    check_count("seed", seed, 0, 2**32 - 1, why="the seed of a data set is a number, not a key")
    if not (isinstance(shard, tuple | list) and len(shard) == 2):
        raise TypeError(f"shard must be (index, count) of this process, got {shard!r}")
    for name, value in zip(("index", "count"), shard, strict=True):
        check_count(f"the {name} of shard (index, count)", value, 0)
    index, count = shard
    if not 0 <= index < count or batch_size % count:
        raise ValueError(f"shard (index, count) = {shard} does not divide a batch of {batch_size} evenly")
    return int(batch_size)

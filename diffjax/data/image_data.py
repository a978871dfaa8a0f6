"""A labelled image set held in memory, the split of a set that has none, and the directory where sets are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image set: images uint8 `[N, H, W, C]`, labels integer `[N]`, counted into `class_names`.

    The captions, strings `[N]`, are None for a set without.

    Raises:
      TypeError: images or labels are no NumPy arrays, labels no integers, or class names no tuple of strings.
      ValueError: a shape, a dtype, a label, a repeated class or the number of captions does not fit this description.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    train_captions: tuple[str, ...] | None = None
    test_captions: tuple[str, ...] | None = None

    def __post_init__(self):
        names = self.class_names
        if not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
            raise TypeError(f"{self.name}: class_names must be a tuple of strings, got {names!r}")
        if len(set(names)) < len(names):
            raise ValueError(f"{self.name}: two classes have the same name: {names}")
        parts = {
            "train": (self.train_images, self.train_labels, self.train_captions),
            "test": (self.test_images, self.test_labels, self.test_captions),
        }
        for part, (images, labels, captions) in parts.items():
            where = f"{self.name}, {part} split"
            if not (isinstance(images, np.ndarray) and isinstance(labels, np.ndarray)):
                kinds = f"{type(images).__name__} and {type(labels).__name__}"
                raise TypeError(f"{where}: images and labels must be NumPy arrays, got {kinds}")
            if images.ndim != 4 or images.dtype != np.uint8:
                raise ValueError(f"{where}: images must be uint8 [N, H, W, C], got {images.dtype} {images.shape}")
            if labels.shape != images.shape[:1]:
                raise ValueError(f"{where}: {len(images)} images, but labels of shape {labels.shape}")
            if not np.issubdtype(labels.dtype, np.integer):
                raise TypeError(f"{where}: labels must be integers, got {labels.dtype}")
            if labels.size and not 0 <= labels.min() <= labels.max() < len(self.class_names):
                raise ValueError(f"{where}: a label lies outside 0..{len(self.class_names) - 1}")
            if captions is not None and len(captions) != len(images):
                raise ValueError(f"{where}: {len(images)} images, but {len(captions)} captions")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(f"{self.name}: train and test images differ in shape")
        if (self.train_captions is None) != (self.test_captions is None):
            raise ValueError(f"{self.name}: one split has captions and the other has none")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of one image."""
        return self.train_images.shape[1:]

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def shuffled(self, seed: int) -> ImageData:
        """Both splits in an order by chance, always the same for a seed."""
        rng, parts = np.random.default_rng(seed), {}
        for part in ("train", "test"):
            order = rng.permutation(len(getattr(self, f"{part}_labels")))
            parts |= {f"{part}_{kind}": getattr(self, f"{part}_{kind}")[order] for kind in ("images", "labels")}
            captions = getattr(self, f"{part}_captions")
            parts[f"{part}_captions"] = None if captions is None else tuple(captions[i] for i in order)
        return dataclasses.replace(self, **parts)


def default_data_dir() -> Path:
    """Where prepared sets are kept: the environment variable DIFFJAX_DATA, or `~/.cache/diffjax`."""
    return Path(os.environ.get("DIFFJAX_DATA") or "~/.cache/diffjax").expanduser()


def split(
    name: str,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: tuple[str, ...],
    captions: Sequence[str] | None,
    test: np.ndarray,
) -> ImageData:
    """The set of images [N, H, W, C] with labels [N], of which those where `test` [N] is true are for testing."""
    parts: dict[str, Any] = {}
    for part, rows in {"train": ~test, "test": test}.items():
        parts[f"{part}_images"] = images[rows]
        parts[f"{part}_labels"] = labels[rows].astype(np.int32)
        if captions is not None:
            parts[f"{part}_captions"] = tuple(compress(captions, rows))
    return ImageData(name=name, class_names=class_names, **parts)


def draw(name: str) -> float:
    """A number in [0, 1) that depends on `name` alone, by sha256: what falls below a tenth is for testing."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:6]) / 2**48

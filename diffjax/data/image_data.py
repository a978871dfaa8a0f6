"""A labelled image set held in memory, and the directory where prepared sets are kept."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image set: images uint8 `[N, H, W, C]`, labels integer `[N]`, counted into `class_names`.

    Raises:
      ValueError: a shape, a dtype, or a label does not fit this description.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]

    def __post_init__(self):
        parts = {"train": (self.train_images, self.train_labels), "test": (self.test_images, self.test_labels)}
        for part, (images, labels) in parts.items():
            where = f"{self.name}, {part} split"
            if images.ndim != 4 or images.dtype != np.uint8:
                raise ValueError(f"{where}: images must be uint8 [N, H, W, C], got {images.dtype} {images.shape}")
            if labels.shape != images.shape[:1]:
                raise ValueError(f"{where}: {len(images)} images, but labels of shape {labels.shape}")
            if labels.size and not 0 <= labels.min() <= labels.max() < len(self.class_names):
                raise ValueError(f"{where}: a label lies outside 0..{len(self.class_names) - 1}")
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise ValueError(f"{self.name}: train and test images differ in shape")

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (H, W, C) of one image."""
        return self.train_images.shape[1:]

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


def default_data_dir() -> Path:
    """Where prepared sets are kept: the environment variable DIFFJAX_DATA, or `~/.cache/diffjax`."""
    return Path(os.environ.get("DIFFJAX_DATA") or "~/.cache/diffjax").expanduser()

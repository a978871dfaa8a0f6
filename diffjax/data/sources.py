"""`load`: an image set by its name."""

from __future__ import annotations

from pathlib import Path

from diffjax.data import digits, fashion_mnist
from diffjax.data.image_data import ImageData

NAMES = ("auto", "fashion_mnist", "digits")


def load(name: str = "auto", data_dir: str | Path | None = None) -> ImageData:
    """An image set in memory.

    Args:
      name: "fashion_mnist" (60,000 + 10,000 of 28 x 28), "digits" (1,540 + 257 of 8 x 8), or "auto": Fashion-MNIST, and
        digits, with a printed notice, where it cannot be had.
      data_dir: where Fashion-MNIST is, or will be, prepared; `default_data_dir()` if None.

    Raises:
      ValueError: the name is unknown, or Fashion-MNIST's files are corrupt.
      FileNotFoundError: Fashion-MNIST was asked for and cannot be had.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")
    if name == "digits":
        return digits.load()
    try:
        return fashion_mnist.load(data_dir)
    except FileNotFoundError as error:
        if name == "fashion_mnist":
            raise
        print(f"Using scikit-learn's 8 x 8 digits instead of Fashion-MNIST. {error}")
        return digits.load()

"""`load`: an image set by its name."""

from __future__ import annotations

from pathlib import Path

from diffjax.data import cifar10, digits, fashion_mnist
from diffjax.data.image_data import ImageData

NAMES = ("auto", "fashion_mnist", "digits", "cifar10")


def load(name: str = "auto", data_dir: str | Path | None = None) -> ImageData:
    """An image set in memory.

    Args:
      name: "fashion_mnist" (60,000 + 10,000 of 28 x 28), "digits" (1,540 + 257 of 8 x 8), "cifar10" (50,000 + 10,000 of
        32 x 32 x 3), or "auto": Fashion-MNIST, and digits, with a printed notice, where it cannot be had.
      data_dir: where Fashion-MNIST and CIFAR-10 are, or will be, kept; `default_data_dir()` if None.

    Raises:
      ValueError: the name is unknown, or the files are corrupt.
      FileNotFoundError: the set was asked for by its name and cannot be had; the message says what to do.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}")
    if name == "digits":
        return digits.load()
    if name == "cifar10":
        return cifar10.load(data_dir)
    try:
        return fashion_mnist.load(data_dir)
    except FileNotFoundError as error:
        if name == "fashion_mnist":
            raise
        print(f"Using scikit-learn's 8 x 8 digits instead of Fashion-MNIST. {error}")
        return digits.load()

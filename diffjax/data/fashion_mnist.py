"""Fashion-MNIST as a TFDS data set of our own that needs no TensorFlow.

70,000 grey images of clothes, 28 x 28, ten classes (Xiao, Rasul and Vollgraf, arXiv:1708.07747; MIT licence).

Its four idx files are taken from the first of
  1. a set that is already prepared in `data_dir` (see `prepared`);
  2. the folder given as `source`, or named by the environment variable DIFFJAX_FASHION_MNIST;
  3. Debian's package dataset-fashion-mnist;
  4. the upstream server (31 MB, checked by sha256).
Preparing takes about 8 seconds, once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from diffjax.data import prepared
from diffjax.data.fetch import fetch
from diffjax.data.idx import read_idx
from diffjax.data.image_data import ImageData, default_data_dir

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip
PREFIX = {"train": "train", "test": "t10k"}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SHA256 = {  # of the upstream files, as TFDS registers them; Debian compressed the same data anew
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
FILES = tuple(SHA256)
HELP = (
    "Fashion-MNIST cannot be had here. Either install Debian's package (apt-get install dataset-fashion-mnist), or put "
    f"the four files {', '.join(FILES)} into a folder and name it in the environment variable DIFFJAX_FASHION_MNIST, "
    f"or connect to the network ({URL})."
)


class FashionMnist(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder; `source` is a folder with the four idx files, found as the module says if it is None.

    `FashionMnist(data_dir=d).download_and_prepare()`, then `.as_data_source("train")`.
    """

    name = "diffjax_fashion_mnist"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: str | Path | None = None, file_format: Any = "array_record", **kwargs: Any):
        super().__init__(file_format=file_format, **kwargs)
        self._source = source

    def _info(self) -> tfds.core.DatasetInfo:
        about = dict(homepage="https://github.com/zalandoresearch/fashion-mnist", license="MIT")
        return prepared.info(self, (28, 28, 1), CLASS_NAMES, **about)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = find_files(self._source, Path(dl_manager.download_dir) / self.name)
        prepared.announce("Preparing Fashion-MNIST, about 8 seconds,", folder)
        return {split: self._generate_examples(*read_split(folder, split)) for split in PREFIX}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
        return prepared.examples(images, labels)


def read_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, 28, 28]` and labels uint8 `[N]` of "train" or "test".

    Raises:
      ValueError: a file is truncated or corrupt, or is not Fashion-MNIST's.
    """
    images = read_idx(folder / f"{PREFIX[split]}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{PREFIX[split]}-labels-idx1-ubyte.gz")
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
        raise ValueError(f"{folder} holds no Fashion-MNIST: {split} images {images.shape}, labels {labels.shape}")
    return images, labels


def find_files(source: str | Path | None = None, download_dir: str | Path | None = None) -> Path:
    """The folder with the four idx files: `source`, DIFFJAX_FASHION_MNIST, Debian's, or a download, in this order.

    Raises:
      FileNotFoundError: the folder that was named lacks a file, or no source can be reached.
      ValueError: a downloaded file has a wrong checksum.
    """
    named = source or os.environ.get("DIFFJAX_FASHION_MNIST")
    if named:
        folder = Path(named).expanduser()
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder}, named as Fashion-MNIST's folder, lacks {', '.join(missing)}")
        return folder
    if all((DEBIAN / name).is_file() for name in FILES):
        return DEBIAN
    return download(download_dir or default_data_dir() / "downloads" / FashionMnist.name)


def download(folder: str | Path, url: str = URL, checksums: dict[str, str] = SHA256) -> Path:
    """Fetch those of the files that `folder` lacks; each appears under its name only when its sha256 is right.

    Raises:
      FileNotFoundError: the server cannot be reached.
      ValueError: the server sent something else.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, checksum in checksums.items():
        fetch(f"{url.rstrip('/')}/{name}", folder / name, "sha256", checksum, HELP)
    return folder


def load(data_dir: str | Path | None = None, source: str | Path | None = None) -> ImageData:
    """Fashion-MNIST in memory, 60,000 + 10,000 images; prepared in `data_dir` (`default_data_dir()`) at the first call.

    Raises:
      FileNotFoundError: no source can be reached; the message says what to do.
      ValueError: a source is corrupt.
    """
    return prepared.load("fashion_mnist", CLASS_NAMES, FashionMnist, data_dir, source)

"""CIFAR-10 as a TFDS data set of our own that needs no TensorFlow: 60,000 colour images, 32 x 32, ten classes.

Source: Krizhevsky, Learning multiple layers of features from tiny images (2009). The archive `cifar-10-python.tar.gz`,
or the folder `cifar-10-batches-py` that it unpacks to, is taken from the first of
  1. a set that is already prepared in `data_dir` (see `prepared`);
  2. the archive or folder given as `source`, or named by the environment variable DIFFJAX_CIFAR10;
  3. the upstream server (163 MB, checked by md5).
Preparing takes about 15 seconds, once.

Its six files are pickles of Python 2 and NumPy. They are read by an unpickler that can build bytes, numbers and plain
containers alone: arrays are made here, from their bytes, since NumPy's own way does not check a file, and a damaged one
can crash the interpreter.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from diffjax.data import prepared
from diffjax.data.fetch import fetch
from diffjax.data.image_data import ImageData, default_data_dir

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}
FILES = BATCHES["train"] + BATCHES["test"]
FOLDER = "cifar-10-batches-py"
ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "c58f30108f718f92721af3b95e74349a"
HELP = (
    f"CIFAR-10 cannot be had here. Either name {ARCHIVE}, or the folder {FOLDER} that it unpacks to, in the "
    f"environment variable DIFFJAX_CIFAR10, or connect to the network ({URL})."
)


class Cifar10(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder; `source` is the archive or its folder, found as the module says if it is None.

    `Cifar10(data_dir=d).download_and_prepare()`, then `.as_data_source("train")`.
    """

    name = "diffjax_cifar10"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: str | Path | None = None, file_format: Any = "array_record", **kwargs: Any):
        super().__init__(file_format=file_format, **kwargs)
        self._source = source

    def _info(self) -> tfds.core.DatasetInfo:
        return prepared.info(self, (32, 32, 3), CLASS_NAMES, homepage="https://www.cs.toronto.edu/~kriz/cifar.html")

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        path = find(self._source, Path(dl_manager.download_dir) / self.name)
        prepared.announce("Preparing CIFAR-10, about 15 seconds,", path)
        files = read_files(path)
        return {split: self._generate_examples(*read_split(files, split, path)) for split in BATCHES}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
        return prepared.examples(images, labels)


def load(data_dir: str | Path | None = None, source: str | Path | None = None) -> ImageData:
    """CIFAR-10 in memory, 50,000 + 10,000 images; prepared in `data_dir` (`default_data_dir()`) at the first call.

    Raises:
      FileNotFoundError: no source can be reached; the message says what to do.
      ValueError: a source is corrupt, or is not CIFAR-10's.
    """
    return prepared.load("cifar10", CLASS_NAMES, Cifar10, data_dir, source)


def find(
    source: str | Path | None = None, download_dir: str | Path | None = None, url: str = URL, md5: str = MD5
) -> Path:
    """The archive or its folder: `source`, DIFFJAX_CIFAR10, or a download, in this order.

    Raises:
      FileNotFoundError: there is nothing at the path that was named, or the server cannot be reached.
      ValueError: the server sent something else.
    """
    named = source or os.environ.get("DIFFJAX_CIFAR10")
    if not named:
        folder = Path(download_dir or default_data_dir() / "downloads" / Cifar10.name)
        return fetch(url, folder / ARCHIVE, "md5", md5, HELP)
    path = Path(named).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}, named as CIFAR-10's archive or folder. {HELP}")
    return path


def read_files(path: Path) -> dict[str, bytes]:
    """The six files of the archive or folder, by name.

    Raises:
      FileNotFoundError: the folder lacks a file.
      ValueError: the archive is truncated or corrupt, or is not CIFAR-10's.
    """
    if path.is_dir():
        missing = [name for name in FILES if not (path / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{path}, named as CIFAR-10's folder, lacks {', '.join(missing)}")
        return {name: (path / name).read_bytes() for name in FILES}
    try:
        unzipped = gzip.decompress(path.read_bytes())  # to the end, where the checksum stands; tarfile stops before
        with tarfile.open(fileobj=io.BytesIO(unzipped), mode="r:") as tar:
            opened: list[Any] = [tar.extractfile(f"{FOLDER}/{name}") for name in FILES]
            return {name: file.read() for name, file in zip(FILES, opened, strict=True)}
    except (gzip.BadGzipFile, EOFError, zlib.error, tarfile.TarError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is truncated or corrupt, or is not {ARCHIVE} ({error}); fetch it again") from error


def read_split(files: dict[str, bytes], split: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, 32, 32, 3]` and labels `[N]` of "train" or "test"; `path` is for messages."""
    batches = [read_batch(files[name], f"{path}: {name}") for name in BATCHES[split]]
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def read_batch(raw: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, 32, 32, 3]` and labels `[N]` of one file; `where` is for messages.

    Raises:
      ValueError: the file is truncated or corrupt, or is not CIFAR-10's.
    """
    try:
        batch = Batch(io.BytesIO(raw), encoding="bytes").load()
        images, labels = batch[b"data"].array, np.array(batch[b"labels"])
    except Exception as error:  # bytes that are no pickle can end in any error
        raise ValueError(f"{where} is truncated or corrupt, or is not CIFAR-10's ({error})") from error
    rows, integers = (*labels.shape, 3072), np.issubdtype(labels.dtype, np.integer)
    if images.shape != rows or not integers or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"{where} holds no CIFAR-10: data {images.shape}, labels {labels.dtype} {labels.shape}")
    return images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels  # a row is red, green, blue, each row by row


class DType:
    """Stands in for `numpy.dtype`: keeps the code."""

    def __init__(self, code: Any, *flags: Any):
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields say nothing about uint8."""


class Uint8:
    """Stands in for `numpy.ndarray`: makes a uint8 array of its shape and bytes."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_major, data = state
        if dtype.code not in ("u1", b"u1") or column_major:
            raise pickle.UnpicklingError(f"an array of {dtype.code!r}, and not of uint8 row by row")
        self.array = np.frombuffer(data, np.uint8).reshape(shape)


class Batch(pickle.Unpickler):
    """An unpickler for the names that a uint8 array is stored with, and for no others."""

    NAMES = {  # noqa: RUF012
        ("numpy", "dtype"): DType,
        ("numpy", "ndarray"): Uint8,
        ("numpy.core.multiarray", "_reconstruct"): Uint8,
        ("numpy._core.multiarray", "_reconstruct"): Uint8,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.NAMES:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in CIFAR-10")
        return self.NAMES[module, name]

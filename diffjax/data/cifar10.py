"""CIFAR-10 from its own archive: 60,000 colour images, 32 x 32, ten classes (Krizhevsky 2009).

The archive holds pickles, which are read with nothing but arrays, bytes, strings and containers allowed. It is taken
from the path in the environment variable DIFFJAX_CIFAR10 (`cifar-10-python.tar.gz`, or the folder `cifar-10-batches-py`
that it unpacks to), or downloaded once (163 MB, checked by md5) into the data directory.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import pickle
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.data.image_data import ImageData, default_data_dir
from diffjax.weights import replacing

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
ARCHIVE = "cifar-10-python.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "c58f30108f718f92721af3b95e74349a"
HELP = (
    f"CIFAR-10 cannot be had here. Either name {ARCHIVE}, or the folder that it unpacks to, in the environment "
    f"variable DIFFJAX_CIFAR10, or connect to the network ({URL})."
)
ALLOWED = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")} | {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class Arrays(pickle.Unpickler):
    """An unpickler that can build arrays and plain containers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in CIFAR-10")
        return super().find_class(module, name)


def load(data_dir: str | Path | None = None) -> ImageData:
    """CIFAR-10 in memory, 50,000 + 10,000 images.

    Raises:
      FileNotFoundError: no source can be reached; the message says what to do.
      ValueError: the source is corrupt, or is not CIFAR-10's.
    """
    path = find(Path(data_dir or default_data_dir()))
    arrays = {}
    for split, names in BATCHES.items():
        parts = [read_batch(raw, f"{path}: {name}") for name, raw in read_files(path, names).items()]
        arrays[f"{split}_images"] = np.concatenate([images for images, _ in parts])
        arrays[f"{split}_labels"] = np.concatenate([labels for _, labels in parts])
    return ImageData(name="cifar10", class_names=CLASS_NAMES, **arrays)


def find(data_dir: Path, url: str = URL, md5: str = MD5) -> Path:
    """The archive or folder: the one named in DIFFJAX_CIFAR10, one in `data_dir`, or a download into it."""
    named = os.environ.get("DIFFJAX_CIFAR10")
    path = Path(named).expanduser() if named else data_dir / ARCHIVE
    if path.exists():
        return path
    if named:
        raise FileNotFoundError(f"there is nothing at {path}, named in DIFFJAX_CIFAR10. {HELP}")
    try:
        with urllib.request.urlopen(url, timeout=20) as response:
            data = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise FileNotFoundError(f"{HELP} (The download failed: {error}.)") from error
    if (found := hashlib.md5(data).hexdigest()) != md5:
        raise ValueError(f"{url} has the md5 {found}, not {md5}: this is not CIFAR-10's archive")
    with replacing(path) as part:
        part.write_bytes(data)
    return path


def read_files(path: Path, names: list[str]) -> dict[str, bytes]:
    """The named files of the archive or folder, as bytes."""
    try:
        if path.is_dir():
            return {name: (path / name).read_bytes() for name in names}
        with tarfile.open(path) as tar:
            extract: Any = tar.extractfile
            return {name: extract(f"cifar-10-batches-py/{name}").read() for name in names}
    except (OSError, KeyError, EOFError, tarfile.TarError) as error:
        raise ValueError(f"{path} is truncated or is not CIFAR-10's ({error}): fetch it again") from error


def read_batch(raw: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 32, 32, 3] and labels int32 [N] of one file; `where` is for messages."""
    try:
        batch = Arrays(io.BytesIO(raw), encoding="bytes").load()
        images, labels = batch[b"data"], np.array(batch[b"labels"], np.int32)
        return images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where} is truncated or is not CIFAR-10's ({error})") from error

"""PyTorch's `torch.save` of a state dict, read without PyTorch and without running anything from the file.

A pickle describes each tensor as a view (offset, shape, strides) of a storage, a run of numbers that lies elsewhere.
There are two containers. Since PyTorch 1.6 a zip archive holds `*/data.pkl` and one file `*/data/KEY` for each storage;
before, one file held five pickles (a magic number, the protocol, a description of the machine, the state dict and the
list of keys) and then, for each key, the count of numbers as an int64 and the numbers.

A pickle is a program that may call anything. Here it may name ordered dicts, tensors and storages only, all of which
are replaced by what stands below, and every view is held against the length of its storage. Source: PyTorch,
torch/serialization.py and torch/_utils.py.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffjax.files import read

MAGIC = 0x1950A86A20F9469CFC6C
DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class Storage(NamedTuple):
    """A run of `count` numbers under the name `key`."""

    key: str
    dtype: np.dtype
    count: int


class View(NamedTuple):
    """A tensor: element (i, j, ...) is number offset + i strides[0] + j strides[1] + ... of the storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def load_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a flat state dict, by name, each with the dtype it was stored in.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is truncated, no state dict, or its pickle names anything but tensors.
    """
    data = read(path)
    try:
        views, storages = (_from_zip if data[:4] == b"PK\x03\x04" else _from_stream)(data)
        return {str(name): _tensor(name, view, storages) for name, view in dict(views).items()}
    except Exception as error:  # a damaged pickle can raise almost anything
        raise ValueError(f"{path} is truncated or no state dict of PyTorch ({error!r})") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor"): View,
            ("torch._utils", "_rebuild_tensor_v2"): _view,
            ("torch._utils", "_rebuild_parameter"): _data,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} has no place in a state dict")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, count, *views = pid
        if kind != "storage" or any(view is not None for view in views):
            raise pickle.UnpicklingError(f"{pid} is no storage of its own")
        return self.storages.setdefault(key, Storage(key, dtype, count))


def _view(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> View:
    return View(storage, offset, shape, strides)


def _data(view: View, *_: Any) -> View:
    return view


def _from_zip(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("data.pkl"))
        root = pickled.removesuffix("data.pkl")
        unpickler = _Unpickler(io.BytesIO(archive.read(pickled)))
        views = unpickler.load()
        raw = {key: archive.read(f"{root}data/{key}") for key in unpickler.storages}
    return views, {key: np.frombuffer(raw[key], s.dtype, s.count) for key, s in unpickler.storages.items()}


def _from_stream(data: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    file = io.BytesIO(data)
    if _Unpickler(file).load() != MAGIC:
        raise pickle.UnpicklingError("the magic number is missing")
    for _ in range(2):  # the protocol and the machine
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    views, keys = unpickler.load(), _Unpickler(file).load()
    storages = {}
    for key in keys:
        storage = unpickler.storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise ValueError(f"storage {key} holds {count} numbers, not {storage.count}")
        storages[key] = np.frombuffer(file.read(count * storage.dtype.itemsize), storage.dtype, count)
    return views, storages


def _tensor(name: str, view: Any, storages: dict[str, np.ndarray]) -> np.ndarray:
    if not isinstance(view, View):
        raise TypeError(f"{name!r} is no tensor but {type(view).__name__}")
    numbers = storages[view.storage.key]
    first, shape, strides = view.offset, view.shape, view.strides
    last = first + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if 0 in shape:
        return np.empty(shape, numbers.dtype)
    if min(first, 0, *shape, *strides) < 0 or last >= len(numbers):
        raise ValueError(f"{name!r} reaches beyond its storage")
    steps = [s * numbers.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(numbers[first:], shape, steps).copy()

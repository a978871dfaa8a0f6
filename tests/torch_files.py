"""Writes what `torch.save` writes, without PyTorch: its names are lent to stand-ins while a pickle is made."""

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from unittest import mock

import numpy as np

KINDS = {
    "<f4": "FloatStorage",
    "<f8": "DoubleStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "|u1": "ByteStorage",
}


def lend(module, name):
    return type(name, (), {"__module__": module}) if name.endswith("Storage") else _function(module, name)


def _function(module, name):
    def function(*_):
        raise AssertionError("only its name is used")

    function.__module__, function.__qualname__, function.__name__ = module, name, name
    return function


class Tensor:
    """A view of `storages[key]`."""

    def __init__(self, key, offset, shape, strides, parameter=False):
        self.key, self.how, self.parameter = key, (offset, shape, strides), parameter


def whole(arrays):
    """(tensors, storages) in which every array has a storage of its own."""
    storages = {str(i): np.ascontiguousarray(x).reshape(-1) for i, x in enumerate(arrays.values())}
    tensors = OrderedDict()
    for i, (name, x) in enumerate(arrays.items()):
        tensors[name] = Tensor(str(i), 0, x.shape, tuple(s // x.itemsize for s in np.zeros(x.shape, x.dtype).strides))
    return tensors, storages


def dumps(obj, storages, metadata=(None,)):
    """The pickle of a state dict that holds `Tensor`s."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(torch, kind, lend("torch", kind))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        setattr(utils, name, lend("torch._utils", name))

    class Key(str):
        """A storage, pickled by its key."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, Key):
                kind = getattr(torch, KINDS[storages[obj].dtype.str])
                return ("storage", kind, str(obj), "cpu", len(storages[obj]), *metadata)
            return None

        def reducer_override(self, obj):
            if not isinstance(obj, Tensor):
                return NotImplemented
            if obj.parameter:
                plain = Tensor(obj.key, *obj.how)
                return utils._rebuild_parameter, (plain, True, OrderedDict())
            return utils._rebuild_tensor_v2, (Key(obj.key), *obj.how, False, OrderedDict())

    file = io.BytesIO()
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        Pickler(file, protocol=2).dump(obj)
    return file.getvalue()


def save_zip(path, tensors, storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", dumps(tensors, storages, metadata=()))
        archive.writestr("model/version", "3\n")
        for key, x in storages.items():
            archive.writestr(f"model/data/{key}", x.tobytes())


def save_stream(path, tensors, storages):
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    parts = [pickle.dumps(value, protocol=2) for value in head]
    parts += [dumps(tensors, storages), pickle.dumps(list(storages), protocol=2)]
    parts += [struct.pack("<q", len(x)) + x.tobytes() for x in storages.values()]
    path.write_bytes(b"".join(parts))

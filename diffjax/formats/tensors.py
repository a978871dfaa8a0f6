"""Flat safetensors files of any names, as other programs write them: read without copying, written as they were.

`formats.safetensors` keeps nested parameters under checksums; this is for files from elsewhere, of many gigabytes: an
array is a view of the mapped file until something is done with it, and keeps its type, bfloat16 too.
Source: huggingface/safetensors, README (8 bytes: length of the header; a JSON header; the arrays).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffjax.files import replacing
from diffjax.formats.safetensors import in_place

TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": bool,
}  # fmt: skip
NAMES = {np.dtype(value): name for name, value in TYPES.items()}
PICKLES = (".ckpt", ".bin", ".pt", ".pth")


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name: read-only views of the file, each in its stored type.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is a pickle, truncated, no safetensors file, or holds a type that NumPy cannot have.
    """
    path = Path(path)
    refuse_pickle(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    header, start = _header(path)
    end = path.stat().st_size
    data = np.asarray(np.memmap(path, np.uint8, "r"))
    arrays, stop = {}, start
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        array, last = _array(path, data[start:], name, entry)
        arrays[name], stop = array, max(stop, start + last)
    if stop != end:
        raise ValueError(f"{path} is damaged: its arrays end at byte {stop}, the file at {end}")
    return arrays


def read_tensors_metadata(path: str | Path) -> dict[str, str]:
    """The strings stored beside the arrays; raises as `read_tensors`."""
    refuse_pickle(Path(path))
    return dict(_header(Path(path))[0].get("__metadata__") or {})


def write_tensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a flat dict of arrays, in the order of their names, one after the other.

    Raises:
      TypeError: an array has a type that the format does not have.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    arrays, start = dict(sorted(arrays.items(), key=lambda e: (-np.dtype(e[1].dtype).itemsize, e[0]))), 0
    for name, x in arrays.items():
        kind = NAMES.get(np.dtype(x.dtype).newbyteorder("="))
        if kind is None:
            raise TypeError(f"{name!r} holds {x.dtype}, which a safetensors file cannot: it takes {', '.join(TYPES)}")
        stop = start + x.size * x.dtype.itemsize
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at a multiple of 8
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for x in arrays.values():
            file.write(np.ascontiguousarray(x).astype(np.dtype(x.dtype).newbyteorder("<"), copy=False).tobytes())


def refuse_pickle(path: Path) -> None:
    """Raise a ValueError for the name of a file that would run code when it is read."""
    if path.suffix in PICKLES:
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is read: take the .safetensors file of the same "
            "model, or convert it where you trust it, by torch.load(path, weights_only=True) and "
            "safetensors.torch.save_file"
        )


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header and where the arrays begin."""
    with path.open("rb") as file:
        size, total = int.from_bytes(file.read(8), "little"), path.stat().st_size
        if not 2 <= size <= total - 8:
            raise ValueError(
                f"{path} is truncated or no safetensors file: a header of {size} bytes, {total} in all{in_place(path)}"
            )
        text = file.read(size)
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise TypeError("no dict")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged or no safetensors file: its header is no JSON ({error}){in_place(path)}"
        ) from error
    return header, 8 + size


def _array(path: Path, data: np.ndarray, name: str, entry: Any) -> tuple[np.ndarray, int]:
    """The array of an entry of the header, and where it ends."""
    try:
        kind, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        count = math.prod(shape)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its entry {name!r} is {entry!r}") from error
    if kind not in TYPES:
        raise ValueError(f"{path}: {name!r} is stored as {kind}, which is not read here; known are {', '.join(TYPES)}")
    dtype = np.dtype(TYPES[kind]).newbyteorder("<")
    if not 0 <= start <= stop or stop - start != count * dtype.itemsize:
        raise ValueError(f"{path} is damaged: {name!r} {kind}{list(shape)} has the bytes {start} to {stop}")
    if stop > len(data):
        raise ValueError(f"{path} is truncated: {name!r} ends at byte {stop} of {len(data)}")
    return data[start:stop].view(dtype).reshape(shape), stop

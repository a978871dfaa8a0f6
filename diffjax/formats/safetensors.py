"""Parameters as safetensors files: any nested dict of arrays, its keys joined by "/", and strings as metadata.

The format holds names, shapes, dtypes and raw bytes, and nothing that can run. Storing float16 halves the file and
keeps 11 significant bits, enough for a network that is only evaluated; a run that goes on is kept by
`train.checkpoint`.
Source: huggingface/safetensors, README.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from diffjax.files import replacing
from diffjax.parameters import compare, flatten, unflatten
from diffjax.typing import PyTree

CHECKSUM = "crc32"  # the name of the arrays' checksum in the metadata
OF_METADATA = "metadata_crc32"  # and of the other metadata's


def save_params(path: str | Path, params: PyTree, metadata: Mapping[str, str] | None = None, dtype: Any = None) -> None:
    """Write `params`, a nested dict of arrays, and `metadata`, a dict of strings.

    Args:
      path: of the file; folders are made, and an old file is replaced whole or not at all.
      params: the arrays.
      metadata: what `read_metadata` returns.
      dtype: floating arrays are stored as this type ("float16" halves the file); by default each as it is.

    Raises:
      TypeError: `params` is no nested dict of arrays of real numbers, `metadata` no dict of strings, or `dtype` is not
        floating.
      ValueError: a key is empty or holds a "/", a dict is empty, or a finite number is too large for `dtype`.
    """
    metadata = dict(metadata or {})
    if not all(isinstance(x, str) for pair in metadata.items() for x in pair):
        raise TypeError(f"metadata must be a dict of strings, got {metadata!r}; write other values as JSON")
    if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be a floating type, such as 'float16', got {dtype!r}")
    arrays = {name: _stored(name, value, dtype) for name, value in flatten(params).items()}
    sums = {CHECKSUM: _checksum(arrays), OF_METADATA: _metadata_checksum(metadata)}
    with replacing(path) as part:
        part.write_bytes(_ordered(save(arrays, metadata=metadata | sums)))


def _ordered(file: bytes) -> bytes:
    """The file with its metadata in the order of their names; safetensors writes them in a random one."""
    end = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # arrays begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + file[end:]


def _stored(name: str, value: Any, dtype: Any) -> np.ndarray:
    """`value` as an array that the format can hold, floating ones as `dtype`."""
    if isinstance(value, Tracer) or jnp.issubdtype(getattr(value, "dtype", np.float32), jax.dtypes.prng_key):
        raise TypeError(f"{name!r} is no array of numbers but {value}")
    array = np.asarray(value)
    real = jnp.issubdtype(array.dtype, jnp.floating)
    if not (real or jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool) or array.dtype.itemsize > 8:
        what = type(value).__name__ if array.dtype == object else array.dtype
        raise TypeError(f"{name!r} is no array of real numbers but {what}")
    array = array.astype(array.dtype.newbyteorder("="))
    if real and np.dtype(array.dtype if dtype is None else dtype).itemsize < 2:
        raise TypeError(f"{name!r} would be stored as {dtype or array.dtype}, which no reader here takes: use float16")
    if real and dtype is not None:
        with np.errstate(over="ignore"):
            cast = array.astype(dtype)
        if (np.isfinite(array) & ~np.isfinite(cast)).any():
            raise ValueError(f"{name!r} holds numbers too large for {np.dtype(dtype)}; store it with dtype=None")
        array = cast
    return np.ascontiguousarray(array).reshape(array.shape)


def load_params(path: str | Path, like: PyTree | None = None, dtype: Any = None) -> PyTree:
    """Read a nested dict of NumPy arrays.

    Args:
      path: of the file.
      like: arrays, or the shapes that `jax.eval_shape` gives: names and shapes must be those.
      dtype: floating arrays become of this type; "stored" leaves them as they are in the file. By default they take
        the types of `like`; without it what is stored in half precision becomes float32, the rest stays as it is.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is truncated, damaged or no safetensors file, or differs from `like` (the first difference is
        named).
    """
    try:
        flat = load_file(_file(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}){in_place(path)}") from error
    except AttributeError as error:  # of NumPy, which safetensors asks for the type
        raise ValueError(f"{path} holds a type that NumPy does not have ({error})") from error
    kept = _metadata(path).get(CHECKSUM)
    if kept is not None and kept != _checksum(flat):
        raise ValueError(f"{path} is damaged: its arrays are not those that were written (their checksum differs)")
    wanted = {} if like is None else flatten(like)
    if wanted:
        compare(path, flat, wanted)
    return unflatten({name: _loaded(path, name, x, wanted.get(name), dtype) for name, x in sorted(flat.items())})


def _loaded(path: str | Path, name: str, x: np.ndarray, like: Any, dtype: Any) -> np.ndarray:
    real = jnp.issubdtype(x.dtype, jnp.floating)
    wanted = None if like is None else np.dtype(like.dtype)
    if wanted is not None and real != jnp.issubdtype(wanted, jnp.floating):
        raise ValueError(f"{path}: {name!r} holds {x.dtype}, but the network needs {wanted}")
    if not real or (isinstance(dtype, str) and dtype == "stored"):
        return x
    if dtype is None:
        dtype = wanted if wanted is not None else (np.float32 if x.dtype.itemsize < 4 else x.dtype)
    return x.astype(dtype)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The strings stored beside the arrays; {} if there are none. The arrays are not read.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is truncated, no safetensors file, or its metadata was changed since it was written.
    """
    metadata = _metadata(path)
    kept = metadata.pop(OF_METADATA, None)
    metadata.pop(CHECKSUM, None)
    if kept is not None and kept != _metadata_checksum(metadata):
        raise ValueError(f"{path} is damaged: its metadata is not that which was written (its checksum differs)")
    return metadata


def _metadata(path: str | Path) -> dict[str, str]:
    try:
        with safe_open(_file(path), "numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error}){in_place(path)}") from error


def in_place(path: str | Path) -> str:
    """What a file is in place of safetensors, from its first bytes: a sentence to add to an error, or nothing."""
    with Path(_file(path)).open("rb") as file:
        first = file.read(100)
    if first.startswith(b"version https://git-lfs"):
        return ". It is a pointer of Git LFS: `git lfs pull` in its folder fetches the file itself"
    if first.startswith((b"PK", b"\x80")):
        return ". It is a pickle under another name, which can run any code when it is read: take another file"
    if re.match(rb'\s*{\s*"format": "diffjax"', first):
        return ". It is the card of a model: the model is the .safetensors file beside it"
    if first.lstrip().startswith((b"<", b"{")):
        return (
            ". It is a page or a message of the server, and not the file: fetch it again, logged in where that is asked"
        )
    return ""


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """CRC-32 of all arrays in the order of their names, as eight hexadecimal digits."""
    total = 0
    for name, array in sorted(arrays.items()):
        total = zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(name.encode(), total))
    return f"{total:08x}"


def _metadata_checksum(metadata: Mapping[str, str]) -> str:
    return f"{zlib.crc32(json.dumps(metadata, sort_keys=True).encode()):08x}"


def _file(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    return Path(path)

"""Parameters as safetensors files: any nested dict of arrays, its keys joined by "/".

The format holds names, shapes, dtypes and raw bytes, and nothing that can run. Storing float16 halves the file and
keeps 11 significant bits, enough for weights that are only evaluated; a run that goes on is kept by `train.checkpoint`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from diffjax.typing import PyTree


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there replaces `path` at the end, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def flatten(params: PyTree, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": x}} -> {"a/b": x}.

    Raises:
      TypeError: `params` is not a nested dict with string keys.
      ValueError: a key is empty or holds a "/", so that the name could not be split again; or a dict is empty.
    """
    if not isinstance(params, Mapping):
        raise TypeError(f"expected a nested dict of arrays, got {type(params).__name__}")
    flat = {}
    for key, value in params.items():
        if not isinstance(key, str):
            raise TypeError(f"expected string keys, got {key!r} below {prefix or 'the root'!r}")
        if not key or "/" in key:
            raise ValueError(f"a key may neither be empty nor hold a '/': {prefix + key!r}")
        flat |= flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {prefix + key: value}
    if not flat:
        raise ValueError(f"nothing to store: the dict {prefix.rstrip('/') or 'given'!r} is empty")
    return flat


def unflatten(flat: Mapping[str, Any]) -> PyTree:
    """{"a/b": x} -> {"a": {"b": x}}."""
    params: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        node = params
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return params


def save_params(
    path: str | Path, params: PyTree, dtype: Any = np.float16, metadata: Mapping[str, str] | None = None
) -> None:
    """Write `params`, a nested dict of arrays; floating arrays are stored as `dtype` (None: each as it is).

    Raises:
      TypeError, ValueError: `params` is no nested dict of arrays; or a finite number is too large for `dtype`.
    """
    arrays = {}
    for name, value in flatten(params).items():
        array = np.asarray(value)
        if array.dtype == object:
            raise TypeError(f"{name!r} is no array but {type(value).__name__}")
        if dtype is not None and jnp.issubdtype(array.dtype, jnp.floating):
            with np.errstate(over="ignore"):
                cast = array.astype(dtype)
            if (np.isfinite(array) & ~np.isfinite(cast)).any():
                raise ValueError(f"{name!r} holds numbers too large for {np.dtype(dtype)}; store it with dtype=None")
            array = cast
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)
    with replacing(path) as part:
        part.write_bytes(save(arrays, metadata=dict(metadata or {})))


def load_params(path: str | Path, like: PyTree | None = None, dtype: Any = np.float32) -> PyTree:
    """Read a nested dict of NumPy arrays; floating arrays are converted to `dtype` (None: each as stored).

    With `like` (arrays, or the shapes that `jax.eval_shape` gives) names and shapes are compared first.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is truncated or no safetensors file, or differs from `like` (the first difference is named).
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        flat = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or no safetensors file ({error})") from error
    if like is not None:
        compare(path, flat, flatten(like))
    if dtype is not None:
        flat = {name: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x for name, x in flat.items()}
    return unflatten(flat)


def graft(params: PyTree, teacher: PyTree) -> PyTree:
    """`params` with every weight that the teacher has taken from it: a student that begins as its teacher.

    Only the matrices "target" and "guidance", by which a student is told more (see `nn.embed`), may be its alone; they
    stay. The arrays are copies in the student's types.

    Raises:
      ValueError: the networks differ in another weight, or in its shape (the first one is named).
    """
    flat, taken = flatten(params), flatten(teacher)
    alone = {name for name in flat if "/target/" in name or "/guidance/" in name}
    compare("the teacher", taken, {name: x for name, x in flat.items() if name in taken or name not in alone})
    return unflatten(
        {name: jnp.array(taken.get(name, x), jax.dtypes.canonicalize_dtype(x.dtype)) for name, x in flat.items()}
    )


def compare(path: str | Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first entry, in order of names, that differs in name or shape."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise ValueError(f"{path} lacks {name!r}, of shape {tuple(expected[name].shape)}")
        if name not in expected:
            raise ValueError(f"{path} holds {name!r}, of shape {found[name].shape}, which the network does not have")
        if found[name].shape != tuple(expected[name].shape):
            shapes = f"{found[name].shape}, but the network needs {tuple(expected[name].shape)}"
            raise ValueError(f"{path}: {name!r} has the shape {shapes}")

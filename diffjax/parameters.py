"""Parameters as nested dicts of arrays: their names, joined by "/", comparison, and one network's from another's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.typing import PyTree


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
    """{"a/b": x} -> {"a": {"b": x}}.

    Raises:
      ValueError: a name is the beginning of another, as "a" is of "a/b".
    """
    params: dict[str, Any] = {}
    for name, value in flat.items():
        *path, last = name.split("/")
        node = params
        for key in path:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise ValueError(f"{name!r} lies below {key!r}, which is an array itself")
        if last in node:
            raise ValueError(f"{name!r} is an array, and other arrays lie below it")
        node[last] = value
    return params


def compare(path: str | Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise a ValueError that names the first entry, in order of names, that differs in name or shape."""
    for name in sorted(found.keys() | expected.keys()):
        if name not in found:
            raise ValueError(f"{path} lacks {name!r}, of shape {tuple(expected[name].shape)}")
        if name not in expected:
            raise ValueError(f"{path} holds {name!r}, of shape {found[name].shape}, which the network does not have")
        if found[name].shape != np.shape(expected[name]):
            shapes = f"{found[name].shape}, but the network needs {tuple(expected[name].shape)}"
            raise ValueError(f"{path}: {name!r} has the shape {shapes}")


def takes_scale(params: PyTree) -> bool:
    """Whether these are the parameters of a student of guidance: it has the matrix "guidance" (see `nn.embed`)."""
    paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(params))
    return any("/guidance/" in jax.tree_util.keystr(path, simple=True, separator="/") for path in paths)


def widen(params: PyTree, kept: PyTree) -> tuple[PyTree, dict[str, list[str]]]:
    """`params` with the arrays of a kept network that fit, and what became of each: a model with further inputs.

    An array of the same name and shape is taken. Of a kernel with more inputs (its last axis but one) the first ones
    are taken, and the further ones are zero: a convolution that gets more channels joined to its input begins as the
    same function. All others stay.

    Returns:
      The parameters, and the names of those that were "taken", "widened" and left as they are, "new".

    Raises:
      ValueError: nothing fits.
    """
    own, other = flatten(params), flatten(kept)
    flat, done = {}, {"taken": [], "widened": [], "new": []}
    for name, x in own.items():
        found = other.get(name)
        dtype, shape = jax.dtypes.canonicalize_dtype(x.dtype), np.shape(x)
        if found is not None and np.shape(found) == shape:
            flat[name], how = jnp.array(found, dtype), "taken"
        elif found is not None and _narrower(np.shape(found), shape):
            more = [(0, shape[-2] - np.shape(found)[-2] if axis == len(shape) - 2 else 0) for axis in range(len(shape))]
            flat[name], how = jnp.pad(jnp.array(found, dtype), more), "widened"
        else:
            flat[name], how = x, "new"
        done[how].append(name)
    if not done["taken"] and not done["widened"]:
        raise ValueError(f"the kept network has no array that fits, but {sorted(other)[:3]}, ...")
    return unflatten(flat), done


def _narrower(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether a kernel has fewer inputs than another, and is the same otherwise."""
    alike = len(shape) == len(other) > 1 and (*shape[:-2], shape[-1]) == (*other[:-2], other[-1])
    return alike and shape[-2] < other[-2]


def graft(params: PyTree, teacher: PyTree) -> PyTree:
    """`params` with every array that the teacher has taken from it: a student that begins as its teacher.

    Only the matrices "end" and "guidance", the student's further inputs (see `nn.embed`), may be missing in the
    teacher; they stay. The arrays are copies in the student's types.

    Raises:
      ValueError: the networks differ in another weight, or in its shape (the first one is named).
    """
    flat, taken = flatten(params), flatten(teacher)
    alone = {name for name in flat if "/end/" in name or "/guidance/" in name}
    compare("the teacher", taken, {name: x for name, x in flat.items() if name in taken or name not in alone})
    return unflatten(
        {name: jnp.array(taken.get(name, x), jax.dtypes.canonicalize_dtype(x.dtype)) for name, x in flat.items()}
    )

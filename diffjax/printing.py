"""How objects are printed: in a line, with parameters as their number and arrays as their type and shape.

>>> print(dj.load("fashion-vp").denoise)
NetworkDenoiser(to_x0=_x0_of_v, sde=VP(beta_min=0.1, ...), network=UNet(...).apply({721,028 numbers}), ...)
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def short(value: Any) -> str:
    """`value` in a few words, for messages and for `print`."""
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _array(value)
    if isinstance(value, Mapping) and any(isinstance(v, Mapping) for v in value.values()):  # parameters
        return f"{{{sum(np.size(leaf) for leaf in jax.tree.leaves(value)):,} numbers}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {short(v)}' for k, v in value.items())}}}"
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        names = getattr(value, "_fields")  # noqa: B009
        return f"{type(value).__name__}({', '.join(f'{n}={short(v)}' for n, v in zip(names, value, strict=True))})"
    if isinstance(value, tuple):
        return f"({', '.join(map(short, value))}{',' * (len(value) == 1)})"
    if isinstance(value, functools.partial):
        inner = [*map(short, value.args), *(f"{k}={short(v)}" for k, v in value.keywords.items())]
        return short(value.func) + (f"({', '.join(inner)})" if inner else "")
    if inspect.ismethod(value):
        return f"{short(value.__self__)}.{value.__name__}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "apply"):  # a Flax module
        return _module(value)
    return getattr(value, "__name__", None) or repr(value)


def fields(self: Any) -> str:
    """The `repr` of a dataclass: its name and fields."""
    inner = (f"{f.name}={short(getattr(self, f.name))}" for f in dataclasses.fields(self))
    return f"{type(self).__name__}({', '.join(inner)})"


def _array(value: Any) -> str:
    if np.ndim(value) or isinstance(value, Tracer) or not jnp.issubdtype(value.dtype, np.number):
        return f"{value.dtype}{list(value.shape)}"
    return repr(value.item()) if value.dtype.itemsize > 4 or jnp.issubdtype(value.dtype, np.integer) else f"{value:.7g}"


def _module(net: Any) -> str:
    """A Flax module with the fields that are not its defaults."""
    own = [f for f in dataclasses.fields(net) if f.name not in ("parent", "name")]
    set_ = [f"{f.name}={short(x)}" for f in own if (x := getattr(net, f.name)) is not f.default]
    return f"{type(net).__name__}({', '.join(set_)})"

"""Checks of arguments, with messages that say what to do; each passes what JAX is tracing, so that sweeps still work.

A check looks at values only where they are known: when an object is made, or when a public function is called. Tracers,
shapes (`jax.ShapeDtypeStruct`) and the placeholder objects that JAX puts into pytrees have no value, and pass.
"""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from diffjax.printing import short


def known(value: Any) -> bool:
    """Whether `value` is a number or an array (or a list of them) whose entries can be looked at now."""
    if isinstance(value, list | tuple):
        return all(map(known, value))
    return isinstance(value, numbers.Number | np.ndarray) or (
        isinstance(value, jax.Array) and not isinstance(value, Tracer)
    )


def check_number(
    name: str, value: Any, low: float = -np.inf, high: float = np.inf, *, above: bool = False, why: str = ""
) -> None:
    """Raise unless `value`, a number or an array of numbers, lies in [low, high], or with `above` in (low, high].

    Raises:
      TypeError: it is a string, a class, None: no number at all.
      ValueError: it is NaN, infinite, or lies outside; `why` is appended to the message.
    """
    if isinstance(value, str | bytes | type | dict) or value is None:
        raise TypeError(f"{name} must be a number, got {value!r}{_because(why)}")
    if not known(value):
        return
    array = np.asarray(value)
    if not (np.issubdtype(array.dtype, np.number) or jnp.issubdtype(array.dtype, jnp.floating)):
        raise TypeError(f"{name} must be a number, got {value!r}{_because(why)}")
    array = array.astype(np.float64)
    inside = np.isfinite(array) & (array <= high) & ((array > low) if above else (array >= low))
    if not inside.all():
        bounds = f" in {'(' if above else '['}{low:g}, {high:g}]" if low > -np.inf or high < np.inf else ""
        raise ValueError(f"{name} must be a finite number{bounds}, got {_shown(value)}{_because(why)}")


def check_interval(T: Any, t_min: Any, T_max: float = np.inf, *, why: str = "") -> None:
    """Raise unless 0 <= t_min < T <= T_max, the times of an SDE; `why` is appended to a message about T.

    Raises:
      TypeError: one of them is no number.
      ValueError: they lie elsewhere.
    """
    check_number("T", T, 0, T_max, above=True, why=why)
    check_number("t_min", t_min, 0)
    if known(T) and known(t_min) and not np.all(np.asarray(t_min) < np.asarray(T)):
        raise ValueError(f"t_min, where sampling stops, must be less than T = {T}, got {t_min}")


def check_count(name: str, value: Any, low: int = 1, high: int | None = None, *, why: str = "") -> None:
    """Raise unless `value` is an integer (a Python or NumPy one, no bool) from `low` to `high`.

    Raises:
      TypeError: it is no integer.
      ValueError: it lies outside.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}{_because(why)}")
    if int(value) < low or (high is not None and int(value) > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be {bounds}, got {value}{_because(why)}")


def check_schedule(name: str, value: Any, low: float = -np.inf, high: float = np.inf, *, why: str = "") -> None:
    """As `check_number`, for what may also be a function of time, such as a guidance scale; a function passes."""
    if not callable(value) or isinstance(value, type):
        check_number(name, value, low, high, why=why)


def check_ordered(low: Any, high: Any, what: str, names: tuple[str, str] = ("low", "high")) -> None:
    """Raise a ValueError unless low <= high, numbers or arrays of numbers; infinite ends pass, NaN does not."""
    for name, value in zip(names, (low, high), strict=True):
        if isinstance(value, str | bytes | type | dict) or value is None:
            raise TypeError(f"{what}: {name} must be a number, got {value!r}")
    if known(low) and known(high) and not np.all(np.asarray(low) <= np.asarray(high)):
        raise ValueError(f"{what} from {names[0]} = {low} to {names[1]} = {high} is empty: {names[0]} <= {names[1]}")


def check_key(key: Any, what: str = "key") -> None:
    """Raise a ValueError unless `key` is a new-style key, or an array of them, as `jax.random.key(seed)` makes it."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jax.dtypes.prng_key):
        got = f"{dtype}{list(key.shape)}" if dtype is not None else short(key)[:200]
        old = " (an old-style key: jax.random.wrap_key_data makes a new one of it)" if dtype == np.uint32 else ""
        raise ValueError(f"{what} must be made by jax.random.key(seed), got {got}{old}")


def check_has(value: Any, what: str, *methods: str) -> None:
    """Raise a TypeError unless `value` is an object with these methods or attributes, and not a class.

    `what` says what is expected, "a sampler, such as dj.DDIM()," say.
    """
    if isinstance(value, type):
        raise TypeError(f"expected {what} got the class {value.__name__}: did you mean {value.__name__}()?")
    missing = [name for name in methods if not hasattr(value, name)]
    if missing:
        raise TypeError(f"expected {what} got {short(value)[:200]}, which has no {', '.join(missing)}")


def check_pytree(value: Any, what: str) -> None:
    """Raise a TypeError if JAX does not take `value` for a pytree: a plain class, not made by `dj.pytree`."""
    for leaf in jax.tree.leaves(value):
        if not (isinstance(leaf, jax.ShapeDtypeStruct | np.generic) or known(leaf) or isinstance(leaf, Tracer)):
            if leaf is value:
                raise TypeError(f"{what} {type(value).__name__} is a plain class: decorate it with @dj.pytree")
            raise TypeError(f"{what} {type(value).__name__} holds {leaf!r}, which is neither a number nor an array")


def check_pictures(x: Any, what: str = "pictures", *, channels: tuple[int, ...] | None = None) -> None:
    """Raise unless `x` are pictures: finite floats [B, H, W, C], B, H, W, C >= 1, meant to lie in [-1, 1].

    Levels 0 ... 255 do not pass: values beyond 20, and none below -1. Samples of a poor model overshoot on both sides,
    and pass. A UserWarning says where values lie beyond 20 on either side, and where floats look like [0, 1]: they
    spread over it, from below 0.1 to above 0.6, and none is negative.

    Args:
      what: what the pictures are, for the messages: "the image", say.
      channels: the numbers of channels that are possible, such as (1, 3); any by default.

    Raises:
      TypeError: they are integers (uint8, say), booleans, or complex.
      ValueError: their shape is another, a value is not finite, or they look like levels.
    """
    array = np.asarray(x) if isinstance(x, list | tuple) else x
    shape, dtype = tuple(getattr(array, "shape", ())), getattr(array, "dtype", None)
    if len(shape) != 4 or 0 in shape or (channels is not None and shape[-1] not in channels):
        last = "C" if channels is None else " or ".join(map(str, channels))
        raise ValueError(f"{what}: expected images [B, H, W, {last}], not empty, got the shape {list(shape)}")
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{what} must be floats in [-1, 1], got {dtype}: diffjax.data.to_float makes them of uint8")
    if known(array):
        _check_range(np.asarray(array, np.float32), what)


def look_like_levels(x: Any) -> bool:
    """Whether known floats [B, H, W, 1, 3 or 4] are the grey levels 0 ... 255, whole numbers that go beyond 20."""
    if not known(x) or np.ndim(x) != 4 or np.shape(x)[-1] not in (1, 3, 4):
        return False
    x = np.asarray(x)
    return bool(x.size and 20 < x.max() <= 255 and x.min() >= 0 and (x == np.rint(x)).all())


def _check_range(x: np.ndarray, what: str) -> None:
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise ValueError(f"{what}: {bad} of {x.size} values are NaN or infinite")
    low, high = float(x.min()), float(x.max())
    if high > 20 and low >= -1:
        raise ValueError(
            f"{what} must lie in [-1, 1], got values from {low:g} to {high:g}: if they are levels 0 ... 255, "
            "take x / 127.5 - 1"
        )
    if max(-low, high) > 20:
        warnings.warn(f"{what}: values from {low:g} to {high:g} are far outside of [-1, 1]", stacklevel=4)
    if 0 <= low < 0.1 and 0.6 < high <= 1 and x.size >= 64 and x.std() > 0.05:
        message = f"{what}: values from {low:g} to {high:g}, none negative; if they are meant in [0, 1], take 2 x - 1"
        warnings.warn(message, stacklevel=4)


def _because(why: str) -> str:
    return f": {why}" if why else ""


def _shown(value: Any) -> str:
    array = np.asarray(value)
    return f"{array}" if array.size <= 8 else f"an array {list(array.shape)} from {array.min()} to {array.max()}"

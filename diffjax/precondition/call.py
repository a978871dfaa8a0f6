"""One evaluation of a network or a denoiser: its arguments as arrays, and messages where it cannot be traced."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# what JAX says of `if c > 0` and `float(c)` for an array c [B]
OF_ONE_NUMBER = ("truth value of an array", "Only scalar arrays can be converted")


def operands(x: Any, *times: Any) -> tuple[Array, ...]:
    """x and times as arrays of floats, the times in float32 at least.

    Raises:
      TypeError: x is no array of floats.
      ValueError: x has no batch axis, or a time is neither a scalar nor one for each example.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x must be an array of floats, got {x.dtype}: scale pictures of integers to [-1, 1]")
    if x.ndim == 0:
        raise ValueError("x must have the examples as its first axis, got a scalar")
    return x, *(_time(t, x) for t in times)


def _time(t: Any, x: Array) -> Array:
    t = jnp.asarray(t)
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(f"a time must be a scalar or have shape ({len(x)},), one for each example; got {t.shape}")
    own = t.dtype if jnp.issubdtype(t.dtype, jnp.floating) else x.dtype
    return t.astype(jnp.promote_types(own, jnp.float32))


def evaluate(fn: Callable, what: str, *args: Any) -> Array:
    """fn(*args), one array, with a message of what is wrong where JAX cannot trace it; `what` names fn.

    Raises:
      TypeError: it returns something else, uses NumPy on its arguments, or branches on their values.
    """
    try:
        out = fn(*args)
    except (jax.errors.TracerArrayConversionError, jax.errors.TracerIntegerConversionError) as error:
        raise TypeError(f"the {what} uses NumPy on an argument that JAX traces: use jax.numpy in its place") from error
    except (TypeError, ValueError) as error:
        if not isinstance(error, jax.errors.ConcretizationTypeError) and not any(
            m in str(error) for m in OF_ONE_NUMBER
        ):
            raise
        raise TypeError(
            f"the {what} branches on a value that JAX traces, or makes a Python number of it: use jnp.where, "
            "jax.lax.cond or jax.numpy"
        ) from error
    if not isinstance(out, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"the {what} must return one array shaped like x, got {type(out).__name__}")
    return jnp.asarray(out)

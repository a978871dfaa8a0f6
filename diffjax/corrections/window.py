"""A correction that acts between two times only, or gives way to another outside."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast
from diffjax.checks import check_has, check_ordered
from diffjax.typing import Cond, Time, pytree


@pytree
class Window:
    """`correction` where low <= t <= high, else `otherwise` or nothing; at a scalar t one of them is computed.

    Raises:
      TypeError: a correction is no function, a time no number.
      ValueError: low > high.
    """

    correction: Callable
    low: Any
    high: Any
    otherwise: Callable | None = None

    def __post_init__(self):
        check_ordered(self.low, self.high, "the window")
        for fn in (self.correction, *([] if self.otherwise is None else [self.otherwise])):
            check_has(fn, "a correction, a function (x_0, t, cond) -> x_0,", "__call__")

    def __call__(self, x0: Array, t: Time, cond: Cond = None) -> Array:
        def outside():
            return x0 if self.otherwise is None else self.otherwise(x0, t, cond)

        inside = (self.low <= jnp.asarray(t)) & (jnp.asarray(t) <= self.high)
        if inside.ndim:
            return jnp.where(bcast(inside, x0), self.correction(x0, t, cond), outside())
        return jax.lax.cond(inside, lambda: self.correction(x0, t, cond), outside)

"""A correction that acts between two times only."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast
from diffjax.typing import Cond, Time, pytree


@pytree
class Window:
    """`correction` where low <= t <= high, else nothing; at a scalar t nothing is computed outside."""

    correction: Callable
    low: Any
    high: Any

    def __call__(self, x0: Array, t: Time, cond: Cond = None) -> Array:
        inside = (self.low <= jnp.asarray(t)) & (jnp.asarray(t) <= self.high)
        if inside.ndim:
            return jnp.where(bcast(inside, x0), self.correction(x0, t, cond), x0)
        return jax.lax.cond(inside, lambda: self.correction(x0, t, cond), lambda: x0)

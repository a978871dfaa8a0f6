"""Thresholding of the clean estimate, which large guidance scales drive out of the data's range [-1, 1].

static     x_0 <- clip(x_0, -1, 1)
dynamic    x_0 <- clip(x_0, -q, q) / q,   q = max(1, the p-th quantile of |x_0|)      (Saharia et al. 2022, Imagen)
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast
from diffjax.checks import check_number, check_ordered
from diffjax.typing import Cond, Time, pytree


@pytree
class Clip:
    """Static thresholding: entries are clipped to [low, high]. Raises a ValueError unless low <= high."""

    low: Any = -1.0
    high: Any = 1.0

    def __post_init__(self):
        check_ordered(self.low, self.high, "the range to clip to")

    def __call__(self, x0: Array, t: Time = 0.0, cond: Cond = None) -> Array:
        return jnp.clip(x0, self.low, self.high).astype(jnp.result_type(x0))


@pytree
class DynamicThreshold:
    """Dynamic thresholding: each example is brought back into [-1, 1] by its own quantile q (Imagen: p = 0.995).

    p is a fraction; raises a ValueError unless it lies in [0, 1].
    """

    p: Any = 0.995

    def __post_init__(self):
        check_number("p", self.p, 0, 1, why="it is a fraction: 0.995 for 99.5 %")

    def __call__(self, x0: Array, t: Time = 0.0, cond: Cond = None) -> Array:
        size = jnp.abs(x0).reshape(len(x0), -1)
        q = jnp.quantile(size.astype(jnp.promote_types(size.dtype, jnp.float32)), self.p, axis=1)
        q = bcast(jnp.maximum(q, 1), x0)
        return (jnp.clip(x0, -q, q) / q).astype(jnp.result_type(x0))

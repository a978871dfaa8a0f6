"""Thresholding of the clean estimate, which large guidance scales drive out of the data's range [-1, 1].

static     x_0 <- clip(x_0, -1, 1)
dynamic    x_0 <- clip(x_0, -q, q) / q,   q = max(1, the p-th quantile of |x_0|)      (Saharia et al. 2022, Imagen)
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast
from diffjax.typing import Cond, Time, pytree


@pytree
class Clip:
    """Static thresholding: entries are clipped to [low, high]."""

    low: Any = -1.0
    high: Any = 1.0

    def __call__(self, x0: Array, t: Time = 0.0, cond: Cond = None) -> Array:
        return jnp.clip(x0, self.low, self.high)


@pytree
class DynamicThreshold:
    """Dynamic thresholding: each example is brought back into [-1, 1] by its own quantile q (Imagen: p = 0.995)."""

    p: Any = 0.995

    def __call__(self, x0: Array, t: Time = 0.0, cond: Cond = None) -> Array:
        q = jnp.quantile(jnp.abs(x0).reshape(len(x0), -1), self.p, axis=1)
        q = bcast(jnp.maximum(q, 1), x0)
        return jnp.clip(x0, -q, q) / q

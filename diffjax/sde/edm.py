"""The process of EDM: time is the noise level itself (Karras et al. 2022, Eq. 1 with sigma(t) = t, s(t) = 1)."""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import as_time
from diffjax.checks import check_interval
from diffjax.typing import Time, pytree


@pytree
class EDM:
    """x_t = x_0 + t eps for t in [0, 80]; the noise level that sampling stops at is 0.002."""

    T: float = 80.0
    t_min: float = 0.002

    def __post_init__(self):
        check_interval(self.T, self.t_min)

    def alpha(self, t: Time) -> Array:
        return jnp.ones_like(self.sigma(t))

    def sigma(self, t: Time) -> Array:
        return as_time(t)

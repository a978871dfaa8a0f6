"""The cosine process: the noise level is an angle (Salimans & Ho 2022; Nichol & Dhariwal 2021 without the offset s).

alpha(t) = cos(pi t / 2),   sigma(t) = sin(pi t / 2)
"""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import as_time
from diffjax.checks import check_interval
from diffjax.typing import Time, pytree


@pytree
class Cosine:
    """Variance-preserving process on the unit circle; alpha is exactly 0 at T = 1 (predict x0 or v there, not eps)."""

    T: float = 1.0
    t_min: float = 1e-3

    def __post_init__(self):
        check_interval(self.T, self.t_min, 1, why="alpha(t) = cos(pi t / 2) is negative beyond t = 1")

    def alpha(self, t: Time) -> Array:
        t = as_time(t)  # two forms of one function: each keeps its digits at its own end
        return jnp.where(t < 0.5, jnp.cos(0.5 * jnp.pi * t), jnp.sin(0.5 * jnp.pi * (1 - t)))

    def sigma(self, t: Time) -> Array:
        return jnp.sin(0.5 * jnp.pi * as_time(t))

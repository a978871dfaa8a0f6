"""The variance-exploding SDE: NCSN's noise in continuous time (Song et al. 2021, Eq. 9 and 30).

    dx = sigma(t) sqrt(2 log(sigma_max / sigma_min)) dw,   sigma(t) = sigma_min (sigma_max / sigma_min)^t

As in the original code x_t has the standard deviation sigma(t), not sqrt(sigma(t)^2 - sigma_min^2).
"""

import jax.numpy as jnp
from jax import Array

from diffjax.typing import Time, pytree


@pytree
class VE:
    """Variance-exploding SDE with geometric sigma(t); data at t = 0, N(0, sigma_max^2 I) at T."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    T: float = 1.0
    t_min: float = 1e-5

    def alpha(self, t: Time) -> Array:
        return jnp.ones_like(jnp.asarray(t, jnp.result_type(float, t)))

    def sigma(self, t: Time) -> Array:
        return self.sigma_min * jnp.exp(jnp.asarray(t) * jnp.log(self.sigma_max / self.sigma_min))

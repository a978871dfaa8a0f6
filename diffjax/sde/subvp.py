"""The sub-VP SDE: the drift of VP with less noise (Song et al. 2021, Eq. 12 and 35).

dx = -beta(t)/2 x dt + sqrt(beta(t) (1 - exp(-2 B(t)))) dw,   B(t) = int_0^t beta
sigma(t) = 1 - alpha(t)^2: the variance of VP taken as the standard deviation
"""

import jax.numpy as jnp
from jax import Array

from diffjax.sde.vp import check_betas, log_alpha
from diffjax.typing import Time, pytree


@pytree
class SubVP:
    """sub-VP SDE with linear beta(t); data at t = 0, N(0, I) at T.

    Raises:
      ValueError: beta(t) is negative somewhere on [0, T], or 0 everywhere.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    T: float = 1.0
    t_min: float = 1e-3

    def __post_init__(self):
        check_betas(self)

    def alpha(self, t: Time) -> Array:
        return jnp.exp(log_alpha(self, t))

    def sigma(self, t: Time) -> Array:
        return -jnp.expm1(2 * log_alpha(self, t))

"""The variance-exploding SDE: NCSN's noise in continuous time (Song et al. 2021, Eq. 9 and 30).

    dx = sigma(t) sqrt(2 log(sigma_max / sigma_min)) dw,   sigma(t) = sigma_min (sigma_max / sigma_min)^t

As in the original code x_t has the standard deviation sigma(t), not sqrt(sigma(t)^2 - sigma_min^2).
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import as_time
from diffjax.checks import check_interval, check_number, known
from diffjax.typing import Time, pytree


@pytree
class VE:
    """Variance-exploding SDE with geometric sigma(t); data at t = 0, N(0, sigma_max^2 I) at T = 1.

    Raises:
      ValueError: not 0 < sigma_min < sigma_max.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    T: float = 1.0
    t_min: float = 1e-5

    def __post_init__(self):
        check_number("sigma_min", self.sigma_min, 0, above=True)
        check_number("sigma_max", self.sigma_max, 0, above=True)
        check_interval(self.T, self.t_min)
        if known((self.sigma_min, self.sigma_max)):
            low, high = np.asarray(self.sigma_min), np.asarray(self.sigma_max)
            if not np.all(low < high):
                raise ValueError(f"sigma(t) grows from sigma_min to sigma_max, got {low} and {high}")

    def alpha(self, t: Time) -> Array:
        return jnp.ones_like(as_time(t))

    def sigma(self, t: Time) -> Array:
        return self.sigma_min * jnp.exp(as_time(t) * jnp.log(self.sigma_max / self.sigma_min))

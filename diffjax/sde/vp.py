"""The variance-preserving SDE: DDPM's noise in continuous time (Song et al. 2021, Eq. 11 and 33).

dx = -beta(t)/2 x dt + sqrt(beta(t)) dw,   beta(t) = beta_min + t (beta_max - beta_min)
log alpha(t) = -t^2 (beta_max - beta_min)/4 - t beta_min/2,   sigma(t)^2 = 1 - alpha(t)^2
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import as_time, safe_sqrt
from diffjax.checks import check_interval, check_number, known
from diffjax.typing import Time, pytree


@pytree
class VP:
    """Variance-preserving SDE with linear beta(t); data at t = 0, N(0, I) at T.

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
        # 1 - exp(.) in float32 is 2.4 % wrong at t = 1e-5
        return safe_sqrt(-jnp.expm1(2 * log_alpha(self, t)))


def check_betas(sde) -> None:
    """Raise unless the linear beta(t) is at least 0 on [0, T] and somewhere more; shared with sub-VP."""
    check_number("beta_min", sde.beta_min, 0)
    check_number("beta_max", sde.beta_max, 0)
    check_interval(sde.T, sde.t_min)
    if known((sde.beta_min, sde.beta_max, sde.T)):
        start = np.asarray(sde.beta_min)
        slope = np.asarray(sde.beta_max) - np.asarray(sde.beta_min)
        end = start + slope * np.asarray(sde.T)
        if np.any(-0.25 * np.square(sde.T) * slope - 0.5 * start * sde.T < -50):
            raise ValueError(
                f"alpha(T) of {sde} is 0: time runs from 0 to T = 1, whatever the number of steps; `BetaTable` has "
                "integer times"
            )
        if np.any(end < 0) or np.any((start == 0) & (end == 0)):
            raise ValueError(f"beta(t) must not be negative, nor 0 on all of [0, T], got {sde}: beta(T) = {end}")


def log_alpha(sde, t: Time) -> Array:
    """log alpha(t) of the linear beta(t); shared with sub-VP, which has the same drift."""
    t = as_time(t)
    return -0.25 * t * t * (sde.beta_max - sde.beta_min) - 0.5 * t * sde.beta_min

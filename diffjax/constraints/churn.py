"""EDM's stochastic sampler: noise is added before each step of a deterministic one (Karras et al. 2022, Algorithm 2).

    kappa_hat = (1 + gamma) kappa_t,   gamma = min(S_churn/n, sqrt 2 - 1) where S_min <= kappa_t <= S_max, else 0

with kappa = sigma/alpha. x is carried from t to the time of kappa_hat, by that much noise, and the solver goes from
there to s. `Churn(Heun(), s_churn, n)` is the paper's sampler.
"""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import normal, split
from diffjax.checks import check_number, known
from diffjax.samplers.arguments import check_sampler, check_scalars
from diffjax.sde import gaussian
from diffjax.typing import Sampler, pytree


@pytree
class Churn:
    """`sampler` with churn; `n` is the number of steps that s_churn is spread over, of the whole run where it is cut.

    `s_noise` is the standard deviation of the noise. The raised time does not pass sde.T.

    Raises:
      TypeError: `sampler` is no sampler, or a field no number.
      ValueError: s_churn, s_min or s_noise is negative, n is below 1, or s_max below s_min.
    """

    sampler: Sampler
    s_churn: float
    n: int
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        check_sampler(self.sampler)
        for name, low in (("s_churn", 0), ("n", 1), ("s_min", 0), ("s_noise", 0)):
            check_number(name, getattr(self, name), low)
        if known(self.s_min) and known(self.s_max) and not np.all(np.asarray(self.s_min) <= np.asarray(self.s_max)):
            raise ValueError(f"s_max must be s_min = {self.s_min} or more, got {self.s_max}")

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        check_scalars(self, "s_churn", "n", "s_min", "s_max", "s_noise")
        k_churn, k_step = split(key)
        logsnr = gaussian.logsnr(sde, t)
        kappa = jnp.exp(-logsnr / 2)
        gamma = jnp.minimum(self.s_churn / self.n, math.sqrt(2) - 1)
        # where x is noise alone, or has none, there is nothing to raise
        churned = (gamma > 0) & (self.s_min <= kappa) & (kappa <= self.s_max) & (kappa > 0) & jnp.isfinite(kappa)
        raised = gaussian.time_of_logsnr(sde, jnp.where(churned, logsnr - 2 * jnp.log1p(gamma), 0), t_low=t)
        t_hat = jnp.where(churned, raised, t)
        a, b = gaussian.transition(sde, jnp.where(churned, t_hat, 0), jnp.where(churned, t, 0))
        a, b = jnp.where(churned, a, 1), jnp.where(churned, b, 0)
        state = state._replace(x=a * state.x + b * self.s_noise * normal(k_churn, state.x))
        return self.sampler.step(k_step, denoise, sde, state, t_hat, s, cond)

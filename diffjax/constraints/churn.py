"""EDM's stochastic sampler: noise is added before each step of a deterministic one (Karras et al. 2022, Algorithm 2).

    kappa_hat = (1 + gamma) kappa_t,   gamma = min(S_churn/n, sqrt 2 - 1) where S_min <= kappa_t <= S_max, else 0

with kappa = sigma/alpha. x is carried from t to the time of kappa_hat, by that much noise, and the solver goes from
there to s. `Churn(Heun(), s_churn, n)` is the paper's sampler.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal, split
from diffjax.sde import gaussian
from diffjax.typing import Sampler, pytree


@pytree
class Churn:
    """`sampler` with churn; `n` is the number of steps that s_churn is spread over.

    `s_noise` is the standard deviation of the noise. The raised time does not pass sde.T.
    """

    sampler: Sampler
    s_churn: float
    n: int
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        k_churn, k_step = split(key)
        logsnr = gaussian.logsnr(sde, t)
        kappa = jnp.exp(-logsnr / 2)
        gamma = jnp.minimum(self.s_churn / self.n, math.sqrt(2) - 1)
        churned = (gamma > 0) & (self.s_min <= kappa) & (kappa <= self.s_max) & jnp.isfinite(kappa)
        raised = gaussian.time_of_logsnr(sde, jnp.where(churned, logsnr - 2 * jnp.log1p(gamma), 0), t_low=t)
        t_hat = jnp.where(churned, raised, t)
        a, b = gaussian.transition(sde, jnp.where(churned, t_hat, t), t)
        a, b = jnp.where(churned, a, 1), jnp.where(churned, b, 0)
        state = state._replace(x=a * state.x + b * self.s_noise * normal(k_churn, state.x))
        return self.sampler.step(k_step, denoise, sde, state, t_hat, s, cond)

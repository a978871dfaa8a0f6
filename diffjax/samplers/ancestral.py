"""Ancestral sampling: draw x_s from q(x_s | x_t, x_0) at the predicted x_0 (Ho et al. 2020, Algorithm 2, Eq. 6-7).

    mean = alpha_s x_0 + (a sigma_s^2 / sigma_t) eps,   b^2 ("beta") and v = (sigma_s b / sigma_t)^2 ("beta tilde")
    log variance = c log b^2 + (1 - c) log v                                         (Nichol & Dhariwal 2021, Eq. 15)

c = 0 is DDPM's fixed-small variance (exact for one data point) and Score-SDE's ancestral sampler for VE, c = 1 is
fixed-large (exact for N(0, I) data) and Score-SDE's for VP.
"""

from typing import Any

from jax import Array

from diffjax.arrays import bcast, normal
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class Ancestral:
    """DDPM's sampler, one evaluation a step; `large` is the c above, a number in [0, 1].

    Or it is a pytree function `(x, t, cond) -> c`, [B] or shaped like x: a learned variance, see
    `precondition.learned_range`.
    """

    large: Any = 0.0

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        mean = gaussian.posterior_mean(sde, x, t, s, x0)
        c: Any = self.large(x, t, cond) if callable(self.large) else self.large
        std = gaussian.transition(sde, t, s)[1] * (sde.sigma(s) / sde.sigma(t)) ** (1 - bcast(c, x))
        return state._replace(x=mean + std * normal(key, x), mean=mean)

"""Euler-Maruyama on the reverse SDE (Song et al. 2021, Eq. 6).

    x_s = x_t + (s - t) (f x - g^2 score) + g sqrt(t - s) z

Where alpha(t) = 0 (`Flow`, `Cosine` at T) f and g are infinite; that step is the ancestral one: x_s from q(x_s | x_0).
"""

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal, safe_sqrt
from diffjax.samplers.ddim import split_noise
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class EulerMaruyama:
    """Weak order 1, one evaluation a step; the step into t = 0 is DDIM's, without noise.

    Elsewhere: Score-SDE's EulerMaruyamaPredictor, diffusers' ScoreSdeVpScheduler. Take hundreds of
    steps: where g^2 (t - s) / sigma^2 is not small they are unstable.
    """

    invertible: ClassVar[bool] = False

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        pure = sde.alpha(t) == 0
        u = jnp.where(pure, sde.T / 2, t)  # a time at which the rates are finite
        g = gaussian.diffusion(sde, u)
        reverse_drift = gaussian.drift(sde, x, u) - g**2 * gaussian.score_from_x0(sde, x, u, x0)
        mean = jnp.where(s > 0, x + (s - t) * reverse_drift, gaussian.exponential_step(sde, x, t, s, x0))
        std = jnp.where(s > 0, g * safe_sqrt(t - s), 0)
        down, up = split_noise(sde, t, s, 1.0)
        mean = jnp.where(pure, sde.alpha(s) * x0 + down * gaussian.eps_from_x0(sde, x, t, x0), mean)
        return state._replace(x=mean + jnp.where(pure, up, std) * normal(key, x), mean=mean)

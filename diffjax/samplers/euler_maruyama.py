"""Euler-Maruyama on the reverse SDE (Song et al. 2021, Eq. 6).

x_s = x_t + (s - t) (f x - g^2 score) + g sqrt(t - s) z
"""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class EulerMaruyama:
    """Weak order 1, one evaluation a step; the step into t = 0 is DDIM's, without noise.

    Start below T where alpha(T) = 0 (`Flow`, `Cosine`): g is infinite there.
    """

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        g = gaussian.diffusion(sde, t)
        x0 = denoise(x, t, cond)
        reverse_drift = gaussian.drift(sde, x, t) - g**2 * gaussian.score_from_x0(sde, x, t, x0)
        mean = jnp.where(s > 0, x + (s - t) * reverse_drift, gaussian.exponential_step(sde, x, t, s, x0))
        std = jnp.where(s > 0, g * jnp.sqrt(t - s), 0)
        return state._replace(x=mean + std * normal(key, x), mean=mean)

"""Euler-Maruyama on the reverse SDE (Song et al. 2021, Eq. 6): x_s = x_t + (s - t) (f x - g^2 score) + g sqrt(t - s) z."""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class EulerMaruyama:
    """Weak order 1, one evaluation a step. Start below T where alpha(T) = 0 (`Flow`, `Cosine`): g is infinite there."""

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        g = gaussian.diffusion(sde, t)
        score = gaussian.score_from_x0(sde, x, t, denoise(x, t, cond))
        mean = x + (s - t) * (gaussian.drift(sde, x, t) - g**2 * score)
        return state._replace(x=mean + g * jnp.sqrt(t - s) * normal(key, x), mean=mean)

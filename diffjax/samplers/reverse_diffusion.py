"""The reverse diffusion sampler: the forward step's own discretisation, reversed (Song et al. 2021, Eq. 46).

x_t = a x_s + b z forwards;   x_s = x_t - ((a - 1) x_t - b^2 score) + b z = (2 - a) x_t + b^2 score + b z backwards

It is right for a near 1. Where alpha(t) = 0 a is 0, and the step is the ancestral one: x_s from q(x_s | x_0).
"""

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal
from diffjax.samplers.ddim import split_noise
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class ReverseDiffusion:
    """Weak order 1, one evaluation a step; a and b are the exact transition's, so they fit any grid of many steps.

    Elsewhere: Score-SDE's ReverseDiffusionPredictor, the predictor of diffusers' ScoreSdeVeScheduler.
    """

    invertible: ClassVar[bool] = False

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        a, b = gaussian.transition(sde, t, s)
        down, up = split_noise(sde, t, s, 1.0)
        pure = sde.alpha(t) == 0
        ancestral = sde.alpha(s) * x0 + down * gaussian.eps_from_x0(sde, x, t, x0)
        mean = jnp.where(pure, ancestral, (2 - a) * x + b**2 * gaussian.score_from_x0(sde, x, t, x0))
        return state._replace(x=mean + jnp.where(pure, up, b) * normal(key, x), mean=mean)

"""Heun's method on the probability-flow ODE (Karras et al. 2022, Algorithm 1).

    x' = x_t + (s - t) d(x_t, t),   x_s = x_t + (s - t) (d(x_t, t) + d(x', s))/2

The step into t = 0 is DDIM's, alpha_s x_0 + sigma_s eps: one evaluation, so that n steps to 0 cost 2n - 1. For EDM it
is the paper's Euler step. For VP, where sigma ~ sqrt(t), an Euler step would leave half of the last noise.
"""

import jax
from jax import Array

from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class Heun:
    """Second order, two evaluations a step (one into t = 0), deterministic.

    Elsewhere: k-diffusion's `sample_heun`, diffusers' HeunDiscreteScheduler.
    """

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x, h = state.x, s - t
        x0 = denoise(x, t, cond)

        def heun():
            d = gaussian.velocity_from_x0(sde, x, t, x0)
            euler = x + h * d
            return x + h * (d + gaussian.velocity_from_x0(sde, euler, s, denoise(euler, s, cond))) / 2

        x = jax.lax.cond(s > 0, heun, lambda: gaussian.exponential_step(sde, x, t, s, x0))
        return state._replace(x=x, mean=x)

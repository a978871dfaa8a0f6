"""Heun's method on the probability-flow ODE (Karras et al. 2022, Algorithm 1).

    x' = x_t + (s - t) d(x_t, t),   x_s = x_t + (s - t) (d(x_t, t) + d(x', s))/2

The step into t = 0 is Euler's: d is not defined there, and the denoiser is not asked. n steps that end at 0 cost 2n - 1
evaluations.
"""

import jax
from jax import Array

from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class Heun:
    """Second order, two evaluations a step (one into t = 0), deterministic."""

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        def slope(x, t):
            return gaussian.velocity_from_x0(sde, x, t, denoise(x, t, cond))

        x, h = state.x, s - t
        d = slope(x, t)
        euler = x + h * d
        x = jax.lax.cond(s > 0, lambda: x + h * (d + slope(euler, s)) / 2, lambda: euler)
        return state._replace(x=x, mean=x)

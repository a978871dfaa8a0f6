"""Euler's method on the probability-flow ODE: x_s = x_t + (s - t) dx/dt (Song et al. 2021, Eq. 13)."""

import jax.numpy as jnp
from jax import Array

from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.sde.flow import Flow
from diffjax.times.grids import uniform, uniform_logsnr
from diffjax.typing import SDE, pytree


@pytree
class Euler:
    """First order, one evaluation a step, deterministic. The step into t = 0 is DDIM's: see `heun`.

    Elsewhere: diffusers' FlowMatchEulerDiscreteScheduler on `Flow`, k-diffusion's `sample_euler` on `EDM`.
    """

    def grid(self, sde: SDE, n: int) -> Array:
        """Its grid by default: equal steps in t on `Flow`, whose paths are straight in t, else in logsnr."""
        return uniform(sde, n) if isinstance(sde, Flow) else uniform_logsnr(sde, n)

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        euler = x + (s - t) * gaussian.velocity_from_x0(sde, x, t, x0)
        x = jnp.where(s > 0, euler, gaussian.exponential_step(sde, x, t, s, x0))
        return state._replace(x=x, mean=x)

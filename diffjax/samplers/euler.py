"""Euler's method on the probability-flow ODE: x_s = x_t + (s - t) dx/dt (Song et al. 2021, Eq. 13)."""

from jax import Array

from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class Euler:
    """First order, one evaluation a step, deterministic."""

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x = x + (s - t) * gaussian.velocity_from_x0(sde, x, t, denoise(x, t, cond))
        return state._replace(x=x, mean=x)

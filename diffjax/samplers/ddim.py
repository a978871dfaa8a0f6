"""DDIM (Song, Meng & Ermon 2021, Eq. 12 and 16), for every Gaussian process.

    x_s = alpha_s x_0 + sqrt(sigma_s^2 - eta^2 v) eps + eta sqrt(v) z,   v = (sigma_s b / sigma_t)^2

with x_0 and eps as predicted at t, and b the standard deviation of x_t | x_s. eta = 0 is the exponential integrator of
the probability-flow ODE: Euler's method for x/alpha as a function of sigma/alpha. eta = 1 is ancestral sampling.
"""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class DDIM:
    """First order, one evaluation a step; eta scales the noise, from 0 (deterministic) to 1 (DDPM, fixed small)."""

    eta: float = 0.0

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        eps = gaussian.eps_from_x0(sde, x, t, x0)
        _, b = gaussian.transition(sde, t, s)
        ratio = self.eta * b / sde.sigma(t)  # eta sqrt(v) / sigma_s, within [0, 1]
        mean = sde.alpha(s) * x0 + sde.sigma(s) * jnp.sqrt((1 - ratio) * (1 + ratio)) * eps
        return state._replace(x=mean + sde.sigma(s) * ratio * normal(key, x), mean=mean)

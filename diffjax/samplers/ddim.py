"""DDIM (Song, Meng & Ermon 2021, Eq. 12 and 16), for every Gaussian process.

    x_s = alpha_s x_0 + sqrt(sigma_s^2 - eta^2 v) eps + eta sqrt(v) z,   v = (sigma_s b / sigma_t)^2

with x_0 and eps as predicted at t, and b the standard deviation of x_t | x_s. eta = 0 is the exponential integrator of
the probability-flow ODE: Euler's method for x/alpha as a function of sigma/alpha. eta = 1 is ancestral sampling.
"""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal, safe_sqrt
from diffjax.checks import check_number
from diffjax.samplers.arguments import check_scalars, draws
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import SDE, Time, pytree


@pytree
class DDIM:
    """First order, one evaluation a step; eta scales the noise, from 0 (deterministic) to 1 (DDPM, fixed small).

    Elsewhere: diffusers' DDIMScheduler; eta = 0 is k-diffusion's `sample_euler`, eta = 1 its `sample_euler_ancestral`.

    Raises:
      ValueError: eta does not lie in [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self):
        check_number("eta", self.eta, 0, 1)

    @property
    def invertible(self) -> bool:
        return not draws(self.eta)

    def init(self, x: Array) -> State:
        check_scalars(self, "eta")
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        eps = gaussian.eps_from_x0(sde, x, t, x0)
        down, up = split_noise(sde, t, s, self.eta)
        mean = sde.alpha(s) * x0 + down * eps
        return state._replace(x=mean + up * normal(key, x), mean=mean)


def split_noise(sde: SDE, t: Time, s: Time, eta: Time) -> tuple[Array, Array]:
    """The standard deviations of eps and of fresh noise at s: sqrt(sigma_s^2 - eta^2 v) and eta sqrt(v)."""
    a, b = gaussian.transition(sde, t, s)
    sigma_s, sigma_t = sde.sigma(s), sde.sigma(t)
    sigma_t = jnp.where(sigma_t == 0, 1, sigma_t)  # only where sigma_s = 0 too
    # b^2/sigma_t^2 = 1 - c^2; written in c, which is small at high noise, 1 - eta^2 b^2/sigma_t^2 keeps its digits
    c = a * sigma_s / sigma_t
    return sigma_s * safe_sqrt((1 - eta) * (1 + eta) + (eta * c) ** 2), sigma_s * eta * b / sigma_t

"""Heun's method on the probability-flow ODE (Karras et al. 2022, Algorithm 1).

    x' = x_t + (s - t) d(x_t, t),   x_s = x_t + (s - t) (d(x_t, t) + d(x', s))/2

With `levels` the step is one of d(x/alpha)/dkappa = eps, kappa = sigma/alpha, which is the same for EDM only:

    x_s/alpha_s = x_t/alpha_t + (kappa_s - kappa_t) (eps_t + eps_s)/2

The step into t = 0 is DDIM's, alpha_s x_0 + sigma_s eps: one evaluation, so that n steps to 0 cost 2n - 1. For EDM it
is the paper's Euler step. For VP, where sigma ~ sqrt(t), an Euler step would leave half of the last noise.
"""

import jax
from jax import Array

from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree, static


@pytree
class Heun:
    """Second order, two evaluations a step (one into t = 0), deterministic.

    Elsewhere: with `levels` k-diffusion's `sample_heun` with s_churn = 0 (`constraints.Churn` adds it), diffusers'
    HeunDiscreteScheduler. A process whose curves have kinks, `BetaTable`, needs it; it takes a start with alpha > 0.
    """

    levels: bool = static(default=False)

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x, h = state.x, s - t
        x0 = denoise(x, t, cond)

        def in_levels():
            ddim = gaussian.exponential_step(sde, x, t, s, x0)
            there = gaussian.eps_from_x0(sde, ddim, s, denoise(ddim, s, cond))
            eps = (gaussian.eps_from_x0(sde, x, t, x0) + there) / 2
            return gaussian.perturb(sde, gaussian.x0_from_eps(sde, x, t, eps), s, eps)

        def heun():
            d = gaussian.velocity_from_x0(sde, x, t, x0)
            euler = x + h * d
            return x + h * (d + gaussian.velocity_from_x0(sde, euler, s, denoise(euler, s, cond))) / 2

        x = jax.lax.cond(s > 0, in_levels if self.levels else heun, lambda: gaussian.exponential_step(sde, x, t, s, x0))
        return state._replace(x=x, mean=x)

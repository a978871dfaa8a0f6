"""DPM-Solver (Lu et al. 2022, Algorithms 1, 2 and 4): single-step exponential Runge-Kutta methods for eps.

In lambda = log(alpha/sigma), with h = lambda_s - lambda_t and K_s = sigma_s (e^h - 1) = alpha_s kappa_t - sigma_s:

    (1) x_s = alpha_s/alpha_t x_t - K_s eps_t - (higher differences of eps, taken at times between t and s)

The first terms are DDIM's step. The step into t = 0, and the one out of alpha = 0, have h infinite: they are DDIM's.
"""

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.checks import check_count
from diffjax.samplers.drive import State
from diffjax.samplers.multistep import step_length
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, pytree, static


@pytree
class DPMSolver:
    """`order` 1 (DDIM), 2 or 3, with as many evaluations a step; deterministic. The order holds from any start.

    Elsewhere: diffusers' DPMSolverSinglestepScheduler (algorithm "dpmsolver"), k-diffusion's `sample_dpm_fast` (order
    3).

    Raises:
      ValueError: there is no such order.
    """

    order: int = static(default=2)

    def __post_init__(self):
        check_count("order", self.order, 1, 3)

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = single_step(self.order, denoise, sde, state.x, t, s, cond, denoise(state.x, t, cond))
        return state._replace(x=x, mean=x)


def single_step(order: int, denoise: Denoiser, sde: SDE, x: Array, t: Time, s: Time, cond: Cond, x0: Array) -> Array:
    """Eq. 1 from x at t to s, by `order` - 1 evaluations besides x0, the one at (x, t)."""
    if order == 1:
        return gaussian.exponential_step(sde, x, t, s, x0)
    h = step_length(sde, t, s)
    regular = jnp.isfinite(h) & (h != 0)
    safe_t = jnp.where(regular, t, 0.5 * sde.T)  # other steps are DDIM's; also what is not taken has to be finite
    h = jnp.where(regular, h, 1)
    kappa = sde.sigma(safe_t) / sde.alpha(safe_t)
    eps = gaussian.eps_from_x0(sde, x, t, x0)

    def first(u):  # DDIM's step from t to u
        return gaussian.exponential_step(sde, x, t, u, x0)

    def rise(x_u, u):  # eps at (x_u, u) less eps at (x, t)
        return gaussian.eps_from_x0(sde, x_u, u, denoise(x_u, u, cond)) - eps

    def K(u):
        return sde.alpha(u) * kappa - sde.sigma(u)

    def second():
        u = gaussian.time_between(sde, t, s, 1 / 2)
        return first(s) - K(s) * rise(first(u), u)

    def third():
        u1, u2 = (gaussian.time_between(sde, t, s, r) for r in (1 / 3, 2 / 3))
        d1 = rise(first(u1), u1)
        d2 = rise(first(u2) - 2 * (K(u2) / (2 / 3 * h) - sde.sigma(u2)) * d1, u2)
        return first(s) - 3 / 2 * (K(s) / h - sde.sigma(s)) * d2

    return jax.lax.cond(regular, second if order == 2 else third, lambda: first(s))

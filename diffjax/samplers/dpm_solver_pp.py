"""DPM-Solver++ (Lu et al. 2022b) and its SDE variants: exponential integrators for the prediction of x_0.

In lambda = log(alpha/sigma), with h = lambda_s - lambda_t, the reverse process with noise of strength eta solves to

    (1) x_s = sigma_s/sigma_t e^(-eta h) x_t + alpha_s int_0^1 H e^(-H (1 - tau)) x_0(tau) dtau
              + sigma_s sqrt(1 - e^(-2 eta h)) z

with H = (1 + eta) h and tau = (lambda - lambda_t)/h. eta = 0 is the probability-flow ODE, eta = 1 the reverse SDE. The
multistep methods put a polynomial through the last 2 or 3 predictions; the first step is DDIM's (eta = 1: ancestral).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal, safe_log, safe_sqrt
from diffjax.checks import check_number
from diffjax.samplers.arguments import check_scalars, draws
from diffjax.samplers.ddim import split_noise
from diffjax.samplers.dpm_solver import single_step
from diffjax.samplers.drive import State
from diffjax.samplers.multistep import (
    History,
    differences,
    exponential_moments,
    half_logsnr,
    nodes,
    step_length,
    weights,
)
from diffjax.sde import gaussian
from diffjax.typing import pytree, static


@pytree
class DPMpp2M:
    """DPM-Solver++(2M), `eta` > 0: its SDE variant. Second order from any start, one evaluation a step.

    As published: the slope of the last two predictions is taken at the step's middle ("midpoint"). Elsewhere:
    k-diffusion's `sample_dpmpp_2m`, `sample_dpmpp_2m_sde`; diffusers' DPMSolverMultistepScheduler.

    Raises:
      ValueError: eta does not lie in [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self):
        check_number("eta", self.eta, 0, 1)

    @property
    def invertible(self) -> bool:
        return not draws(self.eta)

    def init(self, x: Array) -> History:
        check_scalars(self, "eta")
        return History.start(x, 2)

    def step(self, key, denoise, sde, state, t, s, cond):
        state, tau, _ = _evaluate(self.eta, denoise, sde, state, t, s, cond)
        usable = (state.count > 1) & jnp.isfinite(tau[1]) & (tau[1] != 0)
        slope = jnp.where(usable, 1 / jnp.where(usable, tau[1], 1), 0)  # -h / h_last
        x0 = state.F[0] + slope / 2 * (state.F[1] - state.F[0])
        return _advance(self.eta, key, sde, state, t, s, x0)


@pytree
class DPMpp3M:
    """DPM-Solver++(3M), `eta` > 0: "3M SDE". One evaluation a step; third order from T, second if started mid-way.

    The weights are Eq. 1's for the parabola through three predictions. The codes of Lu et al., k-diffusion
    (`sample_dpmpp_3m_sde`) and diffusers (`solver_order=3`) weigh the second difference with half of its moment, which
    makes them second order. `warm`, for eta = 0: the first step is DPM-Solver-3's, two evaluations more, and the order
    is 3 from any start.

    Raises:
      ValueError: eta does not lie in [0, 1], or is not 0 though `warm`.
    """

    eta: float = 0.0
    warm: bool = static(default=False)

    def __post_init__(self):
        check_number("eta", self.eta, 0, 1)
        if self.warm and draws(self.eta):
            raise ValueError(f"warm steps are deterministic: they begin runs with eta = 0, got eta = {self.eta}")

    @property
    def invertible(self) -> bool:
        return not draws(self.eta)

    def init(self, x: Array) -> History:
        check_scalars(self, "eta")
        return History.start(x, 3)

    def step(self, key, denoise, sde, state, t, s, cond):
        start = state.x
        state, tau, H = _evaluate(self.eta, denoise, sde, state, t, s, cond)
        total = -jnp.expm1(-H)
        w = weights(tau, state.count, exponential_moments(H, 3))[1:] / jnp.where(total == 0, 1, total)
        x0 = state.F[0] + jnp.tensordot(w, differences(state.F), 1)
        stepped = _advance(self.eta, key, sde, state, t, s, x0)
        if not self.warm:
            return stepped

        def single():
            return single_step(3, denoise, sde, start, t, s, cond, state.F[0])

        x = jax.lax.cond(state.count < 2, single, lambda: stepped.x)
        return stepped._replace(x=x, mean=x)


def _evaluate(eta, denoise, sde, state: History, t, s, cond):
    """The history with x_0 at t, its nodes tau, and H."""
    state = state.push(denoise(state.x, t, cond), t)
    h = step_length(sde, t, s)
    return state, nodes(partial(half_logsnr, sde), state.times, s), (1 + eta) * h


def _advance(eta, key, sde, state: History, t, s, x0) -> History:
    """Eq. 1 for a constant x_0."""
    x, ratio = state.x, _ratio(sde, t, s)
    moves = ratio > 0
    # e^(-eta h), with finite slopes
    decay = jnp.where(moves, jnp.where(moves, ratio, 1) ** eta, jnp.where(jnp.asarray(eta) == 0, 1.0, 0.0))
    sigma_t = sde.sigma(t)
    shrink = sde.sigma(s) / jnp.where(sigma_t == 0, 1, sigma_t) * decay
    mean = shrink * x + (sde.alpha(s) - shrink * sde.alpha(t)) * x0
    return state._replace(x=mean + sde.sigma(s) * safe_sqrt((1 - decay) * (1 + decay)) * normal(key, x), mean=mean)


def _ratio(sde, t, s) -> Array:
    """e^(-h) = kappa_s/kappa_t: 0 into t = 0 and out of alpha = 0, 1 for a step of length 0, wherever it stands."""
    down, up = sde.sigma(s) * sde.alpha(t), sde.sigma(t) * sde.alpha(s)
    return jnp.where(t == s, 1, down / jnp.where(up == 0, 1, up))


@pytree
class DPMpp2S:
    """DPM-Solver++(2S), with `eta` > 0 ancestral. Second order (eta = 0) from any start, two evaluations a step.

    With eta the step goes to a lower noise level than s, and noise then leads up to s, as in ancestral sampling.
    Elsewhere: k-diffusion's `sample_dpmpp_2s_ancestral`, diffusers' DPMSolverSinglestepScheduler.

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
        sigma_down, up = split_noise(sde, t, s, self.eta)
        alpha_s, start = sde.alpha(s), half_logsnr(sde, t)
        h = safe_log(alpha_s) - safe_log(sigma_down) - start
        regular = jnp.isfinite(h) & (h != 0)
        middle = jnp.where(regular, start, 0) + jnp.where(regular, h, 0) / 2

        def to_down(x0):
            sigma_t = sde.sigma(t)
            shrink = sigma_down / jnp.where(sigma_t == 0, 1, sigma_t)
            return shrink * x + (alpha_s - shrink * sde.alpha(t)) * x0

        def second():
            u = gaussian.time_of_logsnr(sde, 2 * middle)
            return to_down(denoise(gaussian.exponential_step(sde, x, t, u, x0), u, cond))

        mean = jax.lax.cond(regular, second, lambda: to_down(x0))
        return state._replace(x=mean + up * normal(key, x), mean=mean)

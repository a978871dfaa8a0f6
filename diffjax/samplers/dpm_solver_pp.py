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
from diffjax.samplers.ddim import split_noise
from diffjax.samplers.drive import State
from diffjax.samplers.multistep import History, differences, exponential_moments, half_logsnr, nodes, weights
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class DPMpp2M:
    """DPM-Solver++(2M), `eta` > 0: its SDE variant ("2M SDE"). Second order, one evaluation a step.

    As published: the slope of the last two predictions is taken at the step's middle (k-diffusion: "midpoint").
    """

    eta: float = 0.0

    def init(self, x: Array) -> History:
        return History.start(x, 2)

    def step(self, key, denoise, sde, state, t, s, cond):
        state, tau, _ = _evaluate(self.eta, denoise, sde, state, t, s, cond)
        usable = (state.count > 1) & jnp.isfinite(tau[1]) & (tau[1] != 0)
        slope = jnp.where(usable, 1 / jnp.where(usable, tau[1], 1), 0)  # -h / h_last
        x0 = state.F[0] + slope / 2 * (state.F[1] - state.F[0])
        return _advance(self.eta, key, sde, state, t, s, x0)


@pytree
class DPMpp3M:
    """DPM-Solver++(3M), `eta` > 0: "3M SDE". Third order after its first steps, one evaluation a step.

    The weights are Eq. 1's for the parabola through three predictions. The codes of Lu et al., k-diffusion and
    diffusers weigh the second difference with half of its moment, which makes them second order.
    """

    eta: float = 0.0

    def init(self, x: Array) -> History:
        return History.start(x, 3)

    def step(self, key, denoise, sde, state, t, s, cond):
        state, tau, H = _evaluate(self.eta, denoise, sde, state, t, s, cond)
        total = -jnp.expm1(-H)
        w = weights(tau, state.count, exponential_moments(H, 3))[1:] / jnp.where(total == 0, 1, total)
        x0 = state.F[0] + jnp.tensordot(w, differences(state.F), 1)
        return _advance(self.eta, key, sde, state, t, s, x0)


def _evaluate(eta, denoise, sde, state: History, t, s, cond):
    """The history with x_0 at t, its nodes tau, and H."""
    state = state.push(denoise(state.x, t, cond), t)
    h = half_logsnr(sde, s) - half_logsnr(sde, t)
    return state, nodes(partial(half_logsnr, sde), state.times, s), (1 + eta) * h


def _advance(eta, key, sde, state: History, t, s, x0) -> History:
    """Eq. 1 for a constant x_0."""
    x, ratio = state.x, _ratio(sde, t, s)
    decay = ratio**eta  # e^(-eta h)
    shrink = sde.sigma(s) / sde.sigma(t) * decay
    mean = shrink * x + (sde.alpha(s) - shrink * sde.alpha(t)) * x0
    return state._replace(x=mean + sde.sigma(s) * safe_sqrt((1 - decay) * (1 + decay)) * normal(key, x), mean=mean)


def _ratio(sde, t, s) -> Array:
    """e^(-h) = kappa_s/kappa_t, in [0, 1]; 0 into t = 0 and out of alpha = 0."""
    return sde.sigma(s) * sde.alpha(t) / (sde.sigma(t) * sde.alpha(s))


@pytree
class DPMpp2S:
    """DPM-Solver++(2S), `eta` > 0: "2S ancestral" of k-diffusion. Second order (eta = 0), two evaluations a step.

    With eta the step goes to a lower noise level than s, and noise then leads up to s, as in ancestral sampling.
    """

    eta: float = 0.0

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        sigma_down, up = split_noise(sde, t, s, self.eta)
        alpha_s, start = sde.alpha(s), half_logsnr(sde, t)
        h = safe_log(alpha_s) - safe_log(sigma_down) - start

        def to_down(x0):
            shrink = sigma_down / sde.sigma(t)
            return shrink * x + (alpha_s - shrink * sde.alpha(t)) * x0

        def second():
            u = gaussian.time_of_logsnr(sde, 2 * (start + h / 2))
            return to_down(denoise(gaussian.exponential_step(sde, x, t, u, x0), u, cond))

        mean = jax.lax.cond(jnp.isfinite(h) & (h != 0), second, lambda: to_down(x0))
        return state._replace(x=mean + up * normal(key, x), mean=mean)

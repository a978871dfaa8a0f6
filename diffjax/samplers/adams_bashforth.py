"""Adams-Bashforth methods for the noise prediction: LMS, DEIS, PNDM.

With kappa = sigma/alpha the probability-flow ODE is d(x/alpha)/dkappa = eps, so that

    (1) x_s = alpha_s/alpha_t x_t + alpha_s int_t^s eps dkappa

The three integrate a polynomial through the last evaluations of eps: in kappa (LMS: k-diffusion's linear multistep), in
t (DEIS: Zhang & Chen 2023, Eq. 15, tAB), or in t as if dkappa were uniform too (PNDM: Liu et al. 2022, Eq. 13 with
Adams-Bashforth's numbers; begun with lower orders, as in Zhang & Chen's iPNDM, instead of Runge-Kutta steps).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast
from diffjax.checks import check_count
from diffjax.samplers.dpm_solver import single_step
from diffjax.samplers.multistep import (
    POINT_WEIGHTS,
    POINTS,
    History,
    differences,
    nodes,
    weights,
)
from diffjax.sde import gaussian
from diffjax.sde.gaussian import noise_to_signal
from diffjax.typing import SDE, Time, pytree, static


@pytree
class LMS:
    """Polynomials in kappa; one evaluation a step, of order 1 to 4, deterministic.

    The order holds for runs from T; started mid-way it is 2 at most. With `warm` it holds from any start: the first
    `order` - 2 steps are DPM-Solver-3's, with two evaluations more. Elsewhere: k-diffusion's `sample_lms`, diffusers'
    LMSDiscreteScheduler.

    Raises:
      ValueError: there is no such order.
    """

    order: int = static(default=4)
    warm: bool = static(default=False)

    def __post_init__(self):
        check_count("order", self.order, 1, 4)

    def init(self, x: Array) -> History:
        return History.start(x, self.order)

    def step(self, key, denoise, sde, state, t, s, cond):
        def clock(times):
            return noise_to_signal(sde, times)

        measure = clock, 1 / jnp.arange(1.0, self.order + 1)
        return _step(denoise, sde, state, t, s, cond, measure, self.warm)


@pytree
class DEIS:
    """Polynomials in t, integrated against the exact dkappa; one evaluation a step, of order 1 to 4, deterministic.

    The order holds for runs from T; started mid-way it is 2 at most. With `warm` it holds from any start: the first
    `order` - 2 steps are DPM-Solver-3's, with two evaluations more. Elsewhere: tAB-DEIS; diffusers'
    DEISMultistepScheduler is its relative in log(sigma/alpha).

    Raises:
      ValueError: there is no such order.
    """

    order: int = static(default=3)
    warm: bool = static(default=False)

    def __post_init__(self):
        check_count("order", self.order, 1, 4)

    def init(self, x: Array) -> History:
        return History.start(x, self.order)

    def step(self, key, denoise, sde, state, t, s, cond):
        measure = (lambda times: times), self._moments(sde, t, s)
        return _step(denoise, sde, state, t, s, cond, measure, self.warm)

    def _moments(self, sde: SDE, t: Time, s: Time) -> Array:
        """int_0^1 tau^k dkappa / (kappa_s - kappa_t): by parts, as kappa' may be infinite at t = 0, and by Gauss."""
        end, start = noise_to_signal(sde, s), noise_to_signal(sde, t)
        tau, w = (jnp.asarray(v, end.dtype) for v in (POINTS, POINT_WEIGHTS))
        k = jnp.arange(1, self.order)[:, None]
        left = end - noise_to_signal(sde, t + tau * (s - t))  # the differences of levels that are close, then their sum
        rise = jnp.where(jnp.isfinite(end - start) & (end != start), end - start, jnp.inf)  # inf: the step is DDIM's
        return jnp.concatenate([jnp.ones(1, end.dtype), (w * k * tau ** (k - 1) * left).sum(-1) / rise])


@pytree
class PNDM:
    """Adams-Bashforth in equal steps of t, then DDIM's step with the mean eps; one evaluation a step, deterministic.

    Second order for every `order` from 2 to 4, from any start. Elsewhere: iPNDM (diffusers' IPNDMScheduler). `PLMS` is
    Stable Diffusion's variant.

    Raises:
      ValueError: there is no such order.
    """

    order: int = static(default=4)

    def __post_init__(self):
        check_count("order", self.order, 1, 4)

    def init(self, x: Array) -> History:
        return History.start(x, self.order)

    def step(self, key, denoise, sde, state, t, s, cond):
        measure = (lambda times: times), 1 / jnp.arange(1.0, self.order + 1)
        return _step(denoise, sde, state, t, s, cond, measure)


def _step(denoise, sde, state: History, t, s, cond, measure: tuple[Callable, Array], warm: bool = False) -> History:
    """Eq. 1 with the polynomial's weights, written around DDIM's step so that alpha_t = 0 does no harm.

    `measure` is the clock and the moments. `warm`: with j < k - 1 points, whose polynomial's local error is of order
    j + 1, the step is a single one.
    """
    x, (clock, moments) = state.x, measure
    x0 = denoise(x, t, cond)
    state = state.push(gaussian.eps_from_x0(sde, x, t, x0), t)
    tau = nodes(clock, state.times, s)
    w = weights(tau, state.count, moments.astype(tau.dtype))[1:]
    start, end = noise_to_signal(sde, t), noise_to_signal(sde, s)
    finite = jnp.isfinite(start) & jnp.isfinite(end)
    rise = jnp.where(finite, end, 0) - jnp.where(finite, start, 0)
    correction = jnp.tensordot(w * rise, differences(state.F), 1)
    stepped = gaussian.exponential_step(sde, x, t, s, x0) + bcast(sde.alpha(s), x) * correction
    if warm:
        single = partial(single_step, 3, denoise, sde, x, t, s, cond, x0)
        stepped = jax.lax.cond(state.count < len(state.times) - 1, single, lambda: stepped)
    return state._replace(x=stepped, mean=stepped)

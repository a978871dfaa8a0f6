"""Adams-Bashforth methods for the noise prediction: LMS, DEIS, PNDM.

With kappa = sigma/alpha the probability-flow ODE is d(x/alpha)/dkappa = eps, so that

    (1) x_s = alpha_s/alpha_t x_t + alpha_s int_t^s eps dkappa

The three integrate a polynomial through the last evaluations of eps: in kappa (LMS: k-diffusion's linear multistep), in
t (DEIS: Zhang & Chen 2023, Eq. 15, tAB), or in t as if dkappa were uniform too (PNDM: Liu et al. 2022, Eq. 13 with
Adams-Bashforth's numbers; begun with lower orders, as in Zhang & Chen's iPNDM, instead of Runge-Kutta steps).
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import bcast
from diffjax.samplers.multistep import History, differences, nodes, noise_level, weights
from diffjax.sde import gaussian
from diffjax.typing import SDE, Time, pytree, static

POINTS, POINT_WEIGHTS = ((np.polynomial.legendre.leggauss(16)[0] + 1) / 2, np.polynomial.legendre.leggauss(16)[1] / 2)


@pytree
class LMS:
    """Polynomials in kappa; one evaluation a step, of order 1 to 4, deterministic."""

    order: int = static(default=4)

    def init(self, x: Array) -> History:
        return _start(self.order, x)

    def step(self, key, denoise, sde, state, t, s, cond):
        def clock(times):
            return noise_level(sde, times)

        return _step(denoise, sde, state, t, s, cond, clock, 1 / jnp.arange(1.0, self.order + 1))


@pytree
class DEIS:
    """Polynomials in t, integrated against the exact dkappa; one evaluation a step, deterministic."""

    order: int = static(default=3)

    def init(self, x: Array) -> History:
        return _start(self.order, x)

    def step(self, key, denoise, sde, state, t, s, cond):
        return _step(denoise, sde, state, t, s, cond, lambda times: times, self._moments(sde, t, s))

    def _moments(self, sde: SDE, t: Time, s: Time) -> Array:
        """int_0^1 tau^k dkappa / (kappa_s - kappa_t): by parts, as kappa' may be infinite at t = 0, and by Gauss."""
        end, start = noise_level(sde, s), noise_level(sde, t)
        tau, w = (jnp.asarray(v, end.dtype) for v in (POINTS, POINT_WEIGHTS))
        k = jnp.arange(1, self.order)[:, None]
        integrals = (w * k * tau ** (k - 1) * noise_level(sde, t + tau * (s - t))).sum(-1)
        rise = jnp.where(end == start, 1, end - start)
        return jnp.concatenate([jnp.ones(1, end.dtype), (end - integrals) / rise])


@pytree
class PNDM:
    """Adams-Bashforth in equal steps of t, then DDIM's step with the mean eps; second order for every `order` >= 2."""

    order: int = static(default=4)

    def init(self, x: Array) -> History:
        return _start(self.order, x)

    def step(self, key, denoise, sde, state, t, s, cond):
        return _step(denoise, sde, state, t, s, cond, lambda times: times, 1 / jnp.arange(1.0, self.order + 1))


def _start(order: int, x: Array) -> History:
    if not 1 <= order <= 4:
        raise ValueError(f"Adams-Bashforth methods here have order 1 to 4, got {order}")
    return History.start(x, order)


def _step(denoise, sde, state: History, t, s, cond, clock: Callable, moments: Array) -> History:
    """Eq. 1 with the polynomial's weights, written around DDIM's step so that alpha_t = 0 does no harm."""
    x = state.x
    x0 = denoise(x, t, cond)
    state = state.push(gaussian.eps_from_x0(sde, x, t, x0), t)
    tau = nodes(clock, state.times, s)
    w = weights(tau, state.count, moments.astype(tau.dtype))[1:]
    rise = noise_level(sde, s) - noise_level(sde, t)
    correction = jnp.tensordot(w * jnp.where(jnp.isfinite(rise), rise, 0), differences(state.F), 1)
    x = gaussian.exponential_step(sde, x, t, s, x0) + bcast(sde.alpha(s), x) * correction
    return state._replace(x=x, mean=x)

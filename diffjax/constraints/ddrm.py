"""Denoising diffusion restoration (DDRM, Kawar et al. 2022, Eq. 7-8), and with eta_b = 1 DDNM+ (Wang et al. 2023).

With A = U S V^T let z = V^T x_0, e = V^T eps and u = U^T y, x_0 and eps the network's at t, tau the noise of y, zeta
fresh noise, and kappa = sigma_s/alpha_s at the time s that the step leads to. A step is x_s = alpha_s V q with

    (1) S = 0:             q = z + sqrt(1 - eta^2) kappa e + eta kappa zeta
    (2) S kappa < tau:     q = z + sqrt(1 - eta^2) kappa (u - S z) / tau + eta kappa zeta
    (3) S kappa >= tau:    q = (1 - eta_b) z + eta_b u / S + sqrt(kappa^2 - eta_b^2 tau^2 / S^2) zeta

DDNM+ (its Appendix I) writes (2) as z + lam (u/S - z) with lam = S kappa sqrt(1 - eta^2) / tau, and (3) for eta_b = 1:
the two methods are one sampler. At the end kappa = 0: entries with noise are the network's, those without are y's.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal, safe_sqrt
from diffjax.operators.linear import divide, require_svd
from diffjax.operators.measurement import Measurement
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class DDRM:
    """A sampler of one evaluation a step that holds a measurement by a linear operator; 20 to 100 steps.

    Raises:
      TypeError: the operator has no decomposition.
    """

    measurement: Measurement
    eta: Any = 0.85
    eta_b: Any = 1.0

    def __post_init__(self):
        require_svd(self.measurement.operator, "DDRM")

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x, A, tau = state.x, self.measurement.operator, self.measurement.noise_std
        x0 = denoise(x, t, cond)
        alpha, sigma = gaussian.curves(sde, s, x)
        kappa, keep = sigma / alpha, safe_sqrt((1 - self.eta) * (1 + self.eta))
        z, e = A.Vt(x0), A.Vt(gaussian.eps_from_x0(sde, x, t, x0))
        miss = A.Ut(self.measurement.residual(x0))  # u - S z, 0 beyond the measurement
        blind, loud = A.s == 0, (A.s > 0) & (A.s * kappa < tau)
        quiet = z + self.eta_b * divide(miss, A.s)
        mean = jnp.where(blind, z + keep * kappa * e, jnp.where(loud, z + keep * kappa * miss / _one(tau), quiet))
        left = safe_sqrt(jnp.maximum(kappa**2 - (self.eta_b * divide(jnp.asarray(tau), A.s)) ** 2, 0))
        std = jnp.where(blind | loud, self.eta * kappa, left)
        noise = std * A.Vt(normal(key, x))
        mean = alpha * A.V(mean)
        return state._replace(x=(mean + alpha * A.V(noise)).astype(x.dtype), mean=mean.astype(x.dtype))


def _one(tau: Any) -> Array:
    """tau, or 1 where there is no noise and (2) is never taken."""
    return jnp.where(jnp.asarray(tau) > 0, tau, 1)

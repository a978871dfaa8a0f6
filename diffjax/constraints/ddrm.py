"""Denoising diffusion restoration (DDRM, Kawar et al. 2022, Eq. 7-8), and with eta_b = 1 DDNM+ (Wang et al. 2023).

With A = U S V^T let z = V^T x_0, e = V^T eps and u = U^T y, x_0 and eps the network's at t, tau the noise of y, zeta
fresh noise, and kappa = sigma_s/alpha_s at the time s that the step leads to. A step is x_s = alpha_s V q with

    (1) S = 0:             q = z + sqrt(1 - eta^2) kappa e + eta kappa zeta
    (2) S kappa < tau:     q = z + sqrt(1 - eta^2) kappa (u - S z) / tau + eta kappa zeta
    (3) S kappa >= tau:    q = (1 - eta_b) z + eta_b u / S + sqrt(kappa^2 - eta_b^2 tau^2 / S^2) zeta

(alpha_s q is what is computed, so that alpha_s = 0 is an ordinary time: x_s is then noise of law N(0, sigma_s^2).)

DDNM+ (its Appendix I) writes (2) as z + lam (u/S - z) with lam = S kappa sqrt(1 - eta^2) / tau, and (3) for eta_b = 1:
the two methods are one sampler. At the end kappa = 0: entries with noise are the network's, those without are y's.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal, safe_sqrt
from diffjax.checks import check_number
from diffjax.constraints.arguments import check_fits, check_measurement
from diffjax.operators.linear import divide
from diffjax.operators.measurement import Measurement
from diffjax.samplers.arguments import check_scalars
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class DDRM:
    """A sampler of one evaluation a step that holds a measurement by a linear operator; 20 to 100 steps.

    Raises:
      TypeError: the measurement is none by an operator with a decomposition.
      ValueError: eta or eta_b does not lie in [0, 1].
    """

    measurement: Measurement
    eta: Any = 0.85
    eta_b: Any = 1.0
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        check_measurement(self.measurement, "DDRM")
        for name in ("eta", "eta_b"):
            check_number(name, getattr(self, name), 0, 1)

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        check_scalars(self, "eta", "eta_b")
        check_fits(self.measurement, state.x)
        x, A, tau = state.x, self.measurement.operator, self.measurement.noise_std
        x0 = denoise(x, t, cond)
        alpha, sigma = gaussian.curves(sde, s, x)
        keep = sigma * safe_sqrt((1 - self.eta) * (1 + self.eta))
        z, e = A.Vt(x0), A.Vt(gaussian.eps_from_x0(sde, x, t, x0))
        miss = A.Ut(self.measurement.residual(x0))  # u - S z, 0 beyond the measurement
        blind, loud = A.s == 0, (A.s > 0) & (A.s * sigma < alpha * tau)
        quiet = alpha * (z + self.eta_b * divide(miss, A.s))
        mean = jnp.where(blind, alpha * z + keep * e, jnp.where(loud, alpha * z + keep * miss / _one(tau), quiet))
        known = self.eta_b * alpha * divide(jnp.asarray(tau), A.s)
        left = safe_sqrt(jnp.maximum((sigma - known) * (sigma + known), 0))
        noise = jnp.where(blind | loud, self.eta * sigma, left) * A.Vt(normal(key, x))
        mean = A.V(mean)
        return state._replace(x=(mean + A.V(noise)).astype(x.dtype), mean=mean.astype(x.dtype))


def _one(tau: Any) -> Array:
    """tau, or 1 where there is no noise and (2) is never taken."""
    return jnp.where(jnp.asarray(tau) > 0, tau, 1)

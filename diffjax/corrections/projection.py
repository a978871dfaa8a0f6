"""Corrections by the pseudo-inverse of a linear operator.

    (1) x_0 <- x_0 + A^+ (y - A x_0)                                       range-null space decomposition (DDNM)
    (2) x_0 <- argmin_x |y - A x|^2 / noise_std^2 + |x - x_0|^2 / r^2      proximal step (DiffPIR)
             = x_0 + V [s (U^T y - s V^T x_0) / (s^2 + (noise_std / r)^2)]

(1) keeps of x_0 what A cannot see and takes the rest from y (Wang et al. 2023, Eq. 10), noise included. (2) trusts y by
its noise: r(t) is how far x_0 is trusted to lie from the truth. Zhu et al. (2023, DiffPIR, Eq. 12) take
r = (sigma/alpha) / sqrt(lambda).
"""

from typing import Any

from jax import Array

from diffjax.checks import check_has, check_number
from diffjax.operators.linear import divide, require_linear
from diffjax.operators.measurement import Measurement, require_noise
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Time, pytree


@pytree
class Project:
    """Eq. 1, by a linear operator; the measurement's noise, if it has any, is kept. TypeError for other operators."""

    measurement: Measurement

    def __post_init__(self):
        require_linear(self.measurement, "projection")

    def __call__(self, x0: Array, t: Time = 0.0, cond: Cond = None) -> Array:
        A = self.measurement.operator
        return (x0 + A.V(divide(A.Ut(self.measurement.residual(x0)), A.s))).astype(x0.dtype)


@pytree
class Proximal:
    """Eq. 2 with r = (sigma/alpha) / sqrt(lam); lam = 1 trusts the estimate as far as the noise level tells.

    Where r is infinite, at alpha = 0 or lam = 0, it is the projection (1); at sigma = 0, where r = 0, x_0 itself.

    Raises:
      TypeError: the operator has no decomposition.
      ValueError: the measurement has no noise, or lam is negative.
    """

    measurement: Measurement
    sde: SDE
    lam: Any = 1.0

    def __post_init__(self):
        require_linear(self.measurement, "the proximal step")
        require_noise(self.measurement, "the proximal step")
        check_has(self.sde, "a process, such as dj.VP(),", "alpha", "sigma", "T")
        check_number("lam", self.lam, 0)

    def __call__(self, x0: Array, t: Time, cond: Cond = None) -> Array:
        A, (alpha, sigma) = self.measurement.operator, gaussian.curves(self.sde, t, x0)
        # s / (s^2 + lam (noise_std alpha / sigma)^2), in a form that is finite at sigma = 0
        weight = divide(sigma**2 * A.s, sigma**2 * A.s**2 + self.lam * (alpha * self.measurement.noise_std) ** 2)
        return (x0 + A.V(weight * A.Ut(self.measurement.residual(x0)))).astype(x0.dtype)

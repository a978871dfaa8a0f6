"""Guidance by a measurement or a loss, with the gradient taken through the denoiser.

The score of p_t(x | y) is that of p_t(x) plus grad_x log p(y | x_t). With x_0(x) the denoiser, J its Jacobian:

    (1) log p(y | x_t) ~ -scale L(x_0(x_t))                                reconstruction guidance (Ho et al. 2022)
    (2) grad = J^T A^T (r^2 A A^T + noise_std^2 I)^-1 (y - A x_0)          PiGDM (Song et al. 2023, Eq. 7)
    (3) r^2 = kappa^2 / (1 + kappa^2), kappa = sigma/alpha                 as if x_0 were N(0, I) (its Section 3.2)

and, by Tweedie's formula, x_0 <- x_0 + (sigma^2 / alpha) grad_x log p(y | x_t). One forward and one backward pass of
the network. With Cov[x_0 | x_t] in place of r^2 I see `moments`. The paper-exact DPS, whose gradient is added to the
step instead, is `constraints.DPS`.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import bcast, scheduled
from diffjax.corrections.gradient import per_example
from diffjax.operators.linear import divide, require_svd
from diffjax.operators.measurement import Measurement
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_child, as_partial


def reconstruction(denoise: Denoiser, sde: SDE, loss: Callable, scale: Any = 1.0) -> Denoiser:
    """Eq. 1 for any loss `(x_0, cond) -> [B]`; |y - A(x_0)|^2 / (2 v) with scale 1 assumes y ~ N(A(x_0), v I).

    `scale` is a number, [B], or a function of t; 0 is the unguided denoiser.
    """
    return Partial(_reconstruction, as_partial(denoise), sde, as_partial(loss), as_child(scale))


def pigdm(denoise: Denoiser, sde: SDE, measurement: Measurement, r: Callable | None = None) -> Denoiser:
    """Pseudo-inverse guidance (Eq. 2) for a linear operator.

    Args:
      r: the standard deviation of x_0 given x_t as a function of t, Eq. 3 by default.

    Raises:
      TypeError: the operator has no decomposition.
    """
    require_svd(measurement.operator, "PiGDM")
    return Partial(_pigdm, as_partial(denoise), sde, measurement, as_child(r))


def _reconstruction(denoise, sde, loss, scale, x: Array, t: Time, cond: Cond = None) -> Array:
    def objective(x):
        x0 = denoise(x, t, cond)
        return per_example(loss(x0, cond), x).sum(), x0

    grad, x0 = jax.grad(objective, has_aux=True)(x)
    c = bcast(scheduled(scale, t), x)
    return x0 - c * _tweedie(sde, x, t) * grad


def _pigdm(denoise, sde, measurement, r, x: Array, t: Time, cond: Cond = None) -> Array:
    x0, pull_back = jax.vjp(lambda x: denoise(x, t, cond), x)
    A, (alpha, sigma) = measurement.operator, gaussian.curves(sde, t, x)
    r2 = sigma**2 / (alpha**2 + sigma**2) if r is None else bcast(r(t), x) ** 2
    # the solution lies in A's range; where s^2 r^2 + noise^2 = 0 nothing is measured
    spectrum = divide(A.s * A.Ut(measurement.residual(x0)), r2 * A.s**2 + measurement.noise_std**2)
    return x0 + _tweedie(sde, x, t) * pull_back(A.V(spectrum).astype(x0.dtype))[0]


def _tweedie(sde: SDE, x: Array, t: Time) -> Array:
    """sigma^2 / alpha: how far x_0 moves for a unit of score."""
    alpha, sigma = gaussian.curves(sde, t, x)
    return sigma**2 / alpha

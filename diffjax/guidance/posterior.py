"""Guidance by a measurement or a loss, with the gradient taken through the denoiser.

The score of p_t(x | y) is that of p_t(x) plus grad_x log p(y | x_t). With x_0(x) the denoiser, J its Jacobian:

    (1) log p(y | x_t) ~ -scale L(x_0(x_t))                                reconstruction guidance (Ho et al. 2022)
    (2) grad = J^T A^T (r^2 A A^T + noise_std^2 I)^-1 (y - A x_0)          PiGDM (Song et al. 2023, Eq. 7)
    (3) r^2 = kappa^2 / (1 + kappa^2), kappa = sigma/alpha                 as if x_0 were N(0, I) (its Section 3.2)

and, by Tweedie's formula, x_0 <- x_0 + (sigma^2 / alpha) grad_x log p(y | x_t). One forward and one backward pass of
the network. With Cov[x_0 | x_t] in place of r^2 I see `moments`. Where alpha = 0 (at T of some processes) the factor is
taken for 0, and the guide leaves x_0 as it is for that one step: J is 0 there, and the limit of sigma^2/alpha J, a
covariance, cannot be had from it. The paper-exact DPS, whose gradient is added to the step instead, is
`constraints.DPS`.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import bcast, scheduled
from diffjax.checks import check_schedule
from diffjax.corrections.gradient import per_example
from diffjax.operators.linear import divide, require_linear
from diffjax.operators.measurement import Measurement
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_child, as_partial, check_takes


def reconstruction(denoise: Denoiser, sde: SDE, loss: Callable, scale: Any = 1.0) -> Denoiser:
    """Eq. 1 for any loss `(x_0, cond) -> [B]`; |y - A(x_0)|^2 / (2 v) with scale 1 assumes y ~ N(A(x_0), v I).

    `scale` is a number, [B], or a function of t; 0 is the unguided denoiser.

    Raises:
      TypeError: the scale is no number, the loss no function.
      ValueError: the loss does not take (x_0, cond), or `denoise` was made for another process.
    """
    check_process(denoise, sde)
    check_schedule("the scale", scale)
    check_takes(as_partial(loss), "a guiding loss", "x0", "cond")
    return Partial(_reconstruction, as_partial(denoise), sde, as_partial(loss), as_child(scale))


def pigdm(denoise: Denoiser, sde: SDE, measurement: Measurement, r: Any = None) -> Denoiser:
    """Pseudo-inverse guidance (Eq. 2) for a linear operator.

    Args:
      r: the standard deviation of x_0 given x_t, a number or a function of t; Eq. 3 by default.

    Raises:
      TypeError: `measurement` is no measurement, or its operator has no decomposition.
      ValueError: r is negative, or `denoise` was made for another process.
    """
    require_linear(measurement, "PiGDM")
    check_process(denoise, sde)
    if r is not None:
        check_schedule("r", r, 0)
    return Partial(_pigdm, as_partial(denoise), sde, measurement, as_child(r))


def _reconstruction(denoise, sde, loss, scale, x: Array, t: Time, cond: Cond = None) -> Array:
    def objective(x):
        x0 = denoise(x, t, cond)
        return per_example(loss(x0, cond), x).sum(), x0

    grad, x0 = jax.grad(objective, has_aux=True)(x)
    c = bcast(scheduled(scale, t), x)
    return (x0 - c * _tweedie(sde, x, t) * grad).astype(x0.dtype)


def _pigdm(denoise, sde, measurement, r, x: Array, t: Time, cond: Cond = None) -> Array:
    x0, pull_back = jax.vjp(lambda x: denoise(x, t, cond), x)
    A, (alpha, sigma) = measurement.operator, gaussian.curves(sde, t, x)
    r2 = sigma**2 / (alpha**2 + sigma**2) if r is None else bcast(scheduled(r, t), x) ** 2
    # the solution lies in A's range; where s^2 r^2 + noise^2 = 0 nothing is measured
    spectrum = divide(A.s * A.Ut(measurement.residual(x0)), r2 * A.s**2 + measurement.noise_std**2)
    return (x0 + _tweedie(sde, x, t) * pull_back(A.V(spectrum).astype(x0.dtype))[0]).astype(x0.dtype)


def _tweedie(sde: SDE, x: Array, t: Time) -> Array:
    """sigma^2 / alpha: how far x_0 moves for a score of 1; 0 where alpha = 0."""
    alpha, sigma = gaussian.curves(sde, t, x)
    return divide(sigma**2, alpha)

"""PiGDM with the covariance that the denoiser itself implies: exact where the posterior of x_0 given x_t is Gaussian.

With J the denoiser's Jacobian at x_t, and A^T the adjoint of a linear operator,

    (1) Cov[x_0 | x_t] = (sigma^2 / alpha) J                               Tweedie's formula of second order
    (2) S = A Cov A^T + noise_std^2 I,   S v = y - A x_0,   x_0 <- x_0 + Cov A^T v

so that (2) is Bayes' rule for a Gaussian (Rozet et al. 2024, moment matching posterior sampling; Finzi et al. 2023).

How precisely S v = b is solved counts in units of the noise: a residual d = b - S v moves the result by Cov A^T S^-1 d,
and as the posterior has the precision Cov^-1 + A^T A / noise_std^2, that is

    (3) |d| / noise_std at most, in standard deviations of the posterior.

Where alpha = 0, x_t does not depend on x_0 and J = 0 leaves (1) undefined: there x_0 stays unguided.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import bcast, flat_sum
from diffjax.checks import check_count
from diffjax.operators.linear import divide, require_linear
from diffjax.operators.measurement import Measurement, require_noise
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_partial

DENSE = 512  # up to so many entries of y, S is formed and factored


def pigdm_exact(denoise: Denoiser, sde: SDE, measurement: Measurement, iterations: int | None = None) -> Denoiser:
    """The posterior mean of x_0 given x_t and y for a linear operator (Eq. 2), one forward pass and many backward ones.

    Args:
      iterations: of conjugate gradients, a backward pass each; on images a few do (Rozet et al. take one to three).
        By default S is formed, by a backward pass for each entry of y, and solved to the accuracy of its numbers; where
        y has more than 512 entries, conjugate gradients run until (3) is 1e-3, or for as many iterations as y has
        entries.

    Raises:
      TypeError: the operator has no decomposition.
      ValueError: the measurement has no noise: the system could be singular; there are no iterations; or `denoise`
        was made for another process.
    """
    require_linear(measurement, "PiGDM")
    require_noise(measurement, "PiGDM with the exact covariance")
    check_process(denoise, sde)
    if iterations is not None:
        check_count("iterations", iterations, why="conjugate gradients need an iteration or more")
    return Partial(_pigdm_exact, as_partial(denoise), sde, measurement, iterations)


def _pigdm_exact(denoise, sde, measurement, iterations, x: Array, t: Time, cond: Cond = None) -> Array:
    x0, pull_back = jax.vjp(lambda x: denoise(x, t, cond), x)
    A, (alpha, sigma) = measurement.operator, gaussian.curves(sde, t, x)
    factor = jnp.where(alpha == 0, 0, sigma**2 / jnp.where(alpha == 0, 1, alpha)).astype(x0.dtype)

    def back(v):  # Cov A^T v
        return factor * pull_back(A.V(A.s * A.Ut(v)).astype(x0.dtype))[0]

    def system(v):
        return A(back(v)) + measurement.noise_std**2 * v

    b = measurement.residual(x0)
    if iterations is None and b[0].size <= DENSE:
        v = _solve(system, b)
    else:
        v = _conjugate_gradients(system, b, b[0].size if iterations is None else iterations, measurement.noise_std)
    return x0 + back(v)


def _solve(system: Callable, b: Array) -> Array:
    """Each example's own solution v of system(v) = b, from the columns of the matrix."""
    columns = jax.lax.map(
        lambda e: system(jnp.broadcast_to(e, b.shape)), jnp.eye(b[0].size, dtype=b.dtype).reshape(-1, *b.shape[1:])
    )
    matrix = jnp.moveaxis(columns, 0, -1).reshape(len(b), b[0].size, b[0].size)
    return jnp.linalg.solve(matrix, b.reshape(len(b), -1, 1)).reshape(b.shape)


def _conjugate_gradients(system: Callable, b: Array, most: int, noise_std: Array | float) -> Array:
    """Each example's own solution v of system(v) = b; an example that is solved, |d| < 1e-3 noise_std, stands still."""

    def dot(u, v):
        return bcast(flat_sum(u * v), u)

    least = (1e-3 * noise_std) ** 2

    def unsolved(state):
        i, _, _, _, rr = state
        return (i < most) & jnp.any(rr > least)

    def iterate(state):
        i, v, r, p, rr = state
        q = system(p)
        step = jnp.where(rr > least, divide(rr, dot(p, q)), 0)
        r_next = r - step * q
        rr_next = dot(r_next, r_next)
        return i + 1, v + step * p, r_next, r_next + divide(rr_next, rr) * p, rr_next

    start = 0, jnp.zeros_like(b), b, b, dot(b, b)
    return jax.lax.while_loop(unsolved, iterate, start)[1]

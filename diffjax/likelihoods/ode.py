"""Exact log-likelihood through the probability-flow ODE (Song et al. 2021, Eq. 39; Grathwohl et al. 2019).

    (1) d log p_t(x_t)/dt = -div velocity(x_t, t),   log p_0(x_0) = log prior(x_T) + int_0^T div velocity dt
    (2) div v = E[e^T (dv/dx) e] for probes e with E[e e^T] = I: Rademacher (exact for a diagonal Jacobian) or Gaussian,
        or the exact trace by unit vectors; they live in `probes`
    (3) bits per dimension = -log p/(D log 2) + b - log2(high - low), for b-bit data scaled to [low, high]

The probes are drawn once for each example, so that the augmented ODE stays deterministic. One `vjp` gives the velocity
and e^T (dv/dx) together.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import example_keys
from diffjax.conditions import batch_axes, one_example
from diffjax.likelihoods.probes import Probes, Rademacher, check_probes
from diffjax.samplers.ode import check_arrival, integrate
from diffjax.sde import gaussian
from diffjax.times.grids import check_times
from diffjax.typing import SDE, Cond, Denoiser, Key, Time, as_partial


class Estimate(NamedTuple):
    logp: Array  # [B] nats
    std_error: Array  # [B] of logp, from the spread of the probes: NaN for one probe, 0 for the exact trace
    latent: Array  # [B, ...] x at time T
    nfe: Array  # [B] evaluations of the denoiser and its derivatives


def log_likelihood(key: Key, denoise: Denoiser, sde: SDE, x: Array, cond: Cond = None, **options) -> Array:
    """log p(x) of each example in nats, [B]; `estimate` says more and documents the options."""
    return estimate(key, denoise, sde, x, cond, **options).logp


def estimate(
    key: Key,
    denoise: Denoiser,
    sde: SDE,
    x: Array,
    cond: Cond = None,
    *,
    probes: Probes = Rademacher(),
    t_min: Time = 1e-5,
    tol: float = 1e-5,
) -> Estimate:
    """log p(x) of each example, with its standard error.

    Args:
      key: one key, or one for each example [B]; for the probes.
      x: data [B, ...].
      probes: `Rademacher(n)`, `Gaussian(n)`, or `Exact()` for small D; from n = 2 on, `std_error` tells their noise.
      t_min: the time that stands for the data (1e-5 in Score-SDE, 0.002 for EDM).
      tol: relative and absolute tolerance of the ODE solver, for each example by itself.

    Raises:
      ValueError: x is no float array [B, ...], there are no probes, or t_min lies outside [0, sde.T].
      FloatingPointError: the ODE of an example was not solved in 4096 steps, as when x or the denoiser holds NaN.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < 2:
        raise ValueError(f"x must be a float array [B, ...], got {x.dtype} of shape {x.shape}")
    check_probes(probes)
    check_times(t_min, sde)
    keys = example_keys(key, x.shape[0])
    result, arrived = _estimate(keys, as_partial(denoise), sde, x, cond, probes, t_min, tol)
    check_arrival(arrived)
    return result


@jax.jit
def _estimate(keys, denoise, sde, x, cond, probes, t_min, tol) -> tuple[Estimate, Array]:
    def one(key, x, cond):
        vectors = probes.draw(key, x)

        def slope(t, y, _):
            def velocity(x):
                return gaussian.velocity_from_x0(sde, x[None], t, denoise(x[None], t, one_example(cond)))[0]

            v, vjp = jax.vjp(velocity, y[0])
            return v, jax.vmap(lambda e: jnp.vdot(vjp(e)[0], e))(vectors)

        start = (x, jnp.zeros(len(vectors), x.dtype))
        (latent, products), nfe, arrived = integrate(slope, start, t_min, sde.T, tol, tol)
        integral, error = probes.trace(products)
        return Estimate(gaussian.prior_logp(sde, latent[None])[0] + integral, error, latent, nfe), arrived

    return jax.vmap(one, in_axes=(0, 0, batch_axes(cond)))(keys, x, cond)


def bits_per_dim(logp: Array, n_dims: int, bits: int = 8, low: float = -1.0, high: float = 1.0) -> Array:
    """Bits per dimension of `bits`-bit data whose levels were dequantised and scaled to [low, high] (Eq. 3).

    `logp` is in nats, of x with `n_dims` entries; x must be (k + u)/2^bits, u uniform, scaled to [low, high].
    """
    return -logp / (n_dims * math.log(2)) + bits - math.log2(high - low)

"""Exact log-likelihood through the probability-flow ODE (Song et al. 2021, Eq. 39; Grathwohl et al. 2019).

    (1) d log p_t(x_t)/dt = -div velocity(x_t, t),   log p_0(x_0) = log prior(x_T) + int_0^T div velocity dt
    (2) div v = E[e^T (dv/dx) e] for probes e with E[e e^T] = I: Rademacher (exact for a diagonal Jacobian) or Gaussian,
        or the exact trace by unit vectors; see `probes`
    (3) bits per dimension = -log p/(D log 2) + b - log2(high - low), for b-bit data scaled to [low, high]

The probes are drawn once for each example, so that the augmented ODE stays deterministic. One `vjp` gives the velocity
and e^T (dv/dx) together.

With exact traces the ODE is solved to within 1e-3 nats on mixtures in two dimensions. The prior in (1) is N(0,
sigma_T^2 I) and not p_T, in which x_0 still has a share: with x_T = alpha_T x_0 + sigma_T z that costs

    (4) log prior(x_T) - log p_T(x_T) = -(alpha_T / sigma_T) x_0 . z   to first order: 0 on average over z

with the standard deviation (alpha_T/sigma_T) |x_0| nats: 0.007 |x_0| on VP, 0.02 |x_0| on VE, 0.0125 |x_0| on EDM.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import example_keys
from diffjax.checks import check_count, check_key, check_number, known
from diffjax.conditions import as_cond, batch_axes, one_example
from diffjax.likelihoods.probes import Probes, Rademacher, check_probes
from diffjax.precondition import check_start
from diffjax.samplers.arguments import as_state, check_model
from diffjax.samplers.ode import check_arrival, integrate
from diffjax.sde import gaussian
from diffjax.times.grids import check_times
from diffjax.typing import SDE, Cond, Denoiser, Key, Time, as_partial


class Estimate(NamedTuple):
    logp: Array  # [B] nats
    std_error: Array  # [B] of logp, from the spread of the probes: NaN for one probe, 0 for the exact trace
    x_T: Array  # [B, ...] x at time T
    nfe: Array  # [B] evaluations of the denoiser and its derivatives


def log_likelihood(key: Key, denoise: Denoiser, sde: SDE, x: Array, cond: Cond = None, **options) -> Array:
    """log p(x) of each example in nats, [B]; `estimate` returns more and documents the options."""
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
    """log p(x) of each example, with its standard error, in the precision of x but never below float32.

    Args:
      key: one key, or one for each example [B]; for the probes.
      x: data [B, ...], finite floats.
      cond: its arrays with axes are of B examples; see `diffjax.conditions`.
      probes: `Rademacher(n)`, `Gaussian(n)`, or `Exact()` for small D; from n = 2 on `std_error` is their noise.
      t_min: the time that stands for the data (1e-5 in Score-SDE, 0.002 for EDM).
      tol: relative and absolute tolerance of the ODE solver, for each example by itself.

    Raises:
      TypeError: the probes, the SDE or the denoiser are none.
      ValueError: x is no array [B, ...] of finite floats, t_min lies outside [0, sde.T], tol is not positive, the
        condition is of another number of examples, or the denoiser was made for another SDE.
      FloatingPointError: the ODE of an example was not solved in 4096 steps, as when the denoiser returns NaN.
    """
    check_key(key)
    x = as_state(x)
    if x.ndim < 2:
        raise ValueError(f"x must be a float array [B, ...], got {x.dtype} of shape {x.shape}")
    if known(x) and not np.isfinite(np.asarray(x)).all():
        raise ValueError(f"x must be finite: look for NaN in its {x.shape[0]} examples")
    cond = as_cond(cond)
    check_model(denoise, sde, cond, x)
    check_probes(probes)
    check_number("t_min", t_min)
    check_times(t_min, sde)
    check_number("tol", tol, 0, above=True)
    check_start(denoise, sde.T)
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
                x0 = denoise(x[None], t, one_example(cond))
                return gaussian.velocity_from_x0(sde, x[None], t, x0)[0].astype(x.dtype)

            v, vjp = jax.vjp(velocity, y[0].astype(x.dtype))  # diffrax carries y in the precision of t
            return v, jax.vmap(lambda e: jnp.vdot(vjp(e)[0], e))(vectors).astype(x.dtype)

        start = (x, jnp.zeros(len(vectors), x.dtype))
        (x_T, products), nfe, arrived = integrate(slope, start, t_min, sde.T, tol, tol)
        integral, error = probes.trace(products)
        prior = gaussian.prior_logp(sde, x_T[None])[0]
        logp, error, x_T = (a.astype(x.dtype) for a in (prior + integral, error, x_T))
        return Estimate(logp, error, x_T, nfe), arrived

    return jax.vmap(one, in_axes=(0, 0, batch_axes(cond)))(keys, x, cond)


def bits_per_dim(logp: Array, n_dims: int, bits: int = 8, low: float = -1.0, high: float = 1.0) -> Array:
    """Bits per dimension of `bits`-bit data whose levels were dequantised and scaled to [low, high] (Eq. 3).

    `logp` is in nats, of x with `n_dims` entries; x must be (k + u)/2^bits, u uniform, scaled to [low, high].

    Raises:
      ValueError: n_dims or bits is below 1, or low is not below high.
    """
    check_count("n_dims", n_dims)
    check_count("bits", bits)
    if not low < high:
        raise ValueError(f"the data's levels must rise from low to high, got {low} and {high}")
    return -logp / (n_dims * math.log(2)) + bits - math.log2(high - low)

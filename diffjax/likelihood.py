"""Exact log-likelihood through the probability-flow ODE (Song et al. 2021, Eq. 39; Grathwohl et al. 2019).

    (1) d log p_t(x_t)/dt = -div velocity(x_t, t),   log p_0(x_0) = log prior(x_T) + int_0^T div velocity dt
    (2) div v = E[e^T (dv/dx) e] for probes e with E[e e^T] = I: Rademacher (exact for a diagonal Jacobian) or Gaussian
    (3) bits per dimension = -log p/(D log 2) + b - log2(high - low), for b-bit data scaled to [low, high]

The probes are drawn once for each example, so that the augmented ODE stays deterministic. One `jvp` gives the velocity
and its product with a probe together.
"""

import math
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import example_keys
from diffjax.samplers.ode import cond_axes, integrate, one_cond
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Key, Time, as_partial

Divergence = Literal["rademacher", "gaussian", "exact"]


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
    divergence: Divergence = "rademacher",
    n_probes: int = 1,
    t_min: Time = 1e-5,
    tol: float = 1e-5,
) -> Estimate:
    """log p(x) of each example, with its standard error.

    Args:
      key: one key, or one for each example [B]; for the probes.
      x: data [B, ...].
      divergence: the probes of Eq. 2, or "exact": one derivative for each of the D entries, for small D.
      n_probes: probes for each example; from 2 on, `std_error` tells the noise of the estimate.
      t_min: the time that stands for the data (1e-5 in Score-SDE, 0.002 for EDM).
      tol: relative and absolute tolerance of the ODE solver, for each example by itself.

    Raises:
      ValueError: unknown divergence, no probes, or x is no float array.
    """
    if divergence not in ("rademacher", "gaussian", "exact"):
        raise ValueError(f"divergence must be 'rademacher', 'gaussian' or 'exact', got {divergence!r}")
    if n_probes < 1:
        raise ValueError(f"n_probes must be at least 1, got {n_probes}")
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim < 2:
        raise ValueError(f"x must be a float array [B, ...], got {x.dtype} of shape {x.shape}")
    keys = example_keys(key, x.shape[0])
    return Estimate(*_likelihood(keys, as_partial(denoise), sde, x, cond, t_min, tol, divergence, n_probes))


@partial(jax.jit, static_argnames=("divergence", "n_probes"))
def _likelihood(keys, denoise, sde, x, cond, t_min, tol, divergence, n_probes):
    def one(key, x, cond):
        probes = _probes(key, x, divergence, n_probes)  # [P, ...]

        def slope(t, y, _):
            def velocity(x):
                return gaussian.velocity_from_x0(sde, x[None], t, denoise(x[None], t, one_cond(cond)))[0]

            v, jvp = jax.linearize(velocity, y[0])
            return v, jax.vmap(lambda e: jnp.vdot(e, jvp(e)))(probes)

        start = (x, jnp.zeros(len(probes), x.dtype))
        (latent, traces), nfe = integrate(slope, start, t_min, sde.T, tol, tol)
        if divergence == "exact":
            integral, error = traces.sum(), jnp.zeros((), x.dtype)
        else:  # NaN for one probe: its spread is unknown
            integral, error = traces.mean(), traces.std(ddof=1) / math.sqrt(n_probes)
        return gaussian.prior_logp(sde, latent[None])[0] + integral, error, latent, nfe

    return jax.vmap(one, in_axes=(0, 0, cond_axes(cond)))(keys, x, cond)


def _probes(key: Key, x: Array, divergence: Divergence, n: int) -> Array:
    if divergence == "exact":
        return jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)
    draw = jax.random.rademacher if divergence == "rademacher" else jax.random.normal
    return draw(key, (n, *x.shape), x.dtype)


def bits_per_dim(logp: Array, n_dims: int, bits: int = 8, low: float = -1.0, high: float = 1.0) -> Array:
    """Bits per dimension of `bits`-bit data whose levels were dequantised and scaled to [low, high] (Eq. 3).

    `logp` is in nats, of x with `n_dims` entries; x must be (k + u)/2^bits, u uniform, scaled to [low, high].
    """
    return -logp / (n_dims * math.log(2)) + bits - math.log2(high - low)

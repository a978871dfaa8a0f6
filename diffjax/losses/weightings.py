"""Weights of the denoising loss: functions (sde, t) -> w [B] that multiply |x_0 - D(x_t, t)|^2.

All objectives of one Gaussian process are this loss with another weight (Kingma & Gao 2023). With (5) of
`sde.gaussian`, errors in x_0, eps, score and v differ by known factors:

    |eps error|^2 = (alpha/sigma)^2 |x_0 error|^2,   |v error|^2 = ((alpha^2 + sigma^2)/sigma)^2 |x_0 error|^2,
    |score error|^2 = (alpha/sigma^2)^2 |x_0 error|^2

At sigma = 0 the factors of eps, score and v are infinite, while an exact denoiser's error in x_0 is 0 there, x_t being
alpha x_0: the weight is 0, so that an example at t = 0 adds nothing, and no NaN. At alpha = 0 that of `edm` is its
limit 1/sigma_data^2.
"""

import jax.numpy as jnp
from jax import Array

from diffjax.sde import gaussian
from diffjax.typing import SDE, Time


def ratio(a: Array, b: Array) -> Array:
    """a/b, and 0 where b is 0."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def simple(sde: SDE, t: Time) -> Array:
    """The error in eps: DDPM's L_simple, and Score-SDE's |sigma score + z|^2 (Ho et al. 2020, Eq. 14)."""
    return ratio(sde.alpha(t), sde.sigma(t)) ** 2


def truncated_snr(sde: SDE, t: Time) -> Array:
    """max(alpha^2/sigma^2, 1): the larger of the errors in x_0 and eps (Salimans & Ho 2022, Section 4)."""
    return jnp.maximum(simple(sde, t), 1)


def likelihood(sde: SDE, t: Time) -> Array:
    """g^2 |score error|^2: with t uniform, twice the likelihood bound's integrand (Song et al. 2021b, Eq. 7)."""
    (alpha, sigma), (d_alpha, d_sigma) = gaussian.rates(sde, t)
    growth = 2 * ratio(alpha * d_sigma - d_alpha * sigma, sigma)  # alpha g^2/sigma^2, finite at alpha = 0
    return growth * ratio(alpha, sigma**2)


def v(sde: SDE, t: Time) -> Array:
    """The error in v: for a variance-preserving process snr + 1 (Salimans & Ho 2022, Section 4)."""
    return ratio(sde.alpha(t) ** 2 + sde.sigma(t) ** 2, sde.sigma(t)) ** 2


def velocity(sde: SDE, t: Time) -> Array:
    """The error in dx/dt: (alpha' - sigma' alpha/sigma)^2, which is 1/t^2 for `Flow` (Lipman et al. 2023)."""
    (alpha, sigma), (d_alpha, d_sigma) = gaussian.rates(sde, t)
    return ratio(d_alpha * sigma - d_sigma * alpha, sigma) ** 2


def x0(sde: SDE, t: Time) -> Array:
    """The error in x_0 itself."""
    return jnp.ones_like(sde.alpha(t))


def score(sde: SDE, t: Time) -> Array:
    """The error in the score: score matching without a weight (Vincent 2011)."""
    return ratio(sde.alpha(t), sde.sigma(t) ** 2) ** 2


def edm(sde: SDE, t: Time, sigma_data: float = 0.5) -> Array:
    """(s^2 + sd^2)/(s sd)^2 at s = sigma/alpha: the network's own output has weight 1 (Karras et al. 2022, Table 1)."""
    return 1 / sigma_data**2 + simple(sde, t)  # (1/s)^2 = (alpha/sigma)^2

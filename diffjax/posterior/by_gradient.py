"""Posterior samplers that differentiate: DPS, MPGD and reconstruction guidance by any operator, PiGDM by a linear one.

Where a constant depends on the number of pixels, as a step along the gradient of |y - A x_0| does, it is stated for the
paper's images.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from diffjax import guidance
from diffjax.checks import check_count, check_has, check_number
from diffjax.constraints import DPS, KeepEps
from diffjax.constraints.arguments import check_measurement
from diffjax.corrections import Gradient
from diffjax.operators import Measurement, Misfit
from diffjax.operators.measurement import require_noise
from diffjax.posterior.method import Posterior, constrained
from diffjax.samplers import DDIM, Ancestral
from diffjax.samplers.arguments import check_sampler
from diffjax.typing import SDE, Denoiser, Sampler, Time


def dps(m: Measurement, zeta: Any = 0.3, *, squared: bool = False, sampler: Sampler = Ancestral()) -> Posterior:
    """Diffusion posterior sampling (Chung et al. 2023): 1000 steps of DDPM, each moved by -zeta grad |y - A(x_0)|.

    zeta is 0.3 for super-resolution and blurs, 0.5 for random inpainting, 1 for phase retrieval, with noise of 0.05; a
    number, [B], or a function of t. `squared` takes the gradient of the square (its Algorithm 1).
    """
    return constrained(DPS(sampler, _misfit(m, squared), zeta), steps=1000)


def mpgd(m: Measurement, scale: Any = 4.0, *, squared: bool = False, sampler: Sampler = DDIM(0.5)) -> Posterior:
    """Manifold-preserving guidance (He et al. 2024, Algorithm 1, "shortcut"): no gradient of the network.

    c_t = scale / alpha_s on |y - A x_0|, in 100 steps of DDIM with eta = 0.5. The paper's code has scale 4 for 100
    steps, 7.5 for 50 and 17.5 for 20, on images of 256 x 256 x 3; a norm grows as the square root of the size.
    """
    loss = _misfit(m, squared)
    KeepEps(sampler, Gradient(loss, scale))  # what it checks, it checks now
    check_number("scale", scale, 0)
    return Posterior(Partial(_mpgd, loss, scale, sampler))


def reconstruction_guidance(m: Measurement, weight: Any = 1.0, *, sampler: Sampler = Ancestral()) -> Posterior:
    """Reconstruction guidance (Ho et al. 2022, video diffusion, Eq. 8): x_0 - weight (alpha/2) grad_x |y - A(x_0)|^2.

    weight = 1 takes y ~ N(A x_0, (sigma^2/alpha^2) I) for the measurement given x_t; larger ones follow y more closely.
    """
    check_number("weight", weight, 0)
    check_sampler(sampler)
    return Posterior(Partial(_reconstruction, _misfit(m, True), weight, sampler), steps=250)


def pigdm(m: Measurement, r: Any = None, *, sampler: Sampler = DDIM(1.0)) -> Posterior:
    """Pseudo-inverse guidance (PiGDM, Song et al. 2023): 100 steps of DDIM with eta = 1.

    r is the standard deviation of x_0 given x_t as a function of t, by default that of data N(0, I).
    """
    check_measurement(m, "PiGDM")
    check_sampler(sampler)
    return Posterior(Partial(_pigdm, m, r if r is None else Partial(r), sampler))


def moment_matching(m: Measurement, iterations: int | None = 3, *, sampler: Sampler = DDIM(1.0)) -> Posterior:
    """PiGDM with the covariance that the denoiser implies (Rozet et al. 2024): `guidance.pigdm_exact`, 100 steps.

    `iterations` of conjugate gradients, one to three in the paper; None solves to the end. The measurement needs noise.
    """
    check_measurement(m, "moment matching")
    require_noise(m, "moment matching")
    if iterations is not None:
        check_count("iterations", iterations)
    check_sampler(sampler)
    return Posterior(Partial(partial(_moments, iterations), m, sampler))


def _misfit(m: Measurement, squared: bool) -> Misfit:
    check_has(m, "a measurement, such as dj.measure(key, operator, x_0),", "operator", "y", "residual")
    return Misfit(m, squared)


def _mpgd(loss, scale, sampler, denoise: Denoiser, sde: SDE) -> tuple[Denoiser, Sampler]:
    return denoise, KeepEps(sampler, Gradient(loss, Partial(_over_alpha, sde, scale)))


def _over_alpha(sde: SDE, scale: Any, s: Time) -> Array:
    """scale / alpha_s; 0 where alpha_s = 0, and the step's share of x_0 with it."""
    alpha = jnp.asarray(sde.alpha(s))
    return jnp.where(alpha == 0, 0, scale / jnp.where(alpha == 0, 1, alpha))


def _reconstruction(loss, weight, sampler, denoise: Denoiser, sde: SDE) -> tuple[Denoiser, Sampler]:
    return guidance.reconstruction(denoise, sde, loss, Partial(_half_snr, sde, weight)), sampler


def _half_snr(sde: SDE, weight: Any, t: Time) -> Array:
    """weight alpha^2 / (2 sigma^2), which `reconstruction` multiplies by sigma^2 / alpha."""
    alpha, sigma = jnp.asarray(sde.alpha(t)), jnp.asarray(sde.sigma(t))
    return weight * alpha**2 / (2 * jnp.where(sigma == 0, 1, sigma) ** 2)


def _pigdm(m, r, sampler, denoise: Denoiser, sde: SDE) -> tuple[Denoiser, Sampler]:
    return guidance.pigdm(denoise, sde, m, r), sampler


def _moments(iterations, m, sampler, denoise: Denoiser, sde: SDE) -> tuple[Denoiser, Sampler]:
    return guidance.pigdm_exact(denoise, sde, m, iterations), sampler

"""Posterior samplers by a linear operator's singular value decomposition; the network is not differentiated."""

from typing import Any

import numpy as np
from jax.tree_util import Partial

from diffjax import guidance
from diffjax.arrays import safe_sqrt
from diffjax.checks import check_number
from diffjax.constraints import DDRM, Known, TimeTravel
from diffjax.constraints import ddnm as ddnm_sampler
from diffjax.constraints.arguments import check_measurement
from diffjax.corrections import Proximal
from diffjax.operators import Measurement
from diffjax.posterior.method import Posterior, constrained
from diffjax.samplers import PC, Ancestral, Langevin, Renoise, ReverseDiffusion
from diffjax.sde import VP
from diffjax.typing import SDE, Denoiser, Sampler


def ddrm(m: Measurement, eta: Any = 0.85, eta_b: Any = 1.0) -> Posterior:
    """Denoising diffusion restoration (Kawar et al. 2022): 20 steps, eta = 0.85, eta_b = 1, as in its code."""
    return constrained(DDRM(m, eta, eta_b), steps=20)


def ddnm(m: Measurement, eta: Any = 0.85) -> Posterior:
    """The range-null space method (DDNM, Wang et al. 2023, Algorithm 1): 100 steps, for measurements without noise."""
    return constrained(ddnm_sampler(m, eta))


def ddnm_plus(m: Measurement, eta: Any = 0.85) -> Posterior:
    """DDNM+ (Wang et al. 2023, Appendix I), for measurements with noise: 100 steps. It is DDRM with eta_b = 1."""
    return constrained(DDRM(m, eta, 1.0))


def diffpir(m: Measurement, lam: Any = 1.0, zeta: Any = 0.3) -> Posterior:
    """Plug-and-play restoration (DiffPIR, Zhu et al. 2023): a proximal step for x_0, then a share zeta of fresh noise.

    `lam` (lambda) weighs x_0 against y. 100 steps; the paper tunes both constants for each task, the defaults are ours.
    The measurement needs noise.
    """
    check_measurement(m, "DiffPIR")
    check_number("lam", lam, 0, above=True)
    check_number("zeta", zeta, 0, 1)
    Proximal(m, VP(), lam)  # what it checks, it checks now; the process comes with the denoiser
    return Posterior(Partial(_diffpir, m, lam, zeta))


def replacement(m: Measurement, snr: Any = 0.16) -> Posterior:
    """Replacement in predictor and corrector (Song et al. 2021, Appendix I): 1000 steps; y counts as exact."""
    return constrained(PC(Known(ReverseDiffusion(), m), Known(Langevin(snr), m)), steps=1000)


def repaint(m: Measurement, jump: int = 10, repeats: int = 10, *, sampler: Sampler = Ancestral()) -> Posterior:
    """RePaint (Lugmayr et al. 2022): replacement, each `jump` of 250 steps taken `repeats` times (its j and r)."""
    return constrained(TimeTravel(Known(sampler, m)), steps=250, jump=jump, repeats=repeats)


def _diffpir(m, lam, zeta, denoise: Denoiser, sde: SDE) -> tuple[Denoiser, Sampler]:
    eta = np.sqrt(zeta) if isinstance(zeta, float | int) else safe_sqrt(zeta)
    return guidance.corrected(denoise, Proximal(m, sde, lam)), Renoise(eta)

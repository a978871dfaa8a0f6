"""Samplers by the names that people know, each with its grid of times on a table of N = 1000 noise levels.

    solver, ts, scale = plan("dpmpp_2m_karras", schedule, 20)

`ts` are times of `BetaTable`, whose t is the network's index + 1, and `scale` is the standard deviation of the noise
that a run starts from. Grids are those of diffusers' schedulers (version 0.42), so that a run repeats theirs:

    ddim, pndm            down to abar_0 (or to 1: `final_one`); "leading" times are k (N // n) + offset
    ddpm                  the same times, then 0
    euler, heun, lms      the same times, or fractional ones ("linspace"), then 0; noise of the largest level
    dpmpp, unipc          n + 1 spaces in place of n, so that the last time is not the first level, then 0
    lcm                   n of the times of its teacher's grid, 50 by default
    ..._karras            the rule of Karras et al. (2022), rho = 7, between the first and the last level, then 0

Five things differ from diffusers. Between the levels log abar is linear, there sigma is (at fractional times only; 4e-6
of a picture in five steps). The network gets the fractional index of a level by Karras' rule, with DPM++ there the
nearest integer (1e-2). With "linspace", DDIM and PNDM step to the next time of the grid, there N // n below the last
one. UniPC solves for all weights, there one is set to 1/2. LCM's denoiser is x_0 itself, there c_skip x + c_out x_0,
which is the same to 1e-7 but at t < 20.
"""

from __future__ import annotations

import difflib
from typing import Any, Literal, NamedTuple

import numpy as np

from diffjax.checks import check_count
from diffjax.pretrained.stable_diffusion import Schedule
from diffjax.samplers import DDIM, LMS, PLMS, Ancestral, DPMpp2M, DPMpp2S, DPMpp3M, Heun, Renoise, UniPC
from diffjax.typing import Sampler

Family = Literal["ddim", "euler", "dpm", "lcm"]

SOLVERS: dict[str, tuple[Sampler, Family]] = {
    "ddim": (DDIM(), "ddim"),
    "ddpm": (Ancestral(), "ddim"),
    "pndm": (PLMS(), "ddim"),
    "euler": (DDIM(), "euler"),  # Euler's method for x/alpha in sigma/alpha
    "euler_a": (DDIM(1.0), "euler"),
    "heun": (Heun(levels=True), "euler"),
    "lms": (LMS(4), "euler"),
    "dpmpp_2m": (DPMpp2M(), "dpm"),
    "dpmpp_2m_sde": (DPMpp2M(1.0), "dpm"),
    "dpmpp_3m_sde": (DPMpp3M(1.0), "dpm"),
    "dpmpp_2s_a": (DPMpp2S(1.0), "euler"),
    "unipc": (UniPC(2), "dpm"),
    "lcm": (Renoise(1.0), "lcm"),
}
SYNONYMS = {
    "plms": "pndm", "euler_ancestral": "euler_a", "k_euler": "euler", "k_euler_a": "euler_a", "uni_pc": "unipc",
    "dpmsolver++": "dpmpp_2m", "dpmpp_2s_ancestral": "dpmpp_2s_a", "k_lms": "lms",
}  # fmt: skip
OF_CLASSES = {
    "DDIMScheduler": "ddim", "DDPMScheduler": "ddpm", "PNDMScheduler": "pndm", "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_a", "HeunDiscreteScheduler": "heun", "LMSDiscreteScheduler": "lms",
    "DPMSolverMultistepScheduler": "dpmpp_2m", "DPMSolverSinglestepScheduler": "dpmpp_2m",
    "DPMSolverSDEScheduler": "dpmpp_2m_sde", "UniPCMultistepScheduler": "unipc", "DEISMultistepScheduler": "dpmpp_2m",
    "KDPM2DiscreteScheduler": "heun", "KDPM2AncestralDiscreteScheduler": "dpmpp_2s_a", "LCMScheduler": "lcm",
}  # fmt: skip
LINSPACE = ("euler", "dpm")  # the default of these families, where the model's own scheduler is of another


class Plan(NamedTuple):
    """A run: the solver, its times [n + 1], and the standard deviation of the noise at the first."""

    sampler: Sampler
    ts: np.ndarray
    noise: float


def names() -> list[str]:
    """All names that `plan` takes, but for synonyms."""
    return [name + more for name in SOLVERS for more in ("", "_karras") if not (more and name in ("lcm", "pndm"))]


def own_solver(schedule: Schedule) -> str:
    """The name of the solver that a model was published with, or of one of the same order."""
    name = "dpmpp_2m_sde" if schedule.sde else OF_CLASSES[schedule.solver]
    return name + ("_karras" if schedule.karras else "")


def plan(name: str, schedule: Schedule, n: int, spacing: str | None = None) -> Plan:
    """The run of n steps by a solver's name.

    Args:
      schedule: the model's.
      spacing: of the times; by default the model's own for solvers of the family of its own one, else that family's.

    Raises:
      ValueError: there is no such solver or spacing, or n has no grid; TypeError: n is no integer.
    """
    key = name.lower().replace("-", "_").replace(" ", "_").replace("dpm++", "dpmpp")
    karras = key.endswith("_karras")
    key = SYNONYMS.get(key.removesuffix("_karras"), key.removesuffix("_karras"))
    if key not in SOLVERS or (karras and key in ("lcm", "pndm")):
        near = difflib.get_close_matches(key, names(), 3, 0.5)
        raise ValueError(
            f"there is no solver {name!r}{f', perhaps {near}' if near else ''}; known: {', '.join(names())}"
        )
    sampler, family = SOLVERS[key]
    N = len(schedule.betas)
    check_count("the number of steps", n, 1, N - (family == "dpm"))
    if karras:
        ts = _karras(schedule.betas, n)
        return Plan(sampler, ts, _sigma(schedule.betas, ts[0]) if family == "euler" else 1.0)
    if spacing is None:
        same = SOLVERS[own_solver(schedule).removesuffix("_karras")][1] == family
        spacing = schedule.spacing if same else ("linspace" if family in LINSPACE else "leading")
    if spacing not in ("leading", "trailing", "linspace"):
        raise ValueError(f"the times are spaced leading, trailing or linspace, got {spacing!r}")
    if family == "lcm":
        index = _teacher(N, n, schedule.teacher_steps)
    else:
        index = _spaced(spacing, family, N, n, schedule.offset)
    end = 1.0 if key in ("ddim", "pndm") and not schedule.final_one else 0.0
    ts = np.append(index + 1, min(end, index[-1] + 1))
    # the noise that diffusers starts from: of leading times sqrt(sigma^2 + 1) in x/alpha, which is 1 in x
    return Plan(sampler, ts, _sigma(schedule.betas, ts[0]) if family == "euler" and spacing != "leading" else 1.0)


def _spaced(spacing: str, family: str, N: int, n: int, offset: int) -> np.ndarray:
    """Indices [n] of a network, 0 to N - 1, falling."""
    more = int(family == "dpm")
    if spacing == "linspace":
        if family == "euler":
            return np.linspace(0, N - 1, n)[::-1] if n > 1 else np.array([N - 1.0])
        return np.round(np.linspace(0, N - 1, n + more))[::-1][:n] if n + more > 1 else np.array([N - 1.0])
    if spacing == "trailing":
        return np.round(np.arange(N, 0, -N / n))[:n] - 1
    index = np.arange(n + more)[::-1][:n] * (N // (n + more)) + offset
    if index[0] > N - 1:
        raise ValueError(f"{n} leading steps with an offset of {offset} begin at {index[0]}, beyond {N - 1}")
    return index.astype(np.float64)


def _teacher(N: int, n: int, steps: int) -> np.ndarray:
    """LCM's: n of the times of its teacher's grid."""
    check_count("original_inference_steps, those of LCM's teacher,", steps, 1, N)
    check_count("the number of LCM's steps", n, 1, steps)
    teacher = (np.arange(1, steps + 1) * (N // steps) - 1)[::-1]
    return teacher[np.floor(np.linspace(0, steps, n, endpoint=False)).astype(int)].astype(np.float64)


def _log_abar(betas: np.ndarray) -> np.ndarray:
    """log abar of the times 0 to N."""
    return np.append(0.0, np.cumsum(np.log1p(-with_signal(betas))))


def with_signal(betas: np.ndarray) -> np.ndarray:
    """The betas; where the last level has no signal at all, it gets abar = 2^-24, as in diffusers."""
    if betas[-1] < 1:
        return betas
    return np.append(betas[:-1], 1 - 2.0**-24 / np.prod(1 - betas[:-1]))


def _sigma(betas: np.ndarray, t: Any) -> float:
    return float(np.sqrt(-np.expm1(np.interp(t, np.arange(len(betas) + 1), _log_abar(betas)))))


def _karras(betas: np.ndarray, n: int, rho: float = 7.0) -> np.ndarray:
    """Times [n + 1] of levels equal in their (1/rho)-th power, then 0."""
    log_abar = _log_abar(betas)
    first, last = (np.sqrt(np.expm1(-log_abar[i])) ** (1 / rho) for i in (-1, 1))
    levels = np.linspace(first, last, n) ** rho
    ts = np.interp(np.log1p(levels**2), -log_abar, np.arange(len(log_abar)))
    ts[0] = len(betas)
    return np.append(ts, 0.0)

"""`scheduler_config.json`: the noise that a published model was trained with, what it predicts, and its grid of times.

The file belongs to a solver of diffusers; what is the model's is read here, and the solver is any of ours:

    schedule = read_schedule(folder)
    process = dj.sde.BetaTable.from_betas(schedule.betas)    # its time n is the network's index t = n - 1
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from diffjax.checks import check_count
from diffjax.pretrained.stable_diffusion.config_fields import Config
from diffjax.pretrained.stable_diffusion.hub import read_json

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
LEADING = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler")  # their default, the others' is linspace
CLIPPED = ("DDIMScheduler", "DDPMScheduler")
NO_KARRAS = (*LEADING, "EulerAncestralDiscreteScheduler")  # `from_config` hands them the option, and they ignore it
DPM = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler")
EULER = ("EulerDiscreteScheduler",)
FIXED: dict[str, tuple[tuple[str, ...], Any]] = {  # option: the classes that heed it, and the only value known here
    "final_sigmas_type": ((*DPM, *EULER, "UniPCMultistepScheduler"), "zero"), "timestep_type": (EULER, "discrete"),
    "interpolation_type": (EULER, "linear"), "use_lu_lambdas": (DPM[:1], False),
}  # fmt: skip
OTHERS = ("DPMSolverSinglestepScheduler", "DEISMultistepScheduler", "KDPM2DiscreteScheduler")
OTHERS += ("KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler")  # solvers that another one stands in for
CLASSES = (
    *LEADING, "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler", "UniPCMultistepScheduler",
    "DEISMultistepScheduler", "LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
)  # fmt: skip
BETAS = {"LCMScheduler": (0.00085, 0.012, "scaled_linear"), "HeunDiscreteScheduler": (0.00085, 0.012, "linear")}


class Schedule(NamedTuple):
    """What a scheduler's file says of the model.

    Attributes:
      solver: the class in diffusers that the model was published with.
      betas: [N], float64.
      prediction: what the U-Net predicts.
      spacing: of the times t: "leading" k (N // n) + offset, "trailing", "linspace" from N - 1 to 0.
      offset: added to "leading" times.
      karras: whether the sigmas are spaced by the rule of Karras et al. (2022).
      final_one: whether the last step goes to abar = 1 and not to abar_0.
      clip: whether x_0 is clipped to [-1, 1].
      sde: whether DPM-Solver++ is the stochastic one.
      teacher_steps: of LCM, the steps of its teacher's grid, of which a run takes some.
    """

    solver: str
    betas: np.ndarray
    prediction: Literal["eps", "v", "x0"]
    spacing: Literal["leading", "trailing", "linspace"]
    offset: int
    karras: bool
    final_one: bool
    clip: bool
    sde: bool = False
    teacher_steps: int = 50


def read_schedule(folder: str | Path, name: str = "scheduler") -> Schedule:
    """That of a model's folder, from scheduler/scheduler_config.json; raises as `schedule_from_config`.

    `name` is "low_res_scheduler" for the noise that an upscaler adds to the small picture.
    """
    path = Path(folder) / name / "scheduler_config.json"
    config = read_json(path)
    try:
        return schedule_from_config(config)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def schedule_from_config(config: Config) -> Schedule:
    """The schedule of a parsed `scheduler_config.json`.

    Warns where the model's own solver is not here, and another of its kind runs by default.

    Raises:
      ValueError: the class, or a value that changes numbers, is not known here; it is named.
    """
    solver = str(config.get("_class_name", "")).removeprefix("Flax")
    if solver not in CLASSES:
        raise ValueError(f"the scheduler is a {solver or 'nameless class'!r}; known are {', '.join(CLASSES)}")
    for name in ("thresholding", "use_exponential_sigmas", "use_beta_sigmas", "use_flow_sigmas"):
        if config.get(name):
            raise ValueError(f"the scheduler has {name!r} = {config[name]!r}, which is not known here")
    for name, (classes, value) in FIXED.items():
        if solver in classes and config.get(name, value) not in (value, None):
            raise ValueError(f"the scheduler has {name!r} = {config[name]!r}; known here is {value!r} only")
    _warn_of_another(config, solver)
    teacher_steps = config.get("original_inference_steps")
    prediction, spacing = config.get("prediction_type", "epsilon"), config.get("timestep_spacing")
    spacing = spacing or ("leading" if solver in LEADING else "linspace")
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type = {prediction!r}; known are {', '.join(PREDICTIONS)}")
    if spacing not in ("leading", "trailing", "linspace"):
        raise ValueError(f"timestep_spacing = {spacing!r}; known are leading, trailing and linspace")
    betas = _betas(config, solver)
    if betas[-1] >= 1 and prediction == "epsilon":
        raise ValueError(
            "the last noise level has no signal (rescale_betas_zero_snr), and prediction_type = 'epsilon': noise alone "
            "does not say what x_0 is (Lin et al. 2024, section 3.1); models for such levels predict v"
        )
    return Schedule(
        solver=solver,
        betas=betas,
        prediction=cast(Any, PREDICTIONS[prediction]),
        spacing=spacing,
        offset=config.get("steps_offset", 0),
        karras=bool(config.get("use_karras_sigmas")) and solver not in NO_KARRAS,
        final_one=config.get("set_alpha_to_one", solver != "PNDMScheduler"),
        clip=config.get("clip_sample", solver in CLIPPED),
        sde=solver in DPM and str(config.get("algorithm_type")).startswith("sde-"),
        teacher_steps=50 if teacher_steps is None else teacher_steps,
    )


def _warn_of_another(config: Config, solver: str) -> None:
    """Which solver runs is `pipelines.solvers.own_solver`'s choice; what the file asks for beyond it is named."""
    asked = [solver] if solver in OTHERS else []
    if solver in (*DPM, "UniPCMultistepScheduler", "DEISMultistepScheduler") and config.get("solver_order", 2) != 2:
        asked.append(f"solver_order = {config['solver_order']!r}")
    if solver in DPM and "++" not in str(config.get("algorithm_type", "dpmsolver++")):
        asked.append(f"algorithm_type = {config['algorithm_type']!r}")
    if asked:
        warnings.warn(
            f"the model's own solver has {' and '.join(asked)}, which is not here: one of order 2 runs in its place, "
            "unless you name another",
            stacklevel=3,
        )


def schedule_to_config(schedule: Schedule) -> dict[str, Any]:
    """The `scheduler_config.json` of a schedule, the inverse of `schedule_from_config`.

    Noise levels that follow none of the known rules are written one by one, as "trained_betas".
    """
    spellings = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    config: dict[str, Any] = {"_class_name": schedule.solver, "num_train_timesteps": len(schedule.betas)}
    config |= _rule(schedule) | {"prediction_type": spellings[schedule.prediction]}
    config |= {"timestep_spacing": schedule.spacing, "steps_offset": schedule.offset}
    config |= {"set_alpha_to_one": schedule.final_one, "clip_sample": schedule.clip}
    config |= {"use_karras_sigmas": True} if schedule.karras else {}
    config |= {"algorithm_type": "sde-dpmsolver++"} if schedule.sde else {}
    config |= {"original_inference_steps": schedule.teacher_steps} if schedule.solver == "LCMScheduler" else {}
    return config | ({"skip_prk_steps": True} if schedule.solver == "PNDMScheduler" else {})


def _rule(schedule: Schedule) -> dict[str, Any]:
    """The fields that give the betas again, to 1e-10."""
    betas = schedule.betas
    first, last = (float(f"{beta:.12g}") for beta in betas[[0, -1]])
    rules = [dict(beta_start=first, beta_end=last, beta_schedule=kind) for kind in ("scaled_linear", "linear")]
    published = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    rules += [dict(beta_schedule="squaredcos_cap_v2"), published | dict(rescale_betas_zero_snr=True)]
    for rule in rules:
        made = _betas(rule | {"num_train_timesteps": len(betas)}, schedule.solver)
        if np.allclose(made, betas, rtol=1e-10, atol=0):
            return rule
    return {"trained_betas": betas.tolist()}


def _betas(config: Config, solver: str) -> np.ndarray:
    default = BETAS.get(solver, (1e-4, 0.02, "linear"))
    first, last = config.get("beta_start", default[0]), config.get("beta_end", default[1])
    kind, n = config.get("beta_schedule", default[2]), config.get("num_train_timesteps", 1000)
    check_count("num_train_timesteps", n)
    if config.get("trained_betas") is not None:
        betas = np.asarray(config["trained_betas"], np.float64)
    elif kind == "linear":
        betas = np.linspace(first, last, n)
    elif kind == "scaled_linear":
        betas = np.linspace(first**0.5, last**0.5, n) ** 2
    elif kind == "squaredcos_cap_v2":
        abar = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - abar[1:] / abar[:-1], 0.999)
    else:
        raise ValueError(f"beta_schedule = {kind!r}; known are linear, scaled_linear and squaredcos_cap_v2")
    return _rescaled(betas) if config.get("rescale_betas_zero_snr") else betas


def _rescaled(betas: np.ndarray) -> np.ndarray:
    """sqrt(abar) shifted and scaled so that its last value is 0, and its first as before (Lin et al. 2024)."""
    root = np.sqrt(np.cumprod(1 - betas))
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    abar = root**2
    return 1 - np.concatenate([abar[:1], abar[1:] / abar[:-1]])

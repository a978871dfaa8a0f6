"""Few-step students of the text model, with the guidance scale as an input (LCM, Luo et al. 2023).

    python experiments/text_to_image.py                          # the teacher, runs/text_to_image
    python experiments/text_student.py
    python experiments/text_student.py --teacher FILE --scales 1 3 6

The teacher is classifier-free guidance of the model of `text_to_image.py`, two network calls a step; one student learns
all scales from the least to the greatest by consistency distillation in latents (see `runs/guided_students.py`), and
takes one call a step. It begins as the unguided teacher. `--solver ddim --intervals 50` are LCM's steps of the teacher.

The run leaves the student, codec included, as `ema.safetensors`: `dj.load(folder).sample(key, n, cond={"context":
states}, steps=4, guidance_scale=3.0)` returns pictures. It is judged as `text_to_image.py` judges, on captions of
"test" and "heldout", for each scale and number of steps, beside the teacher's 20 steps of DPM++ 2M, from one noise.

`--teacher FILE --steps 3000`, of the committed text model as it was after 30,500 of its 40,000 steps, 46 minutes on two
shared CPU cores, 2026-11-30, scale 3, pairs of colour and shape: 0.34, 0.64, 0.72, 0.75 in 1, 2, 4, 8 network calls,
the teacher 0.80 in 40, and 0.63 in 20 without guidance. The student is not among the committed weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from tyro.conf import OmitArgPrefixes

import diffjax as dj
from diffjax import data, train
from diffjax.checks import check_count, check_number
from diffjax.data import scenes
from diffjax.runs import captions, experiment, guided_students, latent_run, scene_figures
from diffjax.runs.student_run import StudentRun
from diffjax.typing import PyTree


@dataclasses.dataclass(frozen=True)
class Config:
    teacher: Path = Path("runs/text_to_image")
    """The model of `text_to_image.py`, on scenes: the folder of its run, or a file."""
    count: int = 60_000
    """Scenes to train on."""
    data_dir: Path | None = None
    """Where prepared data and encoded captions are kept; default: DIFFJAX_DATA or ~/.cache/diffjax."""
    judge: Path = Path(__file__).with_name("weights") / "scene-judge.safetensors"
    """The judge of scenes, of `scene_judge.py`."""
    scales: tuple[float, ...] = (1.0, 3.0, 6.0)
    """Guidance scales that are compared; the student is trained from the least of them to the greatest."""
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of the student's steps that are compared."""
    teacher_steps: int = 20
    """Steps of DPM++ 2M of the teacher, beside which the student is judged."""
    intervals: int = 16
    """Of the teacher's grid in training; the student learns to agree with itself across each."""
    solver: Literal["heun", "ddim"] = "heun"
    """The teacher's step over an interval: four network calls, or two."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=1e-3, lr_end=1e-5, warmup=50, ema=(0.99,)
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=4000, log_every=100, checkpoint_every=500, sample_every=0, keep=1
    )
    batch_size: int = 64
    samples: int = 500
    """Pictures for each set of captions, scale and number of steps."""
    seed: int = 0
    workdir: Path = Path("runs/text_student")


def main(config: Config) -> dict[str, Any]:
    check(config)
    teacher, judge = latent_run.text_model(config.teacher), latent_run.scene_judge(config.judge)
    experiment.start(config.workdir, config)
    encode = captions.TextStates(teacher.network.context_length)
    student = distil(config, teacher, encode)
    latent_run.keep(config.workdir, student, "scenes", {})  # whatever becomes of judging
    size: int = teacher.codec.shape[0]  # pyright: ignore[reportOptionalMemberAccess]
    drawn = ways(config, teacher, student)
    summary: dict[str, Any] = {"parameters": train.count(student.params)}
    summary |= scene_figures.measure(judge, drawn, encode, config.samples, size, config.workdir)
    latent_run.keep(config.workdir, student, "scenes", summary)
    experiment.finish(config.workdir, summary)
    return summary


def check(config: Config) -> None:
    """Raise before hours of training what would be wrong after them."""
    if not (config.scales and config.counts):
        raise SystemExit("give one scale and one number of steps or more: --scales 1 3 6 --counts 1 2 4 8")
    try:
        for n in (*config.counts, config.teacher_steps, config.samples):
            check_count("a number of steps or samples", n)
        check_number("a scale", np.asarray(config.scales), 0)
    except (TypeError, ValueError) as error:
        raise SystemExit(str(error)) from error


def distil(config: Config, teacher: dj.Model, encode: captions.TextStates) -> dj.Model:
    """The student, trained."""
    codec: Any = teacher.codec
    drawn = scenes.read(config.count, "train", codec.shape[0], config.data_dir)
    texts = list(map(str, drawn.captions))
    fields = {"image": captions.latents(codec, drawn.images), "context": encode.kept(texts, config.data_dir)}

    def batches(start: int) -> Iterator[PyTree]:
        return data.batches(fields, batch_size=config.batch_size, seed=config.seed, start_step=start, as_is=True)

    run = StudentRun(config.optim.build, batches, config.loop, config.workdir, jax.random.key(config.seed))
    scales = min(config.scales), max(config.scales)
    return guided_students.distil(teacher, scales, run, config.optim.ema, config.intervals, config.solver)


def ways(config: Config, teacher: dj.Model, student: dj.Model) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By name, a function from a caption's states to pictures for each model, number of steps and scale."""
    models = [("teacher", teacher, config.teacher_steps), *(("student", student, n) for n in config.counts)]

    def way(model: dj.Model, n: int, scale: float) -> Callable[[np.ndarray], np.ndarray]:
        key = jax.random.key(config.seed + 1)  # one noise for all
        return lambda states: latent_run.draw(model, key, {"context": states}, steps=n, guidance_scale=scale)

    return {
        f"{name}, {n} steps, scale {scale:g}": way(model, n, scale)
        for scale in config.scales
        for name, model, n in models
    }


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

"""Guidance distilled in: one student for all scales, in few steps and one network call each (Meng et al. 2023).

    python experiments/guided_student.py

The teacher is classifier-free guidance of the model of classes of Fashion-MNIST, with the scale as a part of the
condition (`guidance.cfg_of_scale`), drawn for each example (`losses.DrawScale`). The student begins as the unguided
model, is conditioned on the scale by a matrix that begins at zero, and learns by consistency distillation as in
`few_step.py` (see `runs/guided_students.py`). It also runs on your own pictures, with the models that `guidance.py`
names: `--data folder --data.path DIR --data.size 32 --model MODEL --judge JUDGE`.

`accuracy` and `diversity` are those of `guidance.py`; `apart` is the root mean square difference from the images of the
teacher's 50 steps at the same scale and from the same noise, which more than one step of the student do not follow, as
they add fresh noise. A step of the student is one network call, of the teacher two. 200 images, 1,200 steps of training
(20 minutes on two busy CPU cores), jax 0.10.2, 2026-11-27; accuracy / diversity / apart:

    scale         1                      2                      4
    teacher, 50   0.855 / 0.88           0.970 / 0.77           0.985 / 0.68
    teacher, 1    0.885 / 0.11 / 0.39    1.000 / 0.13 / 0.38    0.960 / 0.15 / 0.44
    teacher, 2    0.930 / 0.63 / 0.25    0.990 / 0.52 / 0.24    0.990 / 0.42 / 0.27
    teacher, 4    0.930 / 0.78 / 0.16    0.985 / 0.67 / 0.15    0.990 / 0.56 / 0.17
    student, 1    0.895 / 0.82 / 0.19    0.945 / 0.75 / 0.16    0.975 / 0.64 / 0.18
    student, 2    0.890 / 0.85           0.940 / 0.78           0.955 / 0.69
    student, 4    0.915 / 0.88           0.945 / 0.82           0.965 / 0.72
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import OmitArgPrefixes

import diffjax as dj
from diffjax import data, guidance, plots, precondition, samplers, times, train
from diffjax.metrics.features import FASHION_WEIGHTS
from diffjax.model_files import IN_A_RUN
from diffjax.runs import experiment, guided_students, judges
from diffjax.runs.guided_students import COSINE
from diffjax.runs.own_pictures import OwnPictures
from diffjax.runs.student_run import StudentRun
from diffjax.typing import Denoiser, PyTree

MODEL = Path(__file__).with_name("weights") / "fashion-classes.safetensors"
VP = dj.VP()
steps = partial(times.uniform, COSINE, t_min=0.0)
GRIDS = {1: steps(1), 2: jnp.array([1.0, 0.7, 0.0]), 4: steps(4)}


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    scales: tuple[float, ...] = (1.0, 2.0, 4.0)
    """Where the student is judged; it is trained from the least of them to the greatest."""
    model: Path | None = None
    """Weights of `score_sde.py`, preset cpu-classes."""
    judge: Path | None = None
    """Weights of `fashion_classifier.py`."""
    samples: int = 200
    """Images for each scale and number of steps, equally many of each class."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=1e-3, lr_end=1e-5, warmup=50, ema=(0.99,)
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=1200, log_every=100, checkpoint_every=300, sample_every=0, keep=1
    )
    batch_size: int = 64
    seed: int = 0
    workdir: Path = Path("runs/guided_student")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    images = config.load("fashion_mnist", classes=True)
    if config.samples < 2 * images.n_classes:
        raise SystemExit(f"--samples must be two of each class or more, {2 * images.n_classes}, for their diversity")
    where = config.model, MODEL, "--model", "score_sde.py --preset cpu-classes"
    recipe = "fashion_classifier.py --epochs 100 --weights PATH"
    judge = judges.ClassJudge(
        config.trained(
            config.judge, FASHION_WEIGHTS, "--judge", recipe, inputs=(images.shape,), classes=images.n_classes
        ),
        images,
    )
    model = config.model_of(
        *where, sde=VP, shape=images.shape, classes=images.n_classes, prediction=precondition.from_v
    )
    student = distil(config, images, model)
    teacher = guidance.cfg_of_scale(model.denoise)
    ways = {f"teacher, {n}": (teacher, VP, dj.DDIM(), times.uniform(VP, n)) for n in (50, *GRIDS)}
    ways |= {f"student, {n}": (student, COSINE, dj.Renoise(1.0), grid) for n, grid in GRIDS.items()}
    labels = jnp.arange(config.samples) % images.n_classes
    end = np.zeros(())
    summary = {}
    pictures = {}
    keys = jax.random.key(config.seed + 1), jax.random.key(config.seed + 2)  # one noise for all
    for scale in config.scales:
        cond = {"label": labels, "scale": jnp.full(len(labels), scale)}
        for name, way in ways.items():
            x = np.clip(samplers.generate(keys, *way, (len(labels), *images.shape), cond, len(labels)), -1, 1)
            end = x if name == "teacher, 50" else end
            row = judge(x, np.asarray(labels)) | {"apart": float(np.sqrt(np.mean((x - end) ** 2)))}
            print(f"scale {scale:<4g}{name:<14}" + "".join(f"  {k} {v:.3f}" for k, v in row.items()), flush=True)
            summary |= {f"{name}, scale {scale:g}, {key}": value for key, value in row.items()}
            if name in ("teacher, 50", "teacher, 1", "student, 1", "student, 4"):
                pictures[f"{scale:g}: {name}"] = x[:10]
    plots.image_rows(config.workdir / "guided_student.png", pictures)
    experiment.finish(config.workdir, summary)
    return summary


def distil(config: Config, images: data.ImageData, model: dj.Model) -> Denoiser:
    """The student of a model of classes, conditioned on {"label": [B], "scale": [B]}."""

    def batches(start: int) -> Iterator[PyTree]:
        arrays = images.train_images, images.train_labels, config.batch_size
        return data.batches(*arrays, seed=config.seed, start_step=start)

    run = StudentRun(config.optim.build, batches, config.loop, config.workdir, jax.random.key(config.seed))
    student = guided_students.distil(model, (min(config.scales), max(config.scales)), run, config.optim.ema)
    dj.save(config.workdir / IN_A_RUN, student, {"data": images.name}, "float16")
    return student.denoise


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

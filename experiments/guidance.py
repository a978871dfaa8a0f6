"""Guidance by a class on Fashion-MNIST: what each way costs, obeys and loses, judged by a network that did not guide.

    python experiments/guidance.py                   # every way at every scale, fifteen minutes on two CPU cores
    python experiments/guidance.py --samples 100     # quicker, and rougher

The same on a folder of your own pictures, whose classes are the folders in it; PICTURES stands for the options
`--data folder --data.path DIR --data.size 32`, and a run leaves its weights in its folder as ema.safetensors:

    python experiments/score_sde.py --preset cpu-classes PICTURES --workdir runs/model
    python experiments/noisy_classifier.py PICTURES --workdir runs/noisy
    python experiments/noisy_classifier.py --preset clean PICTURES --workdir runs/clean
    python experiments/fashion_classifier.py PICTURES --epochs 100 --weights runs/judge.safetensors
    python experiments/guidance.py PICTURES --model MODEL --noisy NOISY --clean CLEAN --judge runs/judge.safetensors

An option of scales that is left empty leaves out its way, and the classifier that it needs: `--classifier`.

One model, trained with condition dropout (`score_sde.py --preset cpu-classes`), serves as the conditional and as the
unconditional one. The ways:

    cfg            classifier-free guidance of the conditional model; scale 0 is unconditional, 1 conditional
    classifier     the unconditional model, guided by a classifier of noisy images, p_t(c | x_t)
    ordinary       the same with an ordinary classifier, which has never seen noise, used at x_t: it fails
    ordinary, DPS  the ordinary classifier at the denoised x_0(x_t), with the gradient through the network: DPS as
                   a score (`guidance.reconstruction`)
    ordinary, MPGD the same without: a step of x_0 itself, normalised

`accuracy` is the judge's (`fashion_classifier.py`, another architecture, seed and data order), `diversity` the mean
distance of two samples of one class in its features, of real images 1.0. `ms` is the time of a step for one image.

200 images each, two CPU cores shared with other work (so without `ms`), jax 0.10.2, 2026-11-25; accuracy / diversity:

    scale             0              1              2              4              8
    cfg               0.085 / 1.55   0.845 / 0.91   0.970 / 0.75   0.995 / 0.66   0.995 / 0.60
    classifier        0.085 / 1.55   0.560 / 1.08   0.755 / 0.92   0.895 / 0.80   0.925 / 0.70
    ordinary                         0.170 / 1.48                  0.260 / 1.38   0.355 / 1.33
    ordinary, DPS                    0.695 / 1.03                  0.875 / 0.87   0.905 / 0.81

    ordinary, MPGD    0.02: 0.500 / 1.19     0.05: 0.750 / 0.89     0.1: 0.880 / 0.79

The chosen scale is the least at which the judge's accuracy is 0.9: 2 of cfg (0.970), 8 of the classifier of noisy
images (0.925; at 4 0.895, with an error of 0.02) and of the ordinary one by DPS (0.905). The ordinary classifier at x_t
(0.355) and MPGD (0.880) do not reach it at any of these scales.

MPGD's steps leave the manifold, as the picture shows: the plain form relies on the network's next step to bring them
back.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

import diffjax as dj
from diffjax import corrections, guidance, plots, precondition, times
from diffjax.data.image_data import ImageData
from diffjax.metrics.features import FASHION_WEIGHTS
from diffjax.runs import experiment, judges
from diffjax.runs.own_pictures import OwnPictures
from diffjax.typing import Denoiser, Sampler

WEIGHTS = Path(__file__).with_name("weights")
SDE = dj.VP()


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    samples: int = 200
    """Images for each way and scale, equally many of each class."""
    steps: int = 50
    """Steps of the sampler."""
    cfg: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    classifier: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    ordinary: tuple[float, ...] = (1.0, 4.0, 8.0)
    dps: tuple[float, ...] = (1.0, 4.0, 8.0)
    mpgd: tuple[float, ...] = (0.02, 0.05, 0.1)
    model: Path | None = None
    """Weights of `score_sde.py`, preset cpu-classes."""
    noisy: Path | None = None
    """Weights of `noisy_classifier.py`, for the scales of `classifier`."""
    clean: Path | None = None
    """Weights of its preset clean, for those of `ordinary`, `dps` and `mpgd`."""
    judge: Path | None = None
    """Weights of `fashion_classifier.py`."""
    seed: int = 0
    workdir: Path = Path("runs/guidance")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    images = config.load("fashion_mnist", classes=True)
    if config.samples < 2 * images.n_classes:
        raise SystemExit(f"--samples must be two of each class or more, {2 * images.n_classes}, for their diversity")
    labels = jnp.arange(config.samples) % images.n_classes
    parts = models(config, images)
    judge = judges.ClassJudge(judging(config, images), images)
    summary, pictures = {}, {}
    for name, (scales, build) in ways(config, parts).items():
        for scale in scales:
            denoise, sampler = build(scale)
            x, seconds = draw(config, denoise, sampler, labels, images.shape)
            row = {**judge(x, np.asarray(labels)), "ms": 1e3 * seconds / (config.samples * config.steps)}
            print(f"{name:<16}{scale:>6g}" + "".join(f"  {k} {v:.3f}" for k, v in row.items()), flush=True)
            summary |= {f"{name} {scale:g}, {key}": value for key, value in row.items()}
            pictures[f"{name} {scale:g}"] = x[:10]
    plots.image_rows(config.workdir / "guidance.png", pictures)
    experiment.finish(config.workdir, summary)
    return summary


def models(config: Config, images: ImageData) -> tuple[Denoiser, Any, Any]:
    """The model (labels, or None), and logits `(x, t) -> [B, K]` of noisy and of clean images, where they are needed.

    Raises:
      SystemExit: weights are missing, or belong to other classes or images.
    """
    where = config.model, WEIGHTS / "fashion-classes.safetensors", "--model", "score_sde.py --preset cpu-classes"
    denoise = config.model_of(*where, sde=SDE, shape=images.shape, classes=images.n_classes).denoise

    def logits(classifier, x, t):
        return classifier(x, precondition.scaled_time(SDE, t))

    def guide(name: str, given: Path | None):
        own = WEIGHTS / f"{name}-classifier.safetensors"
        recipe = f"noisy_classifier.py --preset {name}"
        return Partial(
            logits, config.trained(given, own, f"--{name}", recipe, inputs=(images.shape, ()), classes=images.n_classes)
        )

    noisy = guide("noisy", config.noisy) if config.classifier else None
    return denoise, noisy, guide("clean", config.clean) if config.ordinary + config.dps + config.mpgd else None


def judging(config: Config, images: ImageData) -> dj.Trained:
    """The classifier that judges."""
    recipe = "fashion_classifier.py --epochs 100 --weights PATH"
    return config.trained(
        config.judge, FASHION_WEIGHTS, "--judge", recipe, inputs=(images.shape,), classes=images.n_classes
    )


def unconditional(denoise: Denoiser, x: Array, t: Any, cond: Any = None) -> Array:
    return denoise(x, t)


def ways(config: Config, parts: tuple) -> dict[str, tuple[tuple[float, ...], Callable]]:
    """Each way: its scales, and how a scale makes a denoiser and a sampler."""
    denoise, noisy, clean = parts
    free = Partial(unconditional, denoise)
    ddim = dj.DDIM()

    def nll(x0, cond):  # of the ordinary classifier, at the clean estimate
        return -guidance.label_log_prob(clean)(x0, 0.0, cond)

    def at_x_t(x, t, cond):  # of the ordinary classifier, at noisy images
        return guidance.label_log_prob(clean)(x, 0.0, cond)

    def mpgd(scale: float) -> tuple[Denoiser, Sampler]:
        step = corrections.Gradient(Partial(nll), scale, normalised=True)
        return free, dj.KeepEps(ddim, step)

    def of_noisy(scale: float) -> tuple[Denoiser, Sampler]:
        return guidance.classifier(free, SDE, guidance.label_log_prob(noisy), scale), ddim

    return {
        "cfg": (config.cfg, lambda s: (guidance.cfg(denoise, s), ddim)),
        "classifier": (config.classifier, of_noisy),
        "ordinary": (config.ordinary, lambda s: (guidance.classifier(free, SDE, Partial(at_x_t), s), ddim)),
        "ordinary, DPS": (config.dps, lambda s: (guidance.reconstruction(free, SDE, Partial(nll), s), ddim)),
        "ordinary, MPGD": (config.mpgd, mpgd),
    }


def draw(config: Config, denoise: Denoiser, sampler: Sampler, labels: Array, shape: tuple[int, ...]):
    """Images [n, H, W, C] from fixed noise, clipped to [-1, 1], and the seconds of a call that compiled nothing."""
    x = dj.prior_sample(jax.random.key(config.seed), SDE, (len(labels), *shape))
    args = jax.random.key(config.seed + 1), denoise, SDE, sampler, times.uniform(SDE, config.steps), x
    jax.block_until_ready(dj.sample(*args, {"label": labels}))
    start = time.perf_counter()
    out = np.asarray(dj.sample(*args, {"label": labels}))
    return np.clip(out, -1, 1), time.perf_counter() - start


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

"""Guidance by a class on Fashion-MNIST: what each way costs, obeys and loses, judged by a network that did not guide.

    python experiments/guidance.py                   # every way at every scale, fifteen minutes on two CPU cores
    python experiments/guidance.py --samples 100     # quicker, and rougher

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

MPGD's steps leave the manifold, as the picture shows: the plain form trusts the network to bring them back.
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
from diffjax import corrections, data, experiment, guidance, nn, plots, precondition, times
from diffjax.metrics.features import FASHION_WEIGHTS, SmallClassifier
from diffjax.nn import presets
from diffjax.typing import Denoiser, Sampler
from diffjax.weights import load_params

WEIGHTS = Path(__file__).parents[1] / "notebooks"
SDE = dj.VP()


@dataclasses.dataclass(frozen=True)
class Config:
    samples: int = 200
    """Images for each way and scale, equally many of each class."""
    steps: int = 50
    """Steps of the sampler."""
    cfg: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    classifier: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    ordinary: tuple[float, ...] = (1.0, 4.0, 8.0)
    dps: tuple[float, ...] = (1.0, 4.0, 8.0)
    mpgd: tuple[float, ...] = (0.02, 0.05, 0.1)
    data_dir: Path | None = None
    seed: int = 0
    workdir: Path = Path("runs/guidance")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    images, judge = data.load("fashion_mnist", config.data_dir), Judge()
    labels = jnp.arange(config.samples) % images.n_classes
    judge.calibrate(data.to_float(images.test_images[:2000]), images.test_labels[:2000])
    summary, pictures = {}, {}
    for name, (scales, build) in ways(config, models(), labels).items():
        for scale in scales:
            denoise, sampler = build(scale)
            x, seconds = draw(config, denoise, sampler, labels)
            row = {**judge(x, np.asarray(labels)), "ms": 1e3 * seconds / (config.samples * config.steps)}
            print(f"{name:<16}{scale:>6g}" + "".join(f"  {k} {v:.3f}" for k, v in row.items()), flush=True)
            summary |= {f"{name} {scale:g}, {key}": value for key, value in row.items()}
            pictures[f"{name} {scale:g}"] = x[:10]
    plots.image_rows(config.workdir / "guidance.png", pictures)
    experiment.finish(config.workdir, summary)
    return summary


def models() -> tuple[Denoiser, Callable, Callable]:
    """The model (labels, or None), and logits of noisy and of clean images `(x, t) -> [B, 10]`."""
    net, classifier = presets.small(num_classes=10), nn.Classifier(10)
    denoise = precondition.from_v(SDE, Partial(net.apply, load_params(WEIGHTS / "fashion_classes.safetensors")))
    noisy, clean = (load_params(WEIGHTS / f"{name}.safetensors") for name in ("noisy_classifier", "clean_classifier"))

    def logits(params, x, t):
        return classifier.apply(params, x, precondition.scaled_time(SDE, t))

    return denoise, Partial(Partial(logits), noisy), Partial(Partial(logits), clean)


def unconditional(denoise: Denoiser, x: Array, t: Any, cond: Any = None) -> Array:
    return denoise(x, t)


def ways(config: Config, parts: tuple, labels: Array) -> dict[str, tuple[tuple[float, ...], Callable]]:
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

    noisy_log_prob = guidance.label_log_prob(noisy)
    return {
        "cfg": (config.cfg, lambda s: (guidance.cfg(denoise, s), ddim)),
        "classifier": (config.classifier, lambda s: (guidance.classifier(free, SDE, noisy_log_prob, s), ddim)),
        "ordinary": (config.ordinary, lambda s: (guidance.classifier(free, SDE, Partial(at_x_t), s), ddim)),
        "ordinary, DPS": (config.dps, lambda s: (guidance.reconstruction(free, SDE, Partial(nll), s), ddim)),
        "ordinary, MPGD": (config.mpgd, mpgd),
    }


def draw(config: Config, denoise: Denoiser, sampler: Sampler, labels: Array) -> tuple[np.ndarray, float]:
    """Images [n, 28, 28, 1] from fixed noise, clipped to [-1, 1], and the seconds of a call that compiled nothing."""
    x = dj.prior_sample(jax.random.key(config.seed), SDE, (len(labels), 28, 28, 1))
    args = jax.random.key(config.seed + 1), denoise, SDE, sampler, times.uniform(SDE, config.steps), x
    jax.block_until_ready(dj.sample(*args, {"label": labels}))
    start = time.perf_counter()
    out = np.asarray(dj.sample(*args, {"label": labels}))
    return np.clip(out, -1, 1), time.perf_counter() - start


class Judge:
    """Accuracy and diversity in the eyes of a classifier that guided nothing."""

    def __init__(self):
        self.net = SmallClassifier()
        params = load_params(FASHION_WEIGHTS)
        self.apply = jax.jit(lambda x: self.net.apply(params, x))
        self.unit = 1.0

    def calibrate(self, x: np.ndarray, labels: np.ndarray) -> None:
        """Make the diversity of these images 1."""
        self.unit = self.spread(np.asarray(self.apply(x)[1]), labels)

    def spread(self, features: np.ndarray, labels: np.ndarray) -> float:
        """The root mean square distance of two images of one class."""
        return float(np.sqrt(np.mean([2 * features[labels == k].var(0, ddof=1).sum() for k in np.unique(labels)])))

    def __call__(self, x: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        logits, features = map(np.asarray, self.apply(x))
        hit = logits.argmax(-1) == labels
        return {"accuracy": float(hit.mean()), "diversity": self.spread(features, labels) / self.unit}


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

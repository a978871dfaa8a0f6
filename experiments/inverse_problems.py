"""Inverse problems on Fashion-MNIST: every posterior sampler on every operator, in one table.

    python experiments/inverse_problems.py                 # 200 held-out images, half an hour on two CPU cores
    python experiments/inverse_problems.py --images 32     # five minutes

The model is the committed VP model of Fashion-MNIST (`score_sde.py`, preset cpu-long), which knows no operator; the
noise of every measurement is 0.05 on [-1, 1]. For each method and operator the means over the images of

    psnr       dB, of the samples against the originals       ssim       structural similarity
    features   distance in a classifier's layers (LPIPS-like) residual   rms(y - A x) / 0.05, which is 1 for the truth
    ms         of a step, for one image

`A+ y` is the pseudo-inverse of the measurement. Methods that need no decomposition also run on HDR, which is nonlinear.

psnr / residual of 200 images, two CPU cores shared with other work, jax 0.10.2, 2026-11-25:

                    random 70 %  box          pool x 4     bicubic x 2  Gaussian     circular     25 % of 784
    A+ y             9.4 / 0.52  17.7 / 0.55  15.1 / 0.43  19.3 / 0.91   6.5 / 16    12.6 / 4.4    9.1 / 0.48
    DPS             20.8 / 1.91  23.3 / 1.76  18.5 / 0.69  22.3 / 1.22  20.1 / 1.51  19.9 / 1.43  22.3 / 2.78
    MPGD            20.9 / 0.54  24.3 / 0.57  18.7 / 0.47  22.9 / 0.61  20.6 / 1.20  20.8 / 1.19  24.0 / 0.61
    reconstruction  21.2 / 1.00  24.0 / 0.92  18.1 / 0.95  22.2 / 1.03  20.0 / 1.31  20.2 / 1.26  24.3 / 1.33
    PiGDM           21.3 / 1.34  24.8 / 1.09  18.7 / 1.15  23.0 / 1.09  22.3 / 1.06  23.5 / 1.03  23.3 / 1.96
    DDRM            20.5 / 1.11  24.4 / 0.97  18.5 / 1.05  22.9 / 0.98  22.4 / 1.00  24.0 / 0.97  22.3 / 1.78
    DDNM+           20.6 / 1.07  24.4 / 0.96  18.6 / 1.03  23.0 / 0.96  22.4 / 0.99  24.1 / 0.96  22.7 / 1.68
    DiffPIR         20.5 / 0.75  24.4 / 0.73  18.4 / 1.02  22.8 / 0.89  22.2 / 0.97  23.4 / 0.96  22.6 / 1.18
    RePaint         20.9 / 0.52  24.2 / 0.55  18.8 / 0.47  22.8 / 0.55   6.6 / 15    12.2 / 4.1   23.8 / 0.64

HDR: y itself 20.3 / 2.8, DPS 21.9 / 3.8, MPGD 23.0 / 3.3, reconstruction 21.0 / 3.5.

A step of DPS takes 2.0 to 2.2 times as long as one of MPGD. MPGD and RePaint know no noise and meet it as well; where
singular values are small RePaint's replacement therefore divides noise by them. Samples are clipped to [-1, 1], which
the transform of compressed sensing carries into every measurement.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from matplotlib.figure import Figure

import diffjax as dj
from diffjax import corrections, data, experiment, guidance, metrics, operators, plots, precondition, times
from diffjax.metrics.features import FASHION_WEIGHTS, SmallClassifier
from diffjax.nn import presets
from diffjax.operators import Measurement, Misfit
from diffjax.typing import Denoiser, Sampler
from diffjax.weights import load_params

WEIGHTS = Path(__file__).parents[1] / "notebooks" / "fashion_vp.safetensors"
SDE = dj.VP()


class Method(NamedTuple):
    """How a measurement and a denoiser make a guided denoiser and a sampler, and in how many steps."""

    build: Callable[[Measurement, Denoiser], tuple[Denoiser, Sampler]]
    steps: int = 100
    linear: bool = True  # needs the operator's decomposition
    r: int = 1  # how often each step is taken


def steepest(m: Measurement) -> Any:
    """The largest singular value: how strongly y answers to a change of x_0."""
    return jnp.max(m.operator.s) if hasattr(m.operator, "s") else m.operator.factor


def dps(m: Measurement, denoise: Denoiser) -> tuple[Denoiser, Sampler]:
    return denoise, dj.DPS(dj.Ancestral(), Misfit(m), 0.6 / steepest(m))


def mpgd(m: Measurement, denoise: Denoiser) -> tuple[Denoiser, Sampler]:
    step = corrections.Gradient(Misfit(m, squared=True), 0.4 / steepest(m) ** 2)  # 0.5 is a Newton step
    return denoise, dj.KeepEps(dj.Renoise(0.85), step)


def reconstruction(m: Measurement, denoise: Denoiser) -> tuple[Denoiser, Sampler]:
    # y ~ N(A x_0, v), v the noise's variance and that of A x_0 given x_t, kept from dividing by its square
    def weight(t):
        return 0.5 / (m.noise_std**2 + 0.3 * (steepest(m) * SDE.sigma(t)) ** 2)

    return guidance.reconstruction(denoise, SDE, Misfit(m, squared=True), weight), dj.DDIM(0.5)


METHODS: dict[str, Method] = {
    "DPS": Method(dps, linear=False),
    "MPGD": Method(mpgd, linear=False),
    "reconstruction": Method(reconstruction, linear=False),
    "PiGDM": Method(lambda m, d: (guidance.pigdm(d, SDE, m), dj.Renoise(0.85))),
    "DDRM": Method(lambda m, d: (d, dj.DDRM(m, eta_b=0.9))),
    "DDNM+": Method(lambda m, d: (d, dj.DDRM(m))),
    "DiffPIR": Method(lambda m, d: (guidance.corrected(d, corrections.Proximal(m, SDE, 1.0)), dj.Renoise(0.85))),
    "RePaint": Method(lambda m, d: (d, dj.TimeTravel(dj.Known(dj.Ancestral(), m))), steps=50, r=4),
}


def problems(shape: tuple[int, int, int]) -> dict[str, Any]:
    """The operators on images of a shape."""
    key = jax.random.key(17)
    return {
        "random 70 %": operators.Mask(jax.random.bernoulli(key, 0.3, (*shape[:2], 1)).astype(float)),
        "box": operators.Mask(jnp.ones((*shape[:2], 1)).at[8:20, 8:20].set(0.0)),
        "pool x 4": operators.average_pool(shape, 4),
        "bicubic x 2": operators.bicubic(shape, 2),
        "Gaussian blur": operators.gaussian_blur(shape, 1.5),
        "circular blur": operators.circular_blur(shape, np.ones((5, 5)) / 25, least=3e-2),
        "compressed 25 %": operators.compressed_sensing(key, shape, 0.25),
        "HDR": operators.HDR(2.0),
    }


@dataclasses.dataclass(frozen=True)
class Config:
    images: int = 200
    """Test images."""
    noise_std: float = 0.05
    methods: tuple[str, ...] = tuple(METHODS)
    problems: tuple[str, ...] = tuple(problems((28, 28, 1)))
    data_dir: Path | None = None
    seed: int = 0
    workdir: Path = Path("runs/inverse_problems")


def main(config: Config) -> dict[str, Any]:
    unknown = (set(config.methods) - set(METHODS)) | (set(config.problems) - set(problems((28, 28, 1))))
    if unknown:
        raise SystemExit(f"unknown: {sorted(unknown)}; methods {list(METHODS)}, problems {list(problems((28, 28, 1)))}")
    experiment.start(config.workdir, config)
    net, images = presets.small(), data.load("fashion_mnist", config.data_dir)
    denoise = precondition.from_v(SDE, Partial(net.apply, load_params(WEIGHTS)))
    x = jnp.asarray(data.to_float(images.test_images[: config.images]))
    compare, summary, pictures = Compare(x), {}, {}
    for problem in config.problems:
        m = operators.measure(jax.random.key(config.seed), problems(images.shape)[problem], x, config.noise_std)
        for name, (out, ms) in results(config, m, denoise, x).items():
            row = {**compare(out, m), "ms": ms}
            print(f"{problem:<17}{name:<16}" + "".join(f"{k} {v:8.3f}  " for k, v in row.items()), flush=True)
            summary |= {f"{problem}, {name}, {key}": value for key, value in row.items()}
            pictures[problem, name] = out[:8]
    figure(config, np.asarray(x[:8]), pictures)
    experiment.finish(config.workdir, summary)
    return summary


def results(config: Config, m: Measurement, denoise: Denoiser, x: Array) -> dict[str, tuple[np.ndarray, float]]:
    """The images of each method that runs on this operator, and milliseconds of a step for one."""
    linear = hasattr(m.operator, "s")
    start = operators.pinv(m.operator, m.y) if linear else m.y
    found = {"A+ y" if linear else "y": (np.asarray(jnp.clip(start, -1, 1)), 0.0)}
    for name in config.methods:
        method = METHODS[name]
        if linear or not method.linear:
            guided, sampler = method.build(m, denoise)
            ts = times.repaint(times.uniform(SDE, method.steps), 1, method.r)
            found[name] = draw(config, guided, sampler, ts, x.shape)
    return found


def draw(config: Config, denoise: Denoiser, sampler: Sampler, ts: Array, shape: tuple[int, ...]):
    x = dj.prior_sample(jax.random.key(config.seed + 1), SDE, shape)
    args = jax.random.key(config.seed + 2), denoise, SDE, sampler
    out, few = np.asarray(jnp.clip(dj.sample(*args, ts, x), -1, 1)), times.uniform(SDE, 5)
    jax.block_until_ready(dj.sample(*args, few, x))  # compiles
    start = time.perf_counter()
    jax.block_until_ready(dj.sample(*args, few, x))
    return out, 1e3 * (time.perf_counter() - start) / len(x) / 5


class Compare:
    """Distances from the originals, and from the measurement."""

    def __init__(self, x: Array):
        self.x, net = x, SmallClassifier()
        params = load_params(FASHION_WEIGHTS)

        def layers(x):
            found: Any = net.apply(params, x, capture_intermediates=True)[1]["intermediates"]
            return [found[f"Conv_{i}"]["__call__"][0] for i in range(4)]

        self.features = jax.jit(lambda a, b: metrics.feature_distance(layers, a, b))

    def __call__(self, out: np.ndarray, m: Measurement) -> dict[str, float]:
        x = jnp.asarray(out)
        residual = m.residual(x)
        if hasattr(m.operator, "s"):  # where nothing was measured there is no noise, and the residual is 0
            residual = residual / jnp.sqrt(jnp.count_nonzero(m.operator.s) / residual[0].size)
        return {
            "psnr": float(metrics.psnr(x, self.x).mean()),
            "ssim": float(metrics.ssim(x, self.x).mean()),
            "features": float(self.features(x, self.x).mean()),
            "residual": float(jnp.sqrt(jnp.mean(residual**2)) / m.noise_std),
        }


def figure(config: Config, x: np.ndarray, pictures: dict[tuple[str, str], np.ndarray]) -> None:
    """For each problem a column of methods, eight images each."""
    rows = ["original", *dict.fromkeys(name for _, name in pictures)]
    plot = Figure(figsize=(3.2 * len(config.problems), 0.5 * len(rows)), layout="constrained")
    for j, problem in enumerate(config.problems):
        for i, name in enumerate(rows):
            axes = plot.add_subplot(
                len(rows), len(config.problems), 1 + i * len(config.problems) + j, xticks=[], yticks=[]
            )
            shown = x if name == "original" else pictures.get((problem, name))
            axes.axis("off") if shown is None else axes.imshow(plots.image_grid(shown, rows=1), cmap="gray")
            axes.set_title(problem, fontsize=8) if i == 0 else None
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7) if j == 0 else None
    plot.savefig(config.workdir / "inverse_problems.png", dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

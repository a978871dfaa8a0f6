"""Terrain by a network that was trained elsewhere: samples in a few steps, inpainting, super-resolution.

    make data && pip install -e '.[onnx]'                   # 39 MB for a network of 10.5 million parameters (MIT)
    python experiments/terrain.py                           # twelve minutes on two CPU cores that others used
    python experiments/terrain.py --method ddrm --images 4

The network (`pretrained.load_terrain`) draws height maps of 128 x 128 pixels in one step; it was distilled at
sigma = 80 alone. At lower levels it leaves noise in, so that solvers with many steps return noise.
`guidance.calibrate` mends that: at every level and frequency the best linear use of the noisy map and of the
network's estimate, fitted on a dozen of its own samples. What follows is done with the network as it is, with the
calibrated one, and with the same fit without a network, which is the Wiener filter of the samples.

    unconditional.png   one, two and four steps of multistep consistency sampling; DPM++ 2M, Heun
    inverse.png         a hole of 64 x 64 pixels; means over 4 x 4 and 8 x 8 pixels; by DDNM+ (`--method ddrm`: DDRM)

The truth is the network's own: samples by one step, with other seeds than those that calibrate. Values are in [-1, 1]
(`pretrained.terrain_heights`), the noise of measurements is 0.01. Roughness is the rms difference of neighbours, in
that of the truth. Measured on 2026-11-30 on three maps by `python experiments/terrain.py`, jax 0.10.2:

    rms error of x_0 at sigma    0.1     0.5     2       10
    as it is                     0.059   0.155   0.108   0.096
    calibrated                   0.014   0.029   0.048   0.087
    Wiener                       0.013   0.029   0.054   0.110

    12 steps, PSNR (dB) / residual    hole           means 4 x 4    means 8 x 8
    A+ y                              24.0 / 0       42.8 / 0       39.5 / 0
    as it is                          24.4 / 1.6     21.0 / 1.5     20.5 / 2.8
    calibrated                        39.3 / 1.1     46.0 / 0.94    41.9 / 1.0
    Wiener                            38.8 / 1.1     46.0 / 0.92    41.9 / 0.93

    roughness of samples    consistency, 1, 2, 4 steps: 1.1, 1.0, 1.5    Heun, 8, calibrated: 2.4
                            DPM++ 2M, 12: as it is 52, calibrated 1.1, Wiener 1.1

The network knows more than the Wiener filter at sigma = 2 and 10, and no more below: it shapes samples, and adds little
to these restorations (0.5 dB in the hole, none to the means). What it is made for is one step, or two at high levels.
A step of one map took 0.8 to 1.4 s on the shared cores; the network compiles in 43 s, once for all solvers (see
`compiled`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib import colormaps
from matplotlib.colors import LightSource
from matplotlib.figure import Figure

import diffjax as dj
from diffjax import operators, pipelines
from diffjax.metrics.image import psnr
from diffjax.pretrained import terrain_heights
from diffjax.runs import experiment
from diffjax.typing import SDE, Denoiser

LEVELS = (0.1, 0.5, 2.0, 10.0)  # of the table of denoisers


@dataclasses.dataclass(frozen=True)
class Config:
    path: Path | None = None
    """The ONNX file; by default that of `make data`."""
    images: int = 3
    """Height maps of each kind, of difficulties from --easy to --hard."""
    easy: float = 0.1
    hard: float = 0.9
    samples: int = 12
    """On which the calibration is fitted."""
    levels: int = 12
    """Noise levels at which it is fitted."""
    steps: int = 12
    """Of DPM++ 2M, and of the posterior sampler; Heun takes two thirds."""
    method: Literal["ddnm_plus", "ddrm"] = "ddnm_plus"
    noise_std: float = 0.01
    """Of the measurements, in units of [-1, 1]."""
    seed: int = 0
    workdir: Path = Path("runs/terrain")


def main(config: Config) -> dict[str, Any]:
    try:
        model = pipelines.load_terrain(config.path)
    except (ImportError, FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
    experiment.start(config.workdir, config)
    with experiment.stage("Compiling the network", 25):
        network = compiled(model, config.images)
    keys = [jax.random.key(config.seed + i) for i in range(4)]
    cond = {"difficulty": jnp.linspace(config.easy, config.hard, config.images)}
    summary: dict[str, Any] = {}
    # each solver would compile the network anew: it is compiled once, and solvers run step by step
    with jax.disable_jit():
        with experiment.stage("Calibrating", 0.6 * config.samples * (config.levels + 1)):
            fitted = calibrated(config, keys[0], network, model.sde)
        truth = one_step(keys[1], network, model.sde, cond)
        denoisers = {"as it is": network, **fitted}
        summary |= levels(keys[2], denoisers, model.sde, truth, cond)
        summary |= unconditional(config, keys[2], denoisers, model.sde, truth, cond)
        summary |= inverse(config, keys[3], denoisers, model.sde, truth, cond)
    experiment.finish(config.workdir, summary)
    return summary


def compiled(model: dj.Model, n: int) -> Denoiser:
    """The model's denoiser, compiled also where jit is off; and now, for n height maps."""
    call, own = jax.jit(lambda denoise, *args: denoise(*args)), model.denoise

    def denoise(x: Array, t: Any, cond: Any = None) -> Array:
        with jax.disable_jit(False):
            return call(own, x, jnp.full(len(x), t, jnp.float32), cond)

    jax.block_until_ready(denoise(jnp.zeros((n, *model.shape)), 1.0, {"difficulty": jnp.zeros(n)}))
    return denoise


def one_step(key: Any, denoise: Denoiser, sde: SDE, cond: Any) -> Array:
    """Samples of one step."""
    x = dj.prior_sample(key, sde, (len(cond["difficulty"]), 128, 128, 1))
    return denoise(x, sde.T, cond)


def calibrated(config: Config, key: Any, network: Denoiser, sde: SDE) -> dict[str, Denoiser]:
    """The network, and none, calibrated on its own samples of all difficulties."""
    n, k = config.images, -(-config.samples // config.images)  # batches of as many as it is compiled for
    difficulty = jnp.linspace(config.easy, config.hard, n * k).reshape(n, k).T
    keys = jax.random.split(key, k + 1)
    x = [one_step(one, network, sde, {"difficulty": d}) for one, d in zip(keys[1:], difficulty, strict=True)]
    ts, cond = jnp.geomspace(sde.t_min, sde.T, config.levels), {"difficulty": difficulty.ravel()}

    def fit(denoise: Denoiser) -> Denoiser:
        return dj.guidance.calibrate(keys[0], denoise, sde, jnp.concatenate(x), ts, cond, batch_size=n)

    return {"calibrated": fit(network), "Wiener": fit(lambda x, t, cond=None: 0 * x)}


def levels(key: Any, denoisers: Mapping[str, Denoiser], sde: SDE, x: Array, cond: Any) -> dict[str, float]:
    """The root mean square error of x_0 at a few noise levels."""
    eps, found = jax.random.normal(key, x.shape), {}
    for sigma in LEVELS:
        for name, denoise in denoisers.items():
            error = denoise(x + sigma * eps, sigma, cond) - x
            found[f"sigma {sigma:g}, {name}: error"] = float(jnp.sqrt((error**2).mean()))
    return found


def roughness(x: Array, like: Array) -> float:
    """The root mean square difference of neighbours, in that of one-step samples."""
    return float(jnp.sqrt((jnp.diff(x, axis=2) ** 2).mean() / (jnp.diff(like, axis=2) ** 2).mean()))


def unconditional(
    config: Config, key: Any, denoisers: Mapping[str, Denoiser], sde: SDE, truth: Array, cond: Any
) -> dict[str, float]:
    """Samples by several solvers from the same noise: their pictures, roughness, and ms of a step for one image."""
    x = dj.prior_sample(key, sde, truth.shape)
    few = {1: [80.0], 2: [80.0, 40.0], 4: [80.0, 56.0, 40.0, 28.0]}
    runs: dict[str, tuple[Denoiser, Any, Any]] = {
        f"consistency, {n}": (denoisers["as it is"], dj.Renoise(1.0), jnp.array([*ts, sde.t_min]))
        for n, ts in few.items()
    }
    steps, fewer = config.steps, -(-2 * config.steps // 3)
    for name, denoise in denoisers.items():
        runs[f"DPM++ 2M, {steps}, {name}"] = denoise, dj.DPMpp2M(), dj.times.uniform_logsnr(sde, steps)
    runs[f"Heun, {fewer}, calibrated"] = denoisers["calibrated"], dj.Heun(), dj.times.karras(sde, fewer)
    found, rows = {}, {}
    for name, (denoise, sampler, ts) in runs.items():
        with experiment.stage(name):
            rows[name], ms = timed(lambda d=denoise, s=sampler, ts=ts: dj.sample(key, d, sde, s, ts, x, cond), ts)
        found |= {f"{name}: roughness": roughness(rows[name], truth), f"{name}: ms": ms}
    picture(config.workdir / "unconditional.png", {"": rows})
    return found


def inverse(
    config: Config, key: Any, denoisers: Mapping[str, Denoiser], sde: SDE, truth: Array, cond: Any
) -> dict[str, float]:
    """PSNR in dB, residual (1 for the truth), roughness, and ms of a step for one image."""
    shape = truth.shape[1:]
    problems = {
        "hole": operators.Mask(jnp.ones(shape).at[32:96, 32:96].set(0.0)),
        "means 4 x 4": operators.average_pool(shape, 4),
        "means 8 x 8": operators.average_pool(shape, 8),
    }
    ts = jnp.append(jnp.geomspace(sde.T, 0.02, config.steps), 0.0)
    x, found, columns = dj.prior_sample(key, sde, truth.shape), {}, {}
    for problem, A in problems.items():
        m = dj.measure(key, A, truth, config.noise_std)
        rows = {"truth": truth, "A+ y": operators.pinv(A, m.y)}
        method = getattr(dj.posterior, config.method)(m)
        milliseconds = {}
        for name, denoise in denoisers.items():
            with experiment.stage(f"{problem}, {name}"):
                rows[name], milliseconds[name] = timed(
                    lambda d=denoise, method=method: method.sample(key, d, sde, x, cond, ts=ts), ts
                )
        columns[problem] = rows
        for name, out in list(rows.items())[1:]:
            found[f"{problem}, {name}: psnr"] = float(psnr(jnp.clip(out, -1, 1), truth).mean())
            found[f"{problem}, {name}: residual"] = float(operators.relative_residual(m, out))
            found[f"{problem}, {name}: roughness"] = roughness(out, truth)
            found |= {f"{problem}, {name}: ms": milliseconds[name]} if name in milliseconds else {}
    picture(config.workdir / "inverse.png", columns)
    return found


def timed(run: Callable[[], Array], ts: Array) -> tuple[Array, float]:
    """What run() returns, and ms of a step for one image."""
    start = time.perf_counter()
    x = jax.block_until_ready(run())
    return x, 1e3 * (time.perf_counter() - start) / len(x) / (len(ts) - 1)


def relief(x: Any) -> np.ndarray:
    """Height maps [B, H, W, 1] as pictures [B, H, W, 3] lit from the north-west, heights three times too high."""
    sun, colours = LightSource(315, 45), colormaps["gist_earth"]
    maps = np.clip(np.asarray(x)[..., 0], -1, 1)
    heights = np.asarray(terrain_heights(maps))
    lit = [
        sun.shade_rgb(colours((v + 1) / 2)[..., :3], h, vert_exag=3, dx=0.1, dy=0.1, blend_mode="soft")
        for v, h in zip(maps, heights, strict=True)
    ]
    return np.stack(lit)


def picture(path: Path, columns: Mapping[str, Mapping[str, Any]]) -> None:
    """For each column rows of reliefs side by side, with their names."""
    rows = list(next(iter(columns.values())))
    n = len(next(iter(columns.values()))[rows[0]])
    plot = Figure(figsize=(1.3 * n * len(columns) + 1.6, 1.35 * len(rows)), layout="constrained")
    for i, row in enumerate(rows):
        for j, (title, column) in enumerate(columns.items()):
            axes = plot.add_subplot(len(rows), len(columns), 1 + i * len(columns) + j, xticks=[], yticks=[])
            axes.imshow(np.concatenate(list(relief(column[row])), axis=1))
            axes.set_title(title, fontsize=9) if i == 0 else None
            axes.set_ylabel(row, rotation=0, ha="right", va="center", fontsize=8) if j == 0 else None
    plot.savefig(path, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main(experiment.configure({"default": Config}, __doc__))

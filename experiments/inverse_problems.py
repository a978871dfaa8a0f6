"""Inverse problems on images: every posterior sampler on every operator, in one table (`RESULTS.md`).

    python experiments/inverse_problems.py                        # Fashion-MNIST, 200 held-out images, 1 to 2 hours
    python experiments/inverse_problems.py --images 32            # ten minutes on two CPU cores
    python experiments/inverse_problems.py --preset emoji --problems grey
    python experiments/inverse_problems.py --data folder --data.path DIR --model runs/score_sde/ema.safetensors

The model was trained without any operator; the noise of every measurement is 0.05 on [-1, 1]. For each method and
operator the means over the images are written to `rows.json` as they come, and what is there is not measured again:

    psnr       dB, of the samples against the originals       ssim       structural similarity
    features   distance in a network's layers (LPIPS-like)    residual   rms(y - A x) / 0.05, which is 1 for the truth
    unclipped  the residual before the samples are clipped    ms         of a step, for one image

`A+ y` is the pseudo-inverse of the measurement. Methods that need no decomposition also run where A is nonlinear.
MPGD-AE and -Z stay near an autoencoder's images (`autoencoder.py`) while t is in [0.3, 0.5] T, as in the paper's code,
and are plain MPGD outside. DPS's zeta = 1 / max(s) was the best of 0.6, 1, 1.5 and 2.5 on random inpainting and average
pooling of sixteen other images; for blurs 1.5, for the projection and phase retrieval 2.5 would be better by up to
3.6 dB.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from matplotlib.figure import Figure
from tyro.conf import Suppress

import diffjax as dj
from diffjax import corrections, data, guidance, operators, plots, times
from diffjax.model_files import SHIPPED
from diffjax.operators import Measurement, Misfit
from diffjax.runs import experiment, judges
from diffjax.runs.own_pictures import OwnPictures
from diffjax.typing import Denoiser, Sampler

WEIGHTS = Path(__file__).with_name("weights")
SDE = dj.VP()


class Parts(NamedTuple):
    """What methods are made of."""

    denoise: Denoiser
    encode: Callable | None = None
    decode: Callable | None = None


class Method(NamedTuple):
    """How a measurement and a model make a guided denoiser and a sampler, and in how many steps."""

    build: Callable[[Measurement, Parts], tuple[Denoiser, Sampler]]
    steps: int = 100
    linear: bool = True  # needs the operator's decomposition
    manifold: bool = False  # needs an autoencoder
    r: int = 1  # how often each step is taken


def steepest(m: Measurement) -> Any:
    """The largest singular value, the greatest factor from a change of x_0 to one of y; else a bound or an estimate."""
    if hasattr(m.operator, "s"):
        return jnp.max(m.operator.s)
    return m.operator.factor if isinstance(m.operator, operators.HDR) else 1.0


def mpgd(m: Measurement, parts: Parts, form: Callable | None = None) -> tuple[Denoiser, Sampler]:
    """Plain, or with another form of the step where the paper has it."""
    loss, scale = Misfit(m, squared=True), 0.4 / steepest(m) ** 2  # 0.5 is a Newton step
    step = corrections.Gradient(loss, scale)
    if form is not None:
        step = corrections.Window(form(loss, parts.encode, parts.decode, scale), 0.3 * SDE.T, 0.5 * SDE.T, step)
    return parts.denoise, dj.KeepEps(dj.Renoise(0.85), step)


def through(loss: Callable, encode: Callable, decode: Callable, scale: Any) -> corrections.Gradient:
    return corrections.Gradient(corrections.Through(loss, encode, decode), scale)


def latent(loss: Callable, encode: Callable, decode: Callable, scale: Any) -> corrections.LatentGradient:
    return corrections.LatentGradient(loss, encode, decode, scale / 60)  # squared slope of the committed D


def reconstruction(m: Measurement, parts: Parts) -> tuple[Denoiser, Sampler]:
    # y ~ N(A x_0, v): v is the noise's variance, and 0.3 that of x_0 given x_t in units of sigma^2
    def weight(t):
        return 0.5 / (m.noise_std**2 + 0.3 * (steepest(m) * SDE.sigma(t)) ** 2)

    return guidance.reconstruction(parts.denoise, SDE, Misfit(m, squared=True), weight), dj.DDIM(0.5)


def paper(call: Callable, *constants: Any, **options: Any) -> Callable[[Measurement, Parts], tuple[Denoiser, Sampler]]:
    """One call of `dj.posterior` as a method's build."""
    return lambda m, parts: call(m, *constants, **options).build(parts.denoise, SDE)


RENOISE, posterior = dj.Renoise(0.85), dj.posterior
METHODS: dict[str, Method] = {
    "DPS": Method(lambda m, w: posterior.dps(m, 1.0 / steepest(m)).build(w.denoise, SDE), linear=False),
    "MPGD": Method(mpgd, linear=False),
    "MPGD-AE": Method(partial(mpgd, form=through), linear=False, manifold=True),
    "MPGD-Z": Method(partial(mpgd, form=latent), linear=False, manifold=True),
    "reconstruction": Method(reconstruction, linear=False),
    "PiGDM": Method(paper(posterior.pigdm, sampler=RENOISE)),
    "PiGDM exact": Method(paper(posterior.moment_matching, 3, sampler=RENOISE), steps=50),
    "DDRM": Method(paper(posterior.ddrm, eta_b=0.9)),
    "DDNM": Method(paper(posterior.ddnm)),
    "DDNM+": Method(paper(posterior.ddnm_plus)),
    "DiffPIR": Method(paper(posterior.diffpir, zeta=0.85**2)),
    "RePaint": Method(paper(posterior.repaint), steps=50, r=4),
}


def problems(shape: tuple[int, int, int]) -> dict[str, Callable[[], Any]]:
    """What builds the operators on images of a shape."""
    key, (h, w, c) = jax.random.key(17), shape
    blur = partial(operators.gaussian_blur, shape, 1.5)
    box = (slice(2 * h // 7, 5 * h // 7), slice(2 * w // 7, 5 * w // 7))
    found = {
        "random 70 %": lambda: operators.Mask(jax.random.bernoulli(key, 0.3, (h, w, 1)).astype(float)),
        "box": lambda: operators.Mask(jnp.ones((h, w, 1)).at[box].set(0.0)),
        "pool x 4": lambda: operators.average_pool(shape, 4),
        "bicubic x 2": lambda: operators.bicubic(shape, 2),
        "Gaussian blur": blur,
        "circular blur": lambda: operators.circular_blur(shape, np.ones((5, 5)) / 25, least=3e-2),
        "compressed 25 %": lambda: operators.compressed_sensing(key, shape, 0.25),
        "projection": lambda: operators.random_projection(key, shape, h * w // 4),
        "grey": operators.grey,
        "HDR": lambda: operators.HDR(2.0),
        "phase": lambda: operators.PhaseRetrieval(h // 2),
        "nonlinear blur": lambda: operators.NonlinearBlur(blur()),
        "quantised": lambda: operators.Quantise(4),
    }
    if c != 3:
        del found["grey"]
    if h * w * c > 4096:  # it takes as many numbers, squared
        del found["projection"]
    return found


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    images: int = 200
    """Test images."""
    noise_std: float = 0.05
    methods: tuple[str, ...] = tuple(METHODS)
    problems: tuple[str, ...] = ()
    """By default all that there are for the images."""
    own: Suppress[str] = "fashion_mnist"
    model: Path | None = None
    """Weights of `score_sde.py`."""
    autoencoder: Path | None = None
    """Weights of `autoencoder.py`; where there are none, MPGD-AE and -Z are left out. The latter's step is for the
    committed ones."""
    seed: int = 0
    workdir: Path = Path("runs/inverse_problems")


def main(config: Config) -> dict[str, Any]:
    images = config.load(config.own, held_out=2)
    there, parts = problems(images.shape), models(config, images.shape)
    chosen = config.problems or tuple(there)
    unknown = (set(config.methods) - set(METHODS)) | (set(chosen) - set(there))
    if unknown:
        raise SystemExit(f"unknown: {sorted(unknown)}; methods {list(METHODS)}, problems {list(there)}")
    experiment.start(config.workdir, config, shared=True)
    x = jnp.asarray(data.to_float(images.test_images[: config.images]))
    settings = experiment.describe(dataclasses.replace(config, methods=(), problems=(), workdir=Path()))
    table = experiment.Table(config.workdir / "rows.json", settings)
    compare = judges.compare(x)
    for problem in chosen:
        m = operators.measure(jax.random.key(config.seed), there[problem](), x, config.noise_std)
        for name, run in runs(config, m, parts, x.shape).items():
            table.measure(f"{problem}, {name}", partial(judged, config, compare, m, f"{problem}, {name}", run))
    figure(config, chosen, np.asarray(x[:8]))
    summary = {name: value for name, value in table.rows.items() if name != "settings"}
    experiment.finish(config.workdir, summary)
    return summary


def models(config: Config, shape: tuple[int, ...]) -> Parts:
    """The model, and the autoencoder if there is one."""
    fashion = config.data is None and config.own == "fashion_mnist"
    own = SHIPPED / "fashion-vp.safetensors" if fashion else WEIGHTS / "emoji.safetensors"
    denoise = config.model_of(config.model, own, "--model", "score_sde.py", sde=SDE, shape=shape).denoise
    if config.autoencoder is None and not fashion:
        print("MPGD-AE and MPGD-Z are left out: there is no --autoencoder.")
        return Parts(denoise)
    where = config.autoencoder, WEIGHTS / "fashion-autoencoder.safetensors", "--autoencoder", "autoencoder.py"
    coder = config.trained(*where, inputs=(shape,))
    return Parts(denoise, Partial(encode, coder), Partial(decode, coder))


def encode(coder: dj.Trained, x: Array) -> Array:
    return coder(x, method="encode")


def decode(coder: dj.Trained, z: Array) -> Array:
    return coder(z, method="decode")


def runs(config: Config, m: Measurement, parts: Parts, shape: tuple[int, ...]) -> dict[str, Callable]:
    """What gives images and milliseconds of a step for one: y itself, and the methods that run on this operator."""
    linear, found = hasattr(m.operator, "s"), {}
    start = operators.pinv(m.operator, m.y) if linear else m.y
    if start.shape == shape:
        found["A+ y" if linear else "y"] = lambda: (start, 0.0)
    for name in config.methods:
        method = METHODS[name]
        if (linear or not method.linear) and (parts.encode is not None or not method.manifold):
            found[name] = partial(draw, config, method, *method.build(m, parts), shape)
    return found


def draw(config: Config, method: Method, denoise: Denoiser, sampler: Sampler, shape: tuple[int, ...]):
    x = dj.prior_sample(jax.random.key(config.seed + 1), SDE, shape)
    args = jax.random.key(config.seed + 2), denoise, SDE, sampler
    ts = times.repaint(times.uniform(SDE, method.steps), 1, method.r)
    out, few = dj.sample(*args, ts, x), times.uniform(SDE, 5)
    jax.block_until_ready(dj.sample(*args, few, x))  # compiles
    start = time.perf_counter()
    jax.block_until_ready(dj.sample(*args, few, x))
    return out, 1e3 * (time.perf_counter() - start) / len(x) / 5


def judged(config: Config, compare: Callable, m: Measurement, name: str, run: Callable) -> dict[str, float]:
    """The figures of a method on a problem; eight of its images are kept for the picture."""
    x, ms = run()
    out = jnp.clip(x, -1, 1)
    np.save(config.workdir / f"{name}.npy", np.asarray(out[:8]))
    residual, unclipped = (float(operators.relative_residual(m, x)) for x in (out, x))
    return {**compare(out), "residual": residual, "unclipped": unclipped, "ms": ms}


def figure(config: Config, chosen: tuple[str, ...], x: np.ndarray) -> None:
    """For each problem a column of methods, three images each."""
    rows = ["original", "A+ y", *config.methods]
    plot = Figure(figsize=(1.3 * len(chosen), 0.45 * len(rows)), layout="constrained")
    for k, (name, problem) in enumerate(itertools.product(rows, chosen)):
        axes = plot.add_subplot(len(rows), len(chosen), 1 + k, xticks=[], yticks=[])
        kept = config.workdir / f"{problem}, {name}.npy"
        if name == "A+ y" and not kept.exists():
            kept = config.workdir / f"{problem}, y.npy"
        shown = x if name == "original" else np.load(kept) if kept.exists() else None
        axes.axis("off") if shown is None else axes.imshow(plots.image_grid(shown[:3], rows=1), cmap="gray")
        axes.set_title(problem, fontsize=8) if name == "original" else None
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8) if k % len(chosen) == 0 else None
    plot.savefig(config.workdir / "inverse_problems.png", dpi=100, bbox_inches="tight")


EMOJI = partial(Config, own="emoji", workdir=Path("runs/inverse_emoji"))
if __name__ == "__main__":
    main(experiment.configure({"fashion": Config, "emoji": EMOJI}, __doc__))

"""Controllable generation with unconditional models: inpainting on Fashion-MNIST, colorization of emoji.

    python experiments/inpainting.py                    # 200 images of each; five minutes of CPU time
    python experiments/inpainting.py --images 40        # quicker, and rougher

Score-SDE replaces what is known at every step (Song et al. 2021, Section 5 and Appendix I), here with a predictor and
corrector and with DDPM's ancestral steps. RePaint goes back up the grid (Lugmayr et al. 2022), over one step or five at
once. All have about fifty evaluations of the network; DDRM, which conditions the unknown part, has its paper's twenty.

Of inpainted garments, which are `score_sde.py --preset cpu-long`'s:

    agreement  how often a classifier that took no part gives the filled image the class of the original
    psnr       dB, on the unknown pixels alone              features   distance in the classifier's layers (LPIPS-like)
    KID        to 2000 training images, in its last features; `original` has the floor

`unconditional` fills the unknown pixels with those of unconditional samples. Of the colours of held-out emoji, whose
mean of red, green and blue is known (model: `score_sde.py --preset cpu-emoji`):

    grey       the largest change of that mean              error      rms of the two colour channels from the original
    chroma     rms of the two channels: how colourful

`other` has the colours of another emoji, `grey` none. A sample is not the mean of its distribution: its error may be
above that of no colour at all, and should be below that of colours from elsewhere.

200 images of each, two CPU cores shared with other work, jax 0.10.2, 2026-11-25:

                      upper half known                    30 % known, at random
                      agreement  psnr   features  KID     agreement  psnr   features  KID
    original          1.000             0.00       1.5    1.000             0.00       1.5
    unconditional     0.320       7.6   2.72      25.4    0.140       7.8   3.27      40.4
    PC                0.595      11.4   1.57       7.2    0.760      15.6   0.91       9.7
    Ancestral         0.610      11.2   1.63       6.0    0.840      15.4   0.97       9.8
    RePaint, j = 1    0.730      13.2   1.16       5.3    0.900      18.2   0.49       3.0
    RePaint, j = 5    0.705      12.6   1.29       6.5    0.910      17.8   0.52       2.8
    DDRM              0.590      11.9   1.47       4.2    0.845      16.4   0.77       6.9

    colours           original   grey    other   PC      Ancestral   RePaint, j = 1   j = 5   DDRM
    grey              0          6e-8    1e-7    2e-7    2e-7        2e-7             2e-7    6e-5
    error             0          0.335   0.403   0.382   0.366       0.368            0.356   0.353
    chroma            0.335      0       0.279   0.244   0.232       0.237            0.221   0.223

RePaint makes better use of fifty evaluations than finer steps do; at this cost jumps of one step serve as well as the
paper's longer ones. Agreement is known to 0.035, KID to 1 or 2. DDRM's grey is that of alpha(t_min) x, for the grid
ends at t_min.

Your own pictures are inpainted and coloured by a model of them, whose folder holds its weights; the network that judges
is then EfficientNet-Lite0 (`make data` fetches it), which has no class to agree on:

    python experiments/score_sde.py --data folder --data.path DIR --data.size 32 --workdir runs/model
    python experiments/inpainting.py --data folder --data.path DIR --data.size 32 --model runs/model/ema.safetensors
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from matplotlib.figure import Figure

import diffjax as dj
from diffjax import data, metrics, operators, plots, samplers, times
from diffjax.constraints import Known
from diffjax.data.image_data import ImageData
from diffjax.model_files import SHIPPED
from diffjax.runs import experiment
from diffjax.runs.own_pictures import OwnPictures
from diffjax.typing import Denoiser, Sampler

WEIGHTS = Path(__file__).with_name("weights")
SDE = dj.VP()
Keep = Callable[[Sampler], Known]


class Method(NamedTuple):
    """How what is known makes a sampler, and RePaint's grid: n steps, of which j at a time are taken r times."""

    build: Callable[[Keep], Sampler]
    n: int
    j: int = 1
    r: int = 1


METHODS: dict[str, Method] = {
    "PC": Method(lambda keep: dj.PC(keep(dj.Ancestral()), keep(dj.Langevin(0.16))), 25),
    "Ancestral": Method(lambda keep: keep(dj.Ancestral()), 50),
    "RePaint, j = 1": Method(lambda keep: dj.TimeTravel(keep(dj.Ancestral())), 17, 1, 3),
    "RePaint, j = 5": Method(lambda keep: dj.TimeTravel(keep(dj.Ancestral())), 20, 5, 3),
    "DDRM": Method(lambda keep: dj.DDRM(keep(dj.Ancestral()).measurement), 20),
}
MASKS: dict[str, Callable[[int], Array]] = {  # of images n pixels wide, [n, n, 1]
    "upper half": lambda n: jnp.ones((n, n, 1)).at[n // 2 :].set(0.0),
    "random 30 %": lambda n: jax.random.bernoulli(jax.random.key(17), 0.3, (n, n, 1)).astype(float),
}
PROBLEMS = (*MASKS, "grey")


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    images: int = 200
    """Test images, of garments and of emoji, or of your own pictures."""
    methods: tuple[str, ...] = tuple(METHODS)
    problems: tuple[str, ...] = PROBLEMS
    emoji_weights: Path = WEIGHTS / "emoji.safetensors"
    model: Path | None = None
    """Weights of `score_sde.py` for garments, or for your own pictures."""
    seed: int = 0
    workdir: Path = Path("runs/inpainting")


def main(config: Config) -> dict[str, Any]:
    unknown = (set(config.methods) - set(METHODS)) | (set(config.problems) - set(PROBLEMS))
    if unknown:
        raise SystemExit(f"unknown: {sorted(unknown)}; methods {list(METHODS)}, problems {list(PROBLEMS)}")
    experiment.start(config.workdir, config)
    emoji = coloured(config) if "grey" in config.problems else None  # first: they may be missing
    pictures: dict[str, dict[str, np.ndarray]] = {}
    summary = {}
    if set(config.problems) & set(MASKS):
        summary |= inpainting(config, pictures)
    if emoji is not None:
        summary |= colorization(config, emoji, pictures)
    figure(pictures, config.workdir / "inpainting.png")
    experiment.finish(config.workdir, summary)
    return summary


def inpainting(config: Config, pictures: dict) -> dict[str, float]:
    """Inpainting by every method, beside pixels of unconditional samples; `pictures` gets the first eight of each."""
    images, summary = config.load("fashion_mnist", held_out=2), {}
    where = config.model, SHIPPED / "fashion-vp.safetensors", "--model", "score_sde.py"
    denoise = config.model_of(*where, sde=SDE, shape=images.shape).denoise
    x = jnp.asarray(data.to_float(images.test_images[: config.images]))
    judge = Judge(x, data.to_float(images.train_images[:2000]))
    free = draw(config, denoise, dj.Ancestral(), times.uniform(SDE, 50), x.shape)
    for problem in [name for name in MASKS if name in config.problems]:
        mask = MASKS[problem](x.shape[1])
        found = {"original": x, "unconditional": x * mask + free * (1 - mask)}
        found |= fill(config, denoise, partial(dj.inpaint, image=x, mask=mask), x.shape)
        pictures[problem] = {"known": np.asarray(x * mask)[:8], **{k: np.asarray(v)[:8] for k, v in found.items()}}
        summary |= rows(problem, {name: judge(jnp.clip(out, -1, 1), mask) for name, out in found.items()})
    return summary


def coloured(config: Config) -> ImageData | None:
    """The pictures to colour; None, with a line, where there are none and other problems are left.

    Raises:
      SystemExit: there are none, and there is no other problem.
    """
    try:
        return config.load("emoji", held_out=2)
    except SystemExit as error:
        if config.data is not None or not set(config.problems) & set(MASKS):
            raise
        print(f"Colorization is left out. {error}", flush=True)
        return None


def colorization(config: Config, images: ImageData, pictures: dict) -> dict[str, float]:
    """Colorization by every method, beside no colours and those of another image."""
    rng = np.random.default_rng(config.seed)
    given, option = (config.model, "--model") if config.data else (None, "--emoji-weights")
    where = given, config.emoji_weights, option, "score_sde.py --preset cpu-emoji"
    denoise = config.model_of(*where, sde=SDE, shape=images.shape).denoise
    chosen = rng.permutation(len(images.test_images))[: config.images]
    x, A = jnp.asarray(data.to_float(images.test_images[chosen])), operators.grey()
    grey = jnp.broadcast_to(A(x), x.shape)
    found = {"original": x, "grey": grey, "other": grey + jnp.roll(x - grey, 1, axis=0)}
    found |= fill(config, denoise, partial(dj.colorize, image=A(x)), x.shape)
    pictures["grey"] = {"known": np.asarray(grey)[:8], **{k: np.asarray(v)[:8] for k, v in found.items()}}

    def judge(out: Array) -> dict[str, float]:
        colour, truth = A.Vt(jnp.clip(out, -1, 1))[..., 1:], A.Vt(x)[..., 1:]
        return {
            "grey": float(jnp.abs(A(out) - A(x)).max()),
            "error": float(jnp.sqrt(jnp.mean((colour - truth) ** 2))),
            "chroma": float(jnp.sqrt(jnp.mean(colour**2))),
        }

    return rows("grey", {name: judge(out) for name, out in found.items()})


def fill(config: Config, denoise: Denoiser, keep: Keep, shape: tuple[int, ...]) -> dict[str, Array]:
    """The images of each method, not clipped: clipping would change what is known."""
    found = {}
    for name in config.methods:
        method = METHODS[name]
        ts = times.repaint(times.uniform(SDE, method.n), method.j, method.r)
        found[name] = draw(config, denoise, method.build(keep), ts, shape)
        print(f"{name}: {int((jnp.diff(ts) < 0).sum())} steps down", flush=True)
    return found


def draw(config: Config, denoise: Denoiser, sampler: Sampler, ts: Array, shape: tuple[int, ...]):
    keys = jax.random.key(config.seed + 1), jax.random.key(config.seed + 2)
    return samplers.generate(keys, denoise, SDE, sampler, ts, shape, batch_size=shape[0])  # what is known is of all


def rows(problem: str, table: dict[str, dict[str, float]]) -> dict[str, float]:
    """The table printed, and as entries of the summary."""
    for name, row in table.items():
        print(f"{problem:<13}{name:<16}" + "".join(f"{k} {v:9.3g}  " for k, v in row.items()), flush=True)
    return {f"{problem}, {name}, {key}": value for name, row in table.items() for key, value in row.items()}


class Judge:
    """Inpainted images measured by a network that took no part: a classifier of garments, or EfficientNet-Lite0."""

    def __init__(self, x: Array, train: np.ndarray):
        self.x, self.classes, pictures = x, None, x.shape[-1] == 3
        self.features = metrics.lite0_features((x.shape[1], x.shape[2], 3)) if pictures else metrics.fashion_features()
        layers = metrics.lite0_layers() if pictures else metrics.fashion_layers()
        self.train = self.features(train)
        self.distance = jax.jit(lambda a, b: metrics.feature_distance(layers, a, b))
        if not pictures:
            classify = jax.jit(dj.load("fashion-classifier"))
            self.classes = lambda x: classify(x)[0].argmax(-1)

    def __call__(self, out: Array, mask: Array) -> dict[str, float]:
        hidden = jnp.broadcast_to(1 - mask, out.shape[1:])
        missed = ((out - self.x) ** 2 * hidden).sum((1, 2, 3)) / hidden.sum()
        same = {"agreement": float((self.classes(out) == self.classes(self.x)).mean())} if self.classes else {}
        return {
            **same,
            "psnr": float((20 * jnp.log10(2) - 10 * jnp.log10(jnp.maximum(missed, 1e-10))).mean()),
            "features": float(self.distance(out, self.x).mean()),
            "KID": metrics.mmd2(self.train, self.features(out)),
        }


def figure(pictures: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """For each problem a column, for each method a row of eight images."""
    names = list(dict.fromkeys(name for column in pictures.values() for name in column))
    plot = Figure(figsize=(4.2 * len(pictures), 0.62 * len(names)), layout="constrained")
    for j, (problem, column) in enumerate(pictures.items()):
        for i, name in enumerate(names):
            axes = plot.add_subplot(len(names), len(pictures), 1 + i * len(pictures) + j, xticks=[], yticks=[])
            axes.imshow(plots.image_grid(column[name], rows=1), cmap="gray") if name in column else axes.axis("off")
            axes.set_title(problem, fontsize=9) if i == 0 else None
            axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    plot.savefig(path, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

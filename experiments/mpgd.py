"""Guidance by a loss of the clean estimate on real pixels: identity, text and style (MPGD, He et al. 2024).

    make data                                                      # faces, emoji and the networks, once
    python experiments/mpgd.py --preset text                       # emoji of a caption, by a tiny CLIP
    python experiments/mpgd.py --preset style                      # the same, drawn like a reference picture
    python experiments/score_sde.py --preset cpu-faces             # the model of faces: its weights are not published
    python experiments/mpgd.py --preset identity                   # faces of the person in a photograph

The models are unconditional and know nothing of the task. Each step of a sampler moves its clean estimate down the
gradient of a loss, which never passes through the model: `KeepEps(sampler, Gradient(Misfit(measurement), scale))`; the
measurement is what a network sees of the image (`diffjax.operators.perceptual`). Scale 0 is the model by itself.

    task      what is measured                     who judges
    identity  dlib's face network                  `face_judge.py`: ArcFace on EfficientNet-Lite0's features
    text      the guide of `emoji_clip.py`         the judge of `emoji_clip.py`: EfficientNet-Lite0's features
    style     Gram matrices of EfficientNet-Lite0  the style loss itself, and the judge of text
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from matplotlib.figure import Figure

import diffjax as dj
from diffjax import corrections, data, experiment, metrics, nn, operators, plots, precondition, times
from diffjax.data import packages
from diffjax.nn import presets, pretrained
from diffjax.operators import Measurement, Misfit
from diffjax.typing import Denoiser, Sampler
from diffjax.weights import load_params

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "notebooks"
STYLE = 500
SDE, SHAPE = dj.VP(), (32, 32, 3)
PROMPTS = (
    "flag", "clock face one oclock", "cat face", "family", "couple with heart",
    "automobile", "runner", "house building", "flower", "raised hand",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    task: str = "text"
    """identity, text or style."""
    scales: tuple[float, ...] = (0.0, 0.02, 0.05)
    """Steps of the clean estimate, in root mean square units of [-1, 1]."""
    samples: int = 200
    steps: int = 100
    eta: float = 0.5
    """Share of fresh noise in every step."""
    passes: int = 1
    """How often each step is taken (time travel)."""
    first: float = 0.02
    """For style: the scale of the text."""
    low: float = 0.1
    """The time below which nothing is guided."""
    model: Path = WEIGHTS / "emoji.safetensors"
    batch_size: int = 50
    data_dir: Path | None = None
    seed: int = 0
    workdir: Path = Path("runs/mpgd_text")


class Task(NamedTuple):
    """What to guide by, the last of it at the scales; who judges the images; and what they should be like."""

    measurements: tuple[Measurement, ...]
    judge: Callable[[np.ndarray], dict[str, float]]
    references: np.ndarray


def main(config: Config) -> dict[str, Any]:
    if config.task not in TASKS:
        raise SystemExit(f"unknown task {config.task!r}; choose one of: {', '.join(TASKS)}")
    experiment.start(config.workdir, config)
    task, denoise = TASKS[config.task](config), model(config.model)
    summary, pictures = {}, {"reference": task.references}
    for scale in config.scales:
        x = draw(config, task, denoise, scale)
        row = task.judge(x)
        print(f"scale {scale:<6g}" + "".join(f"  {k} {v:.3f}" for k, v in row.items()), flush=True)
        summary |= {f"scale {scale:g}, {key}": value for key, value in row.items()}
        pictures[f"{scale:g}"] = x
    figure(config, pictures)
    experiment.finish(config.workdir, summary)
    return summary


def model(path: Path) -> Denoiser:
    """The denoiser of `score_sde.py`'s presets of pictures.

    Raises:
      SystemExit: there are no such weights; the message names the command that makes them.
    """
    if not path.exists():
        raise SystemExit(f"there is no {path}: train the model by `python experiments/score_sde.py --preset cpu-faces`")
    net = presets.small(multipliers=(1, 2, 3), dropout=0.1)
    return precondition.from_v(SDE, Partial(net.apply, load_params(path)))


def draw(config: Config, task: Task, denoise: Denoiser, scale: float) -> np.ndarray:
    """Samples [n, 32, 32, 3] in [-1, 1]; sample i has the same noise at every scale."""
    ts = times.uniform(SDE, config.steps)
    k_prior, k_steps = (dj.arrays.example_keys(jax.random.key(config.seed + i), config.samples) for i in (1, 2))
    found = []
    for i in range(0, config.samples, config.batch_size):
        part = slice(i, i + config.batch_size)
        x = dj.prior_sample(k_prior[part], SDE, (len(k_prior[part]), *SHAPE))
        found.append(np.asarray(dj.sample(k_steps[part], denoise, SDE, sampler(config, task, scale, part), ts, x)))
    return np.clip(np.concatenate(found), -1, 1)


def sampler(config: Config, task: Task, scale: float, part: slice) -> Sampler:
    """The guided sampler of the examples in `part`."""
    guided: Sampler = dj.Renoise(config.eta)
    scales = [config.first] * (len(task.measurements) - 1) + [scale]
    for m, c in zip(task.measurements, scales, strict=True):
        own = dataclasses.replace(m, y=m.y[part])
        step = corrections.Gradient(Misfit(own), c, normalised=True)
        guided = dj.KeepEps(guided, corrections.Window(step, config.low, SDE.T))
    return dj.TimeTravel(guided, config.passes, config.low, 0.7) if config.passes > 1 else guided


def identity(config: Config, people: int = 10) -> Task:
    """The first held-out faces, each a reference for equally many samples."""
    faces = data.to_float(data.load("faces", config.data_dir).test_images)
    who = np.arange(config.samples) % people
    net = pretrained.load_face_net(packages.find(*pretrained.FACE_NET))
    measurement = Measurement(net, net(jnp.asarray(faces[:people]))[who])
    see, head = metrics.lite0_features(SHAPE, parts=3), load_params(WEIGHTS / "face_judge.safetensors")["params"]

    def embed(x: np.ndarray) -> np.ndarray:
        return unit(see(x) @ head["embed"]["kernel"] + head["embed"]["bias"])

    y = embed(faces)
    limit = np.quantile((y @ y.T)[~np.eye(len(y), dtype=bool)], 0.99)  # 1 % of the pairs of two people are above

    def judge(x: np.ndarray) -> dict[str, float]:
        cosine = np.sum(embed(x) * y[who], axis=-1)
        return {
            "distance": distance(measurement, x),
            "cosine": float(cosine.mean()),
            "accepted": float((cosine > limit).mean()),
            "spread": float(np.mean([x[who == i].std(0).mean() for i in np.unique(who)])),
        }

    return Task((measurement,), judge, faces[who])


def text(config: Config) -> Task:
    """The prompts, each for equally many samples."""
    want = np.arange(config.samples) % len(PROMPTS)
    vectors = pretrained.sentence_vectors(packages.find(*pretrained.MINILM), PROMPTS)
    clip = nn.CLIP(nn.Classifier(128, multipliers=(1, 2, 4), dropout=0.1))
    params = load_params(WEIGHTS / "emoji_clip_guide.safetensors")
    targets = clip.apply(params, vectors, method="words")
    measurement = Measurement(Partial(partial(clip.apply, method="image"), params), jnp.asarray(targets)[want])
    see, head = metrics.lite0_features(SHAPE, parts=3), load_params(WEIGHTS / "emoji_clip_judge.safetensors")["params"]
    words = unit(vectors @ head["text"]["kernel"])

    def judge(x: np.ndarray) -> dict[str, float]:
        tower = head["tower"]["Dense_0"]
        cosines = unit(see(x) @ tower["kernel"] + tower["bias"]) @ words.T
        return {
            "accuracy": float(np.mean(cosines.argmax(-1) == want)),
            "cosine": float(cosines[np.arange(len(x)), want].mean()),
        }

    return Task((measurement,), judge, np.ones((len(PROMPTS), *SHAPE)))


def style(config: Config) -> Task:
    """The prompts, drawn like one held-out picture of another thing."""
    captioned = text(config)
    images = data.load("emoji", config.data_dir)
    reference = data.to_float(images.test_images[[STYLE]])
    net = pretrained.load_efficientnet_lite0(packages.find(*pretrained.EFFICIENTNET_LITE0))
    gram = operators.Gram(Partial(maps, net))
    measurement = Measurement(gram, jnp.repeat(gram(jnp.asarray(reference)), config.samples, axis=0))

    def judge(x: np.ndarray) -> dict[str, float]:
        return {"style": distance(measurement, x), **captioned.judge(x)}

    return Task((*captioned.measurements, measurement), judge, reference)


def maps(net: Callable, x: Array) -> Sequence[Array]:
    """EfficientNet-Lite0's first three stages, of images at twice their size."""
    return net(jax.image.resize(x, (len(x), 64, 64, 3), "linear")).stages[:3]


def distance(measurement: Measurement, x: np.ndarray) -> float:
    """The mean misfit."""
    return float(jax.jit(lambda x: Misfit(measurement)(x))(x).mean())


def unit(y: np.ndarray) -> np.ndarray:
    return y / np.linalg.norm(y, axis=-1, keepdims=True)


def figure(config: Config, pictures: dict[str, np.ndarray]) -> None:
    """Rows of twenty: the references, and each scale."""
    plot = Figure(figsize=(12, 1.2 * len(pictures)), layout="constrained")
    for i, (name, x) in enumerate(pictures.items(), start=1):
        axes = plot.add_subplot(len(pictures), 1, i, xticks=[], yticks=[])
        axes.imshow(plots.image_grid(x[:20], rows=1))
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    plot.savefig(config.workdir / "mpgd.png", dpi=110, bbox_inches="tight")


TASKS = {"identity": identity, "text": text, "style": style}
PRESETS: dict[str, Callable[[], Config]] = {
    "text": Config,
    "style": partial(Config, task="style", workdir=Path("runs/mpgd_style")),
    "identity": partial(
        Config,
        task="identity",
        model=ROOT / "runs/score_sde_faces/ema.safetensors",
        workdir=Path("runs/mpgd_identity"),
    ),
}

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

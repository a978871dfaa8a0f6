"""Guidance by a loss of the clean estimate on real pixels: identity, text and style (MPGD, He et al. 2024).

    make data                                                      # faces, emoji and the networks, once
    python experiments/mpgd.py --preset text                       # emoji of a caption, by a tiny CLIP
    python experiments/mpgd.py --preset style                      # the same, drawn like a reference picture
    python experiments/score_sde.py --preset cpu-faces             # the model of faces: its weights are not published
    python experiments/mpgd.py --preset identity                   # faces of the person in a photograph

On a folder of your own pictures (`--data folder --data.path DIR`, faces for identity) a task needs their `--model`
(`score_sde.py --preset cpu-emoji`), and text and style a `--guide` and a `--judge` (`emoji_clip.py`), all of that data.

The models are unconditional and were trained without the task. Each step of a sampler moves its clean estimate down the
gradient of a loss, by MPGD without the model, `KeepEps(sampler, Gradient(Misfit(measurement), scale))`, where the
measurement is a network's features of the image (`diffjax.operators.perceptual`); or with `--through` through the
model, at three times the cost. Scale 0 is the model by itself.

    task      the loss                                               who judges
    identity  distance of dlib's face network, in eight views        `face_judge.py`: ArcFace on EfficientNet-Lite0
    text      -log p(text | x_0) by the guide of `emoji_clip.py`     its judge, on EfficientNet-Lite0
    style     distance of Gram matrices of EfficientNet-Lite0        those of the face network, and the judge of text

Style, 200 samples (`--preset style`, 29 minutes on two shared CPU cores), jax 0.10.2, 2026-11-27: the loss; the face
network's distance, and how often it finds the own of three references the nearest; the text's accuracy (20 samples of
"automobile", which was among the other texts as well):

    scale      0       0.03    0.1     0.15
    style      38.9    27.3    18.8    17.4
    judged     0.949   0.788   0.607   0.573
    nearest    0.315   0.735   0.805   0.800      chance 0.333
    accuracy   0.335   0.300   0.225   0.215      chance 0.1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

import diffjax as dj
from diffjax import corrections, data, guidance, metrics, operators, plots, pretrained, times
from diffjax.data import packages
from diffjax.data.pictures import read_square
from diffjax.operators import Measurement, Misfit
from diffjax.runs import experiment, judges
from diffjax.runs.own_pictures import OwnPictures
from diffjax.typing import Denoiser, Sampler

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "experiments" / "weights"
MODELS = {"identity": ROOT / "runs/score_sde_faces/ema.safetensors"}  # of the other tasks: emoji
SDE, STYLES = dj.VP(), (261, 377, 1131)  # a peacock, yin and yang, a heart: held-out emoji
PROMPTS = (
    "flag", "clock face one oclock", "cat face", "family", "couple with heart",
    "automobile", "runner", "house building", "flower", "raised hand",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    task: Literal["identity", "text", "style"] = "text"
    scales: tuple[float, ...] = (0.0, 0.05, 0.15)
    """Steps of the clean estimate, in root mean square units of [-1, 1]; with `through`, factors of the loss."""
    samples: int = 200
    steps: int = 100
    eta: float = 0.5
    """Share of fresh noise in every step."""
    through: bool = False
    """Whether the gradient goes through the model too (reconstruction guidance)."""
    prompts: tuple[str, ...] = ()
    """For text and style; by default ten emoji, or the first ten captions of a folder's held-out pictures."""
    references: tuple[Path, ...] = ()
    """Your own pictures: of people, for identity, or one of a style; by default held-out ones of the set."""
    first: float = 10.0
    """For style: the scale of the text, which is felt through the model."""
    low: float = 0.1
    """The time below which nothing is guided."""
    model: Path | None = None
    """Weights of `score_sde.py`."""
    guide: Path | None = None
    """Weights of `emoji_clip.py`."""
    judge: Path | None = None
    """Those of its preset judge."""
    batch_size: int = 50
    seed: int = 0
    workdir: Path = Path("runs/mpgd_text")

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.size, self.size, 3


class Task(NamedTuple):
    """What to guide by, the last of it at the scales; who judges the images; and what they should be like."""

    losses: Callable[[slice], Sequence[Callable]]  # of the samples in a slice, (x_0, cond) -> [B]
    judge: Callable[[np.ndarray], dict[str, float]]
    references: np.ndarray | None = None


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    own = MODELS.get(config.task, WEIGHTS / "emoji.safetensors")
    recipe = f"score_sde.py --preset {'cpu-faces' if config.task == 'identity' else 'cpu-emoji'}"
    denoise = config.model_of(config.model, own, "--model", recipe, sde=SDE, shape=config.shape).denoise
    task = TASKS[config.task](config)
    summary = {}
    drawn = {} if task.references is None else {"reference": task.references}
    for scale in config.scales:
        x = draw(config, task, denoise, scale)
        row = task.judge(x)
        print(f"scale {scale:<6g}" + "".join(f"  {k} {v:.3f}" for k, v in row.items()), flush=True)
        summary |= {f"scale {scale:g}, {key}": value for key, value in row.items()}
        drawn[f"{scale:g}"] = x
    plots.image_rows(config.workdir / "mpgd.png", {name: x[:20] for name, x in drawn.items()})
    experiment.finish(config.workdir, summary)
    return summary


def draw(config: Config, task: Task, denoise: Denoiser, scale: float) -> np.ndarray:
    """Samples [n, H, W, 3] in [-1, 1]; sample i has the same noise at every scale."""
    ts = times.uniform(SDE, config.steps)
    k_prior, k_steps = (dj.arrays.example_keys(jax.random.key(config.seed + i), config.samples) for i in (1, 2))
    found = []
    for i in range(0, config.samples, config.batch_size):
        part = slice(i, i + config.batch_size)
        guided, sampler = guide(config, task.losses(part), denoise, scale)
        x = dj.prior_sample(k_prior[part], SDE, (len(k_prior[part]), *config.shape))
        found.append(np.asarray(dj.sample(k_steps[part], guided, SDE, sampler, ts, x)))
    return np.clip(np.concatenate(found), -1, 1)


def guide(config: Config, losses: Sequence[Callable], denoise: Denoiser, scale: float) -> tuple[Denoiser, Sampler]:
    """All losses but the last are felt through the model, at the scale `first`."""
    *others, last = losses
    for loss in others:
        denoise = guidance.reconstruction(denoise, SDE, loss, config.first)
    if not scale:
        return denoise, dj.Renoise(config.eta)
    if config.through:
        return guidance.reconstruction(denoise, SDE, last, scale), dj.Renoise(config.eta)
    step = corrections.Window(corrections.Gradient(last, scale, normalised=True), config.low, SDE.T)
    return denoise, dj.KeepEps(dj.Renoise(config.eta), step)


def pictures(config: Config, default: np.ndarray) -> np.ndarray:
    """The user's references, or the default, [n, H, W, 3] in [-1, 1]."""
    own = [read_square(path, config.size) for path in config.references]
    return data.to_float(np.stack(own)) if own else default


def identity(config: Config, people: int = 10) -> Task:
    """The references, or the first held-out faces, each for equally many samples."""
    faces = data.to_float(config.load("faces", held_out=2).test_images)
    references = pictures(config, faces[:people])
    who = np.arange(config.samples) % len(references)
    net = pretrained.load_face_net(packages.find(*pretrained.FACE_NET))
    many = operators.Views(net)
    y, wanted = net(jnp.asarray(references))[who], many(jnp.asarray(references))[who]
    see = metrics.lite0_features(config.shape, parts=3)
    head = dj.load(WEIGHTS / "face-judge.safetensors")

    def embed(x: np.ndarray) -> np.ndarray:
        return judges.normalised(np.asarray(head(see(x)[:, None, None])))

    own, others = embed(references)[who], embed(faces)
    limit = np.quantile((others @ others.T)[~np.eye(len(faces), dtype=bool)], 0.99)  # 1 % of pairs of two are above

    def judge(x: np.ndarray) -> dict[str, float]:
        cosine = np.sum(embed(x) * own, axis=-1)
        return {
            "distance": distance(net, y, x),
            "cosine": float(cosine.mean()),
            "accepted": float((cosine > limit).mean()),
            "spread": float(np.mean([x[who == i].std(0).mean() for i in np.unique(who)])),
        }

    return Task(lambda part: (Misfit(Measurement(many, wanted[part])),), judge, references[who])


def text(config: Config, others: int = 400) -> Task:
    """The prompts, each for equally many samples, compared with one another and with other captions of the set.

    A CLIP is a classifier of whatever texts it is given: the loss is -log p(prompt | x_0) among them all.
    """
    images: Any = config.load("emoji")

    def clip(name: str, given: Path | None, options: str, shape: tuple[int, ...]) -> dj.Trained:
        own = WEIGHTS / f"emoji-clip-{name}.safetensors"
        return config.trained(given, own, f"--{name}", f"emoji_clip.py {options}", inputs=(shape, (), (384,)))

    guide = clip("guide", config.guide, "--model PATH", config.shape)
    prompts = config.prompts or (PROMPTS if config.data is None else np.unique(images.test_captions)[:10].tolist())
    captions = np.unique(images.train_captions)
    drawn = np.random.default_rng(config.seed).choice(captions, min(others, len(captions)), False)
    texts = [*prompts, *np.setdiff1d(drawn, prompts)]  # no prompt competes with itself
    vectors = pretrained.sentence_vectors(packages.find(*pretrained.MINILM), texts)
    words = guide(vectors, method="words")
    which = jnp.arange(config.samples) % len(prompts)
    seen = clip("judge", config.judge, "--preset judge", judges.CLIP_FEATURES)
    choices = (np.asarray(which)[:, None] + np.arange(len(prompts))) % len(prompts)  # its own prompt first
    judge = judges.caption_judge(seen, config.shape, vectors, choices)
    return Task(lambda part: (Partial(caption_loss, guide, words, which[part]),), judge)


def caption_loss(guide: dj.Trained, words: Array, which: Array, x0: Array, cond: Any = None) -> Array:
    """-log p(text | x_0), [B]; `which` [B] is the row of each text among words [N, D]."""
    cosines = guide(x0, method="image") @ words.T
    logits = jnp.exp(guide.params["params"]["log_scale"]) * cosines
    return optax.softmax_cross_entropy_with_integer_labels(logits, which)


def style(config: Config) -> Task:
    """The prompts, drawn like the references in turn, by default pictures of other things."""
    captioned, rows = text(config), [*STYLES] if config.data is None else [0, 1, 2]
    styles = pictures(config, data.to_float(config.load("emoji", held_out=3).test_images[rows]))
    which = np.arange(config.samples) % len(styles)
    gram = operators.Gram(metrics.lite0_layers())
    y = gram(jnp.asarray(styles[which]))
    seen = judges.style_judge(styles, which)

    def judge(x: np.ndarray) -> dict[str, float]:
        return {"style": distance(gram, y, x), **seen(x), **captioned.judge(x)}

    return Task(lambda part: (*captioned.losses(part), Misfit(Measurement(gram, y[part]))), judge, styles[which])


def distance(see: Callable, y: Array, x: np.ndarray) -> float:
    return float(jax.jit(lambda x: Misfit(Measurement(see, y))(x))(x).mean())


TASKS = {"identity": identity, "text": text, "style": style}
PRESETS: dict[str, Callable[[], Config]] = {
    "text": partial(Config, through=True, scales=(0.0, 10.0, 20.0)),
    "style": partial(Config, task="style", scales=(0.0, 0.03, 0.1, 0.15), workdir=Path("runs/mpgd_style")),
    "identity": partial(Config, "identity", (0.0, 300.0), 200, 50, through=True, workdir=Path("runs/mpgd_identity")),
}

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

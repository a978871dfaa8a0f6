"""A tiny CLIP of the captioned emoji: a guide of `mpgd.py`, and a judge trained apart from it.

    make data                                           # emoji, MiniLM and EfficientNet-Lite0, once
    python experiments/emoji_clip.py                    # preset guide: a network of its own, minutes on two CPU cores
    python experiments/emoji_clip.py --preset judge     # a linear map of EfficientNet-Lite0's features, other seed

Texts are MiniLM's sentence vectors, mapped linearly. The guide has its own convolutions and learns from what it meets
in guidance, the clean estimates E[x_0 | x_t] of the model of emoji at all times, blurred and uncertain as they are. The
judge takes an ImageNet network's features of whole images, so that its errors are not the guide's. Weights go to the
run's folder as `ema.safetensors`; the committed ones are weights/emoji-clip-guide.safetensors and
weights/emoji-clip-judge.safetensors.

Both also learn from a folder of your own captioned pictures: `--data folder --data.path DIR --data.size 32`, and the
guide from the estimates of a model of them, `--model runs/score_sde/ema.safetensors` (`score_sde.py`).

`category` is the share of held-out emoji whose nearest category name is their own, `top 1` and `top 5` that of those
whose caption is among the nearest of all 388 held-out captions. Two shared CPU cores, jax 0.10.2, 2026-11-25:

    preset   training               category   top 1   top 5
    guide    2,000 steps, 13 min    0.257      0.113   0.290
    judge    1,500 steps, 1 min     0.297      0.122   0.320
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tyro.conf import OmitArgPrefixes, Suppress

import diffjax as dj
from diffjax import data, metrics, nn, precondition, pretrained, times, train
from diffjax.data import packages
from diffjax.losses import InfoNCE
from diffjax.model_files import IN_A_RUN
from diffjax.runs import experiment, image_run
from diffjax.runs.own_pictures import OwnPictures
from diffjax.typing import Denoiser

SDE, EMOJI = dj.VP(), Path(__file__).with_name("weights") / "emoji.safetensors"
GUIDE = nn.CLIP(nn.Classifier(128, multipliers=(1, 2, 4), dropout=0.1))
JUDGE = nn.CLIP(nn.LinearHead())


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    net: Suppress[nn.CLIP] = GUIDE
    see: Suppress[Callable] = data.to_float  # uint8 images -> the network's input
    estimates: bool = True
    """Whether to learn from the clean estimates of noisy images."""
    model: Path | None = None
    """Whose estimates: weights of `score_sde.py`."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=1e-3, lr_end=1e-5, warmup=50, ema=(0.99,), weight_decay=0.1
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=2000, log_every=50, checkpoint_every=500, sample_every=0
    )
    batch_size: int = 64
    seed: int = 20
    workdir: Path = Path("runs/emoji_clip_guide")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    images, key = config.load("emoji"), jax.random.key(config.seed)
    captions, ids = np.unique([*images.train_captions, *images.test_captions], return_inverse=True)  # pyright: ignore
    text, n = embed(captions.tolist()), len(images.train_images)
    x = config.see(images.train_images)
    params = config.net.init(key, jnp.asarray(x[:1]), jnp.zeros(1), jnp.asarray(text[:1]))
    tx = config.optim.build(config.loop.steps)
    loss = InfoNCE(SDE, times.Fixed(0.0), config.net.apply)
    if config.estimates:
        where = config.model, EMOJI, "--model", "score_sde.py --preset cpu-emoji"
        loss = estimated(config.net, config.model_of(*where, sde=SDE, shape=images.shape).denoise)
    state = train.TrainState.create(key, params, tx, config.optim.ema)

    def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
        for batch in data.batches(x, ids[:n], config.batch_size, seed=config.seed, start_step=start):
            yield {**batch, "text": text[batch["label"]]}

    step = train.jit_train_steps(loss, tx, config.optim.ema)
    state, summary = experiment.fit(step, state, batches, config.workdir, config.loop)
    trained = dj.Trained(config.net, state.ema[0], (x.shape[1:], (), text.shape[1:]))
    summary |= {"parameters": train.count(params), **judge(config, trained, images, text[ids[n:]])}
    dj.save(config.workdir / IN_A_RUN, trained, image_run.about(images, summary, config.workdir), "float16")
    experiment.finish(config.workdir, summary)
    return summary


def estimated(clip: nn.CLIP, denoise: Denoiser) -> InfoNCE:
    """The loss of E[x_0 | x_t]; the tower is not conditioned on t, as in guidance."""

    def network(params: Any, x: Array, t: Array, text: Array, **options: Any) -> Any:
        return clip.apply(params, denoise(x, t), jnp.zeros(()), text, **options)

    return InfoNCE(SDE, times.Uniform(), network, precondition.time)


def embed(texts: list[str]) -> np.ndarray:
    """MiniLM's sentence vectors, [N, 384]."""
    return pretrained.sentence_vectors(packages.find(*pretrained.MINILM), texts)


def lite0(images: np.ndarray) -> np.ndarray:
    """The judge's input of uint8 images: [N, 1, 1, 1008]."""
    return metrics.lite0_features(images.shape[1:], parts=3)(data.to_float(images))[:, None, None]


def judge(config: Config, clip: dj.Trained, images: data.ImageData, text: np.ndarray) -> dict[str, float]:
    """Zero-shot categories, and retrieval of captions, of the held-out emoji."""
    x = jnp.asarray(config.see(images.test_images))
    found = np.asarray(jax.jit(lambda x: clip(x, jnp.zeros(()), method="image"))(x))
    names = np.asarray(clip(embed([name.lower() for name in images.class_names]), method="words"))
    captions, own = np.unique(text, axis=0, return_inverse=True)
    order = np.argsort(-found @ np.asarray(clip(captions, method="words")).T, axis=-1)[:, :5]
    hit = order == own[:, None]
    return {
        "category": float(np.mean((found @ names.T).argmax(-1) == images.test_labels)),
        "top 1": float(hit[:, 0].mean()),
        "top 5": float(hit.any(-1).mean()),
        "captions": len(captions),
    }


def linear() -> Config:
    return Config(
        net=JUDGE,
        see=lite0,
        estimates=False,
        optim=train.OptimConfig(lr=1e-3, lr_end=1e-5, warmup=50, ema=(0.99,), weight_decay=1.0),
        loop=train.LoopConfig(steps=1500, log_every=50, checkpoint_every=500, sample_every=0),
        batch_size=256,
        seed=21,
        workdir=Path("runs/emoji_clip_judge"),
    )


if __name__ == "__main__":
    main(experiment.configure({"guide": Config, "judge": linear}, __doc__))

"""A judge of identity, trained apart from the face network that guides: whether two pictures show one person.

    make data                              # CelebA's 999 faces, Olivetti, EfficientNet-Lite0, once
    python experiments/face_judge.py       # three minutes on two CPU cores

A linear map of EfficientNet-Lite0's features (an ImageNet network's, in 3 x 3 parts of the image) to 128 numbers,
trained by ArcFace (Deng et al. 2019), theta_c the angle to the centre of class c:

    L = cross-entropy of s cos(theta_c + m [c = y])                                                               (1)

The classes are the 849 training faces of CelebA, each in eight versions (shifted, scaled, mirrored, in other light),
and 30 people of Olivetti. It is tested on the ten other people and on the 150 other faces, 32 x 32 pixels all: `rate`
is the share of pairs of one person above the cosine that 1 % of the other pairs reach. The weights go to the run's
folder as `ema.safetensors`; the committed ones are weights/face-judge.safetensors. Two CPU cores, 2026-11-25:

                       cosine of one person   of others   limit of 1 %   rate
    Olivetti, people   0.73                   0.24        0.67           0.72
    CelebA, versions   0.84                   0.00        0.40           1.00
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from tyro.conf import OmitArgPrefixes

import diffjax as dj
from diffjax import data, metrics, train
from diffjax.model_files import IN_A_RUN
from diffjax.runs import experiment
from diffjax.typing import NO_CONTEXT, Context, Key, PyTree, pytree, static

PEOPLE = 30  # of Olivetti's 40, for training


class Judge(nn.Module):
    """Features [B, 1, 1, 1008] -> unit vectors [B, 128], and in training the centres of the classes [K, 128]."""

    classes: int = 0

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[Array, Array | None]:
        x = nn.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1))
        y = nn.Dense(128, name="embed")(x)
        normal = nn.initializers.normal(0.1)
        centres = self.param("centres", normal, (self.classes, 128)) if self.classes else None
        return normalised(y), None if centres is None else normalised(centres)


def normalised(y: Array) -> Array:
    return y / jnp.sqrt(jnp.sum(y**2, axis=-1, keepdims=True) + 1e-12)


@pytree
class ArcFace:
    """Eq. 1 in nats, `loss(params, key, batch) -> ([B], {"hit": [B]})`; `scale` is s and `margin` m, in radians."""

    network: Callable = static()
    scale: float = 16.0
    margin: float = 0.2

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        rngs = {"dropout": key if key.ndim == 0 else key[0]}
        y, centres = self.network(params, batch["image"], train=True, rngs=rngs)
        cosines = jnp.clip(y @ centres.T, -0.9999, 0.9999)  # arccos has no slope at its ends
        own = jax.nn.one_hot(batch["label"], len(centres), dtype=bool)
        logits = self.scale * jnp.where(own, jnp.cos(jnp.arccos(cosines) + self.margin), cosines)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return values, {"hit": jnp.asarray(cosines.argmax(-1) == batch["label"], y.dtype)}


@dataclasses.dataclass(frozen=True)
class Config:
    versions: int = 8
    """Of each training face; the first is as it is."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=1e-3, lr_end=1e-5, warmup=50, ema=(0.99,), weight_decay=3.0
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=1500, log_every=50, checkpoint_every=500, sample_every=0
    )
    batch_size: int = 256
    data_dir: Path | None = None
    seed: int = 30
    workdir: Path = Path("runs/face_judge")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    faces = data.load("faces", config.data_dir)
    people, who = olivetti(config.data_dir)
    known, key = who < PEOPLE, jax.random.key(config.seed)
    x = data.to_float(faces.train_images)
    x = np.concatenate([x, people[known]])
    label = np.concatenate([np.arange(len(faces.train_images)), len(faces.train_images) + who[known]])
    versions = [varied(jax.random.fold_in(key, i), x) if i else x for i in range(config.versions)]
    features = np.concatenate([see(version) for version in versions])
    net, tx = Judge(int(label.max()) + 1), config.optim.build(config.loop.steps)
    params = net.init(key, jnp.asarray(features[:1]))
    state = train.TrainState.create(key, params, tx, config.optim.ema)

    def batches(start: int):
        labels = np.tile(label, config.versions)
        return data.batches(features, labels, config.batch_size, seed=config.seed, start_step=start)

    step = train.jit_train_steps(ArcFace(net.apply), tx, config.optim.ema)
    state, summary = experiment.fit(step, state, batches, config.workdir, config.loop)
    judge = {"params": {"embed": state.ema[0]["params"]["embed"]}}
    head = dj.Trained(dj.nn.LinearHead(), {"params": {"Dense_0": judge["params"]["embed"]}}, (features.shape[1:],))
    about = {"data": "CelebA's first faces and Olivetti", "inputs": "features of EfficientNet-Lite0"}
    dj.save(config.workdir / IN_A_RUN, head, about, "float16")
    summary |= verify(key, judge, data.to_float(faces.test_images), people[~known], who[~known])
    experiment.finish(config.workdir, summary)
    return summary


def olivetti(data_dir: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """All 400 faces as [400, 32, 32, 3] in [-1, 1], and who they are."""
    images = data.load("olivetti", data_dir, size=32)
    x = np.concatenate([images.train_images, images.test_images])
    return data.to_float(x).repeat(3, axis=-1), np.concatenate([images.train_labels, images.test_labels])


@jax.jit
def varied(key: Key, x: Array) -> Array:
    """Images [B, H, W, 3] moved by up to two pixels, scaled by 8 %, half of them mirrored, in other light."""
    keys, n, side = jax.random.split(key, 6), len(x), x.shape[1]
    scale = jax.random.uniform(keys[0], (n, 2), minval=0.92, maxval=1.08)
    move = jax.random.uniform(keys[1], (n, 2), minval=-2.0, maxval=2.0) + side / 2 * (1 - scale)
    warp = jax.vmap(lambda x, s, m: jax.image.scale_and_translate(x, x.shape, (0, 1), s, m, "linear", antialias=False))
    x = warp(jnp.asarray(x), scale, move)
    x = jnp.where(jax.random.bernoulli(keys[2], 0.5, (n, 1, 1, 1)), x[:, :, ::-1], x)
    contrast = jax.random.uniform(keys[3], (n, 1, 1, 1), minval=0.7, maxval=1.3)
    light = jax.random.uniform(keys[4], (n, 1, 1, 1), minval=-0.2, maxval=0.2)
    tint = jax.random.uniform(keys[5], (n, 1, 1, 3), minval=-0.15, maxval=0.15)
    return jnp.clip(contrast * x + light + tint, -1, 1)


def see(x: Any) -> np.ndarray:
    """The judge's input of images [B, 32, 32, 3]: [B, 1, 1, 1008]."""
    return metrics.lite0_features((32, 32, 3), parts=3)(x)[:, None, None]


def verify(key: Key, judge: PyTree, faces: np.ndarray, people: np.ndarray, who: np.ndarray) -> dict[str, float]:
    """How well the judge tells pairs of one person from the others."""
    apply = jax.jit(lambda x: Judge().apply(judge, x)[0])
    y = np.asarray(apply(see(people)))
    upper = np.triu(np.ones((len(y), len(y)), bool), 1)
    same = upper & (who[:, None] == who)
    plain, other = (np.asarray(apply(see(x))) for x in (faces, varied(key, faces)))
    cosines, own = plain @ other.T, np.eye(len(plain), dtype=bool)
    result = {}
    for name, values, matched, others in (
        ("people", y @ y.T, same, upper & ~same),
        ("faces", cosines, own, ~own),
    ):
        limit = np.quantile(values[others], 0.99)
        result |= {f"{name}, rate": float((values[matched] > limit).mean()), f"{name}, limit": float(limit)}
        result |= {f"{name}, same": float(values[matched].mean()), f"{name}, others": float(values[others].mean())}
    return result


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

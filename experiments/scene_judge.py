"""The judge of pictures of scenes: which pairs of colour and shape are in a picture, read by a network of its own.

    python experiments/scene_judge.py

A classifier with a logit for each of the 48 pairs, trained on drawn scenes of all splits (the held-out pairs too, which
the models it judges have not seen), moved by up to two pixels and with a little noise and blur, so that pictures which
are almost right are read as a person would. It shares neither architecture nor seed nor data order with any model. The
weights go to the run's folder as `ema.safetensors`; the committed ones are `weights/scene-judge.safetensors`.

An object of a caption counts as found if its pair is; its colour if that colour is there with any shape, and so on.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tyro.conf import OmitArgPrefixes, Suppress

import diffjax as dj
from diffjax import data, nn, times, train
from diffjax.data import scenes
from diffjax.formats import load_params
from diffjax.losses import BinaryCrossEntropy
from diffjax.model_files import IN_A_RUN
from diffjax.runs import experiment, image_run, judges
from diffjax.typing import NO_CONTEXT, Context, Key, PyTree, pytree


@dataclasses.dataclass(frozen=True)
class Config:
    scenes: int = 40_000
    """Scenes to train on, and a quarter as many of the held-out pairs."""
    test_scenes: int = 2000
    """Scenes of each split to measure the accuracy on."""
    net: Suppress[nn.Classifier] = nn.Classifier(48, multipliers=(1, 2, 3))
    size: int = 32
    data_dir: Path | None = None
    """Where prepared data are kept; default: DIFFJAX_DATA or ~/.cache/diffjax."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=2e-3, lr_end=2e-5, warmup=100, ema=(0.99,)
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=3000, log_every=50, checkpoint_every=500, sample_every=0
    )
    batch_size: int = 64
    begin: Path | None = None
    """The weights of a judge to begin from."""
    seed: int = 30
    workdir: Path = Path("runs/scene_judge")


@pytree
class Augmented:
    """A loss on pictures that are moved by up to two pixels, half of them blurred, with noise of deviation 0.05."""

    loss: Any

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        keys = jax.vmap(lambda k: jax.random.split(k, 3))(dj.arrays.example_keys(key, len(batch["image"])))
        x = jax.vmap(_moved)(batch["image"], keys)
        return self.loss(params, key, {**batch, "image": x}, context)


def _moved(x: Array, keys: Key) -> Array:
    padded = jnp.pad(x, ((2, 2), (2, 2), (0, 0)), mode="edge")
    corner = jax.random.randint(keys[0], (2,), 0, 5)
    x = jax.lax.dynamic_slice(padded, (*corner, 0), x.shape)
    soft = nn.resample.up(nn.resample.down(x[None], (1, 3, 3, 1)), (1, 3, 3, 1))[0]
    x = jnp.where(jax.random.bernoulli(keys[1]), 0.5 * (x + soft), x)
    return x + 0.05 * jax.random.normal(keys[2], x.shape)


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    drawn = [
        scenes.read(n, split, config.size, config.data_dir)
        for split, n in (("train", config.scenes), ("heldout", config.scenes // 4))
    ]
    images = np.concatenate([s.images for s in drawn])
    labels = np.concatenate([judges.pairs(s.colours, s.classes) for s in drawn]).astype(np.float32)
    key, net = jax.random.key(config.seed), config.net
    loss = Augmented(BinaryCrossEntropy(dj.VP(), times.Fixed(0.0), net.apply))
    params = jax.jit(net.init)(key, jnp.zeros((1, *images.shape[1:])), jnp.zeros(1))
    params = params if config.begin is None else load_params(config.begin, params)
    tx = config.optim.build(config.loop.steps)
    state = train.TrainState.create(key, params, tx, config.optim.ema)

    def batches(start: int):
        fields = {"image": images, "labels": labels}
        return data.batches(fields, batch_size=config.batch_size, seed=config.seed, start_step=start)

    step = train.jit_train_steps(loss, tx, config.optim.ema)
    state, summary = experiment.fit(step, state, batches, config.workdir, config.loop)
    trained = dj.Trained(net, state.ema[0], (images.shape[1:], ()))
    judge = judges.SceneJudge(trained)
    summary |= {"parameters": train.count(params), "data": "scenes"}
    for split in ("test", "heldout"):
        s = scenes.make(range(10**6, 10**6 + config.test_scenes), config.size, split)  # none of them was trained on
        summary |= {f"{split}: {name}": value for name, value in judge(data.to_float(s.images), s).items()}
    some, label = images[:1], np.zeros(1, np.int32)
    about = image_run.about(data.ImageData("scenes", some, label, some, label, ("scene",)), summary, config.workdir)
    dj.save(config.workdir / IN_A_RUN, trained, about, "float16")
    experiment.finish(config.workdir, summary)
    return summary


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

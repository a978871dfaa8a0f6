"""The judges of pictures of scenes: which pairs of colour and shape are in a picture, and where.

    python experiments/scene_judge.py                       # preset cpu: which pairs
    python experiments/scene_judge.py --preset segmenter    # the pair of each pixel, for `latent_conditions.py`

A classifier with a logit for each of the 48 pairs, trained on drawn scenes of all splits (the held-out pairs too, which
the models it judges have not seen), moved by up to two pixels and with a little noise and blur, so that pictures which
are almost right are read as a person would. It shares neither architecture nor seed nor data order with any model. The
weights go to the run's folder as `ema.safetensors`; the committed ones are `weights/scene-judge.safetensors`.

An object of a caption counts as found if its pair is; its colour if that colour is there with any shape, and so on.

The segmenter is a RefineNet with a logit for each pair and the background, at each pixel, trained on the same pictures.
Its run says what it reads of true pictures (`runs.scene_reader`): 0.979 of the pixels, 0.90 of those of objects, and
boxes that overlap with the true ones by 0.795; the same of "heldout" (0.31 M parameters, 800 steps, fourteen minutes on
shared cores, 2026-11-30). Its weights are `weights/scene-segmenter.safetensors`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tyro.conf import OmitArgPrefixes, Suppress

import diffjax as dj
from diffjax import data, nn, times, train
from diffjax.data import scenes
from diffjax.formats import load_params
from diffjax.losses import BinaryCrossEntropy, PixelCrossEntropy
from diffjax.model_files import IN_A_RUN
from diffjax.runs import experiment, image_run, judges
from diffjax.runs.scene_reader import CLASSES, SceneReader, pair_map
from diffjax.typing import NO_CONTEXT, Context, Key, PyTree, pytree


@dataclasses.dataclass(frozen=True)
class Config:
    reads: Literal["pairs", "pixels"] = "pairs"
    """Which pairs are in a picture, or the pair of each pixel."""
    scenes: int = 40_000
    """Scenes to train on, and a quarter as many of the held-out pairs."""
    test_scenes: int = 2000
    """Scenes of each split to measure the accuracy on."""
    net: Suppress[Any] = nn.Classifier(48, multipliers=(1, 2, 3))
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
    """A loss on pictures that are moved by up to two pixels, half of them blurred, with noise of deviation 0.05.

    A field "map" is moved with them.
    """

    loss: Any

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        keys = jax.vmap(lambda k: jax.random.split(k, 3))(dj.arrays.example_keys(key, len(batch["image"])))
        moved = {"image": jax.vmap(_seen)(batch["image"], keys)}
        if "map" in batch:
            moved["map"] = jax.vmap(_moved)(jnp.asarray(batch["map"])[..., None], keys)[..., 0]
        return self.loss(params, key, {**batch, **moved}, context)


def _moved(x: Array, keys: Key) -> Array:
    padded = jnp.pad(x, ((2, 2), (2, 2), (0, 0)), mode="edge")
    corner = jax.random.randint(keys[0], (2,), 0, 5)
    return jax.lax.dynamic_slice(padded, (*corner, 0), x.shape)


def _seen(x: Array, keys: Key) -> Array:
    x = _moved(x, keys)
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
    key, net = jax.random.key(config.seed), config.net
    if config.reads == "pairs":
        known = {"labels": np.concatenate([judges.pairs(s.colours, s.classes) for s in drawn]).astype(np.float32)}
        loss = BinaryCrossEntropy(dj.VP(), times.Fixed(0.0), net.apply)
    else:
        known = {"map": np.concatenate([pair_map(s) for s in drawn])}
        loss = PixelCrossEntropy(dj.VP(), times.Fixed(0.0), net.apply)
    params = jax.jit(net.init)(key, jnp.zeros((1, *images.shape[1:])), jnp.zeros(1))
    params = params if config.begin is None else load_params(config.begin, params)
    tx = config.optim.build(config.loop.steps)
    state = train.TrainState.create(key, params, tx, config.optim.ema)

    def batches(start: int):
        return data.batches(
            {"image": images, **known}, batch_size=config.batch_size, seed=config.seed, start_step=start
        )

    step = train.jit_train_steps(Augmented(loss), tx, config.optim.ema)
    state, summary = experiment.fit(step, state, batches, config.workdir, config.loop)
    trained = dj.Trained(net, state.ema[0], (images.shape[1:], ()))
    summary |= {"parameters": train.count(params), "data": "scenes"}
    judge = judges.SceneJudge(trained) if config.reads == "pairs" else partial(read, SceneReader(trained))
    for split in ("test", "heldout"):
        s = scenes.make(range(10**6, 10**6 + config.test_scenes), config.size, split)  # none of them was trained on
        summary |= {f"{split}: {name}": value for name, value in judge(data.to_float(s.images), s).items()}
    some, label = images[:1], np.zeros(1, np.int32)
    about = image_run.about(data.ImageData("scenes", some, label, some, label, ("scene",)), summary, config.workdir)
    dj.save(config.workdir / IN_A_RUN, trained, about, "float16")
    experiment.finish(config.workdir, summary)
    return summary


def read(reader: SceneReader, x: np.ndarray, drawn: scenes.Pictures) -> dict[str, float]:
    """What a segmenter reads of pictures of scenes."""
    return reader.map_figures(x, pair_map(drawn)) | reader.box_figures(x, drawn)


def segmenter() -> Config:
    return Config(
        reads="pixels",
        scenes=20_000,
        net=nn.RefineNet(width=16, multipliers=(1, 2, 2), dilations=(1, 1, 1), out_channels=CLASSES, patch=2),
        optim=dataclasses.replace(Config().optim, lr=1e-3, clip=1.0),
        loop=dataclasses.replace(Config().loop, steps=800, checkpoint_every=200),
        seed=31,
        workdir=Path("runs/scene_segmenter"),
    )


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config, "segmenter": segmenter}, __doc__))

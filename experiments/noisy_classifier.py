"""Classifiers that guide: one of noisy images at every noise level, and an ordinary one of clean images.

    python experiments/noisy_classifier.py                      # preset noisy: p_t(c | x_t), minutes on two CPU cores
    python experiments/noisy_classifier.py --preset clean       # the same network, at t = 0 only
    python experiments/noisy_classifier.py --weights experiments/weights/noisy-classifier.safetensors   # not trained
    python experiments/noisy_classifier.py --data folder --data.path DIR    # of your own pictures, in a folder a class

The weights go to the run's folder as `ema.safetensors`; `guidance.py` reads the committed ones. Both share neither
architecture nor seed with the classifier that judges (`fashion_classifier.py`).

Accuracy of the committed weights on the 10,000 test images (`--weights ... --test-images 10000`), chance 0.1, two CPU
cores, jax 0.10.2, 2026-11-27; that of noisy images does not reach the ordinary one's where there is no noise:

    t         0      0.05   0.1    0.2    0.3    0.5    0.7    1
    noisy     0.809  0.806  0.804  0.788  0.750  0.591  0.259  0.111
    clean     0.887         0.850         0.552
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import OmitArgPrefixes, Suppress

import diffjax as dj
from diffjax import data, nn, times, train
from diffjax.losses import CrossEntropy
from diffjax.model_files import IN_A_RUN
from diffjax.runs import experiment, image_run
from diffjax.runs.own_pictures import OwnPictures


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    time_distribution: Suppress[Callable] = times.Uniform()
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=2e-3, lr_end=2e-5, warmup=50, ema=(0.99,)
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=2500, log_every=50, checkpoint_every=500, sample_every=0
    )
    batch_size: int = 64
    test_images: int = 2000
    """How many test images to measure the accuracy on."""
    test_times: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    weights: Path | None = None
    """Measure these, and train none."""
    seed: int = 10
    workdir: Path = Path("runs/noisy_classifier")


def main(config: Config) -> dict[str, Any]:
    workdir = config.workdir if config.weights is None else config.workdir / "measured"
    experiment.start(workdir, config)
    images = config.load("fashion_mnist", classes=True)
    key = jax.random.key(config.seed)
    inputs = images.shape, ()
    if config.weights is not None:
        where = config.weights, config.weights, "--weights", "noisy_classifier.py"
        summary = accuracy(config, config.trained(*where, inputs=inputs, classes=images.n_classes), images)
        experiment.finish(workdir, summary)
        return summary
    net, tx = nn.Classifier(images.n_classes), config.optim.build(config.loop.steps)
    loss = CrossEntropy(dj.VP(), config.time_distribution, net.apply)
    params = jax.jit(net.init)(key, jnp.zeros((1, *images.shape)), jnp.zeros(1))
    state = train.TrainState.create(key, params, tx, config.optim.ema)

    def batches(start: int):
        arrays = images.train_images, images.train_labels, config.batch_size
        return data.batches(*arrays, seed=config.seed, start_step=start)

    step = train.jit_train_steps(loss, tx, config.optim.ema)
    state, summary = experiment.fit(step, state, batches, config.workdir, config.loop)
    trained = dj.Trained(net, state.ema[0], inputs)
    summary |= {"parameters": train.count(params), **accuracy(config, trained, images)}
    dj.save(config.workdir / IN_A_RUN, trained, image_run.about(images, summary, config.workdir), "float16")
    experiment.finish(config.workdir, summary)
    return summary


def accuracy(config: Config, classifier: dj.Trained, images: data.ImageData) -> dict[str, float]:
    """The share of test images classified rightly at each time."""
    n, result = config.test_images, {}
    batch = {"image": data.to_float(images.test_images[:n]), "label": images.test_labels[:n]}

    @jax.jit
    def hits(t):
        at_t = CrossEntropy(dj.VP(), times.Fixed(t), classifier.network.apply, train=False)
        return at_t(classifier.params, jax.random.key(1), batch)[1]["hit"]

    for t in config.test_times:
        result[f"accuracy at t = {t:g}"] = float(np.mean(hits(t)))
    return result


def clean() -> Config:
    return Config(time_distribution=times.Fixed(0.0), seed=11, workdir=Path("runs/clean_classifier"))


if __name__ == "__main__":
    main(experiment.configure({"noisy": Config, "clean": clean}, __doc__))

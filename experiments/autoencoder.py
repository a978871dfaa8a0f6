"""A small autoencoder of images, as the manifold that MPGD-AE and MPGD-Z stay on (`inverse_problems.py`).

    python experiments/autoencoder.py

Fashion-MNIST, 28 x 28 pixels to 7 x 7 x 4 numbers and back, the mean of squared errors. The weights go to the run's
folder as `ema.safetensors`; the committed ones are `weights/fashion-autoencoder.safetensors`: 62,000 parameters, 24.9
dB on 1,000 test images, 16 minutes on two busy CPU cores, jax 0.10.2, 2026-11-27.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import OmitArgPrefixes

import diffjax as dj
from diffjax import data, losses, metrics, nn, plots, train
from diffjax.model_files import IN_A_RUN
from diffjax.runs import experiment, image_run
from diffjax.runs.own_pictures import OwnPictures


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    latent: int = 4
    """Numbers for each 4 x 4 pixels."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=2e-3, lr_end=2e-5, warmup=50, clip=1.0, ema=(0.99,)
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=4000, log_every=100, checkpoint_every=500, sample_every=0
    )
    batch_size: int = 64
    seed: int = 20
    workdir: Path = Path("runs/autoencoder")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    images, key = config.load("fashion_mnist"), jax.random.key(config.seed)
    net = nn.Autoencoder(images.shape[-1], config.latent)
    params = jax.jit(net.init)(key, jnp.zeros((1, *images.shape)))
    tx = config.optim.build(config.loop.steps)
    state = train.TrainState.create(key, params, tx, config.optim.ema)

    def batches(start: int):
        arrays = images.train_images, images.train_labels, config.batch_size
        return data.batches(*arrays, seed=config.seed, start_step=start)

    step = train.jit_train_steps(losses.Reconstruction(net.apply), tx, config.optim.ema)
    state, summary = experiment.fit(step, state, batches, config.workdir, config.loop)
    trained = dj.Trained(net, state.ema[0], (images.shape,))
    x = jnp.asarray(data.to_float(images.test_images[:1000]))
    y = jnp.clip(jax.jit(net.apply)(trained.params, x), -1, 1)
    summary |= {"parameters": train.count(params), "psnr": float(metrics.psnr(y, x).mean())}
    dj.save(config.workdir / IN_A_RUN, trained, image_run.about(images, summary, config.workdir), "float16")
    plots.image_rows(config.workdir / "autoencoder.png", {"image": np.asarray(x[:16]), "through": np.asarray(y[:16])})
    experiment.finish(config.workdir, summary)
    return summary


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

"""Score-SDE: train a denoiser on images through an SDE, sample it, and judge it (Song et al. 2021).

    python experiments/score_sde.py                               # preset cpu: a few minutes on two CPU cores
    python experiments/score_sde.py --preset cpu-long
    python experiments/score_sde.py --preset cifar10-ve-deep      # the paper's settings, for accelerators
    python experiments/score_sde.py --preset cifar10-vp --dry-run # parameters, FLOPs and memory of a step, no training

Any field is an option: `--sde.beta-max 10 --steps 2000 --lr 1e-3`. A stopped run goes on with `--resume`.

Fashion-MNIST, on two shared CPU cores, jax 0.10.2, 2026-11-23; distances in 64 classifier features, floor in brackets:

    preset     training                 FD            KID                          bits per dimension
    cpu-long   12,000 steps, 80 min     4.73 (0.40)   0.80 +- 0.16 (-0.03 +- .30)  3.92 +- 0.08
    cpu        800 steps, 3.5 min       37.5 (2.0)    17.0 +- 3.2 (-0.4 +- 0.3)    5.36 +- 0.09
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial
from tyro.conf import OmitArgPrefixes, Suppress

import diffjax as dj
from diffjax import data, evaluate, experiment, plots, precondition, times, train
from diffjax.losses import DSM, weightings
from diffjax.nn import UNet, presets
from diffjax.typing import Denoiser, PyTree, Sampler
from diffjax.weights import save_params


@dataclasses.dataclass(frozen=True)
class Config:
    sde: dj.VP | dj.SubVP | dj.VE
    net: Suppress[UNet]
    precondition: Suppress[Callable]  # what the network predicts
    weight: Suppress[Callable]
    law: Suppress[Callable] = times.Uniform()
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig()
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig()
    sampler: Suppress[Sampler] = dj.DDIM()
    grid: Suppress[Callable] = times.uniform
    sampling_steps: int = 100
    """Steps of the sampler."""
    samples: int = 1024
    """Images to generate for the distances, more than 64; 0 for a picture alone."""
    likelihoods: int = 64
    """Test images whose bits per dimension are computed."""
    likelihood_tol: float = 1e-5
    """Tolerance of the ODE solver for them."""
    data: str = "auto"
    """fashion_mnist, digits, cifar10, or auto: Fashion-MNIST where it can be had, else digits."""
    data_dir: Path | None = None
    """Where prepared data are kept; default: DIFFJAX_DATA or ~/.cache/diffjax."""
    flip: bool = False
    """Mirror half of the training images."""
    batch_size: int = 64
    seed: int = 0
    workdir: Path = Path("runs/score_sde")
    dry_run: bool = False
    """Only print the parameters, FLOPs and memory of a training step."""

    def __post_init__(self):
        if self.samples and self.samples <= 64:
            raise ValueError(f"distances in 64 dimensions need more than 64 samples (or 0: none), got {self.samples}")


def main(config: Config) -> dict[str, Any] | None:
    tx, key = config.optim.build(config.loop.steps), jax.random.key(config.seed)
    loss = DSM(config.sde, config.law, config.net.apply, config.precondition, config.weight)
    if config.dry_run:
        return dry_run(config, loss, tx)
    experiment.start(config.workdir, config)
    images = data.load(config.data, config.data_dir)
    shape = images.shape

    params = jax.jit(config.net.init)(key, jnp.zeros((1, *shape)), jnp.zeros(1))
    state = train.TrainState.create(key, params, tx, config.optim.ema)
    step = train.jit_train_steps(loss, tx, config.optim.ema)

    def batches(start: int):
        return data.batches(
            images.train_images,
            images.train_labels,
            config.batch_size,
            seed=config.seed,
            start_step=start,
            flip=config.flip,
        )

    def grid(state: train.TrainState) -> dict[str, np.ndarray]:
        return {"ema": plots.image_grid(generate(config, denoiser(config, state.ema[0]), 36, shape))}

    state, summary = train.fit(step, state, batches, config.workdir, config.loop, grid)
    save_params(config.workdir / "ema.safetensors", state.ema[0])
    summary |= {"parameters": train.count(params), "data": images.name, **judge(config, images, state.ema[0])}
    experiment.finish(config.workdir, summary)
    return summary


def denoiser(config: Config, params: PyTree) -> Denoiser:
    return config.precondition(config.sde, Partial(config.net.apply, params))


def generate(config: Config, denoise: Denoiser, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """n images from fixed noise."""
    ts = config.grid(config.sde, config.sampling_steps)
    return evaluate.generate(jax.random.key(config.seed + 1), denoise, config.sde, config.sampler, ts, (n, *shape))


def judge(config: Config, images: data.ImageData, params: PyTree) -> dict[str, Any]:
    """Pictures, distances beside their floors, and bits per dimension."""
    denoise = denoiser(config, params)
    x = generate(config, denoise, config.samples or 64, images.shape)
    plots.save_image(config.workdir / "samples.png", plots.image_grid(x[:64]), scale=3)
    result = evaluate.distances(images, x) if config.samples else {}
    key, tol = jax.random.key(config.seed), config.likelihood_tol
    return result | evaluate.bits(key, denoise, config.sde, images, config.likelihoods, tol)


def dry_run(config: Config, loss: DSM, tx: optax.GradientTransformation) -> dict[str, float]:
    """Build the training step from shapes alone, and print what it takes."""
    shape = (config.batch_size, *((32, 32, 3) if config.data == "cifar10" else (28, 28, 1)))
    x = jax.ShapeDtypeStruct(shape, jnp.float32)

    def create(key):
        params = config.net.init(key, jnp.zeros((1, *shape[1:])), jnp.zeros(1))
        return train.TrainState.create(key, params, tx, config.optim.ema)

    state = jax.eval_shape(create, jax.random.key(0))
    cost = train.step_cost(partial(train.train_step, loss, tx, config.optim.ema), state, {"image": x}, compile=True)
    mib = {name: cost[name] / 2**20 for name in ("state_bytes", "memory_bytes")}
    print(f"{cost['parameters']:,} parameters")
    print(f"a step on a batch of {config.batch_size}: {cost['flops'] / 1e9:,.0f} GFLOP")
    print(f"memory: {mib['state_bytes']:,.0f} MiB for parameters, optimiser and averages,")
    print(f"        {mib['memory_bytes']:,.0f} MiB for the whole step as compiled for {jax.default_backend()}")
    return cost


def cpu() -> Config:
    return Config(
        sde=dj.VP(),
        net=presets.small(),
        precondition=precondition.from_v,
        weight=weightings.v,
        law=times.LowDiscrepancy(),
        optim=train.OptimConfig(lr=2e-3, lr_end=2e-4, warmup=50, ema=(0.98,)),
        loop=train.LoopConfig(steps=800, log_every=20, checkpoint_every=200, sample_every=400),
        sampling_steps=50,
        samples=1000,
        likelihood_tol=1e-3,
    )


def cpu_long() -> Config:
    return dataclasses.replace(
        cpu(),
        optim=train.OptimConfig(lr=2e-3, lr_end=2e-5, warmup=200, ema=(0.999,)),
        loop=train.LoopConfig(steps=12_000, log_every=100, checkpoint_every=500, sample_every=2000),
        samples=5000,
        likelihoods=128,
        likelihood_tol=1e-4,
        workdir=Path("runs/score_sde_long"),
    )


def cifar10(sde: dj.VP | dj.SubVP | dj.VE, deep: bool) -> Config:
    """The continuous CIFAR-10 models of the paper (its Table 3 and Appendix H)."""
    ve = isinstance(sde, dj.VE)
    return Config(
        sde=sde,
        net=(presets.ncsnpp if ve else presets.ddpmpp)(deep=deep),
        precondition=precondition.from_score if ve else precondition.from_eps,
        weight=weightings.simple,
        law=times.Uniform(1e-5),
        optim=train.OptimConfig(ema=(0.999 if ve else 0.9999,)),
        loop=train.LoopConfig(
            steps=950_000 if deep else 1_300_000, steps_per_call=5, checkpoint_every=50_000, sample_every=50_000
        ),
        sampler=dj.PC(dj.ReverseDiffusion(), dj.Langevin(snr=0.16)) if ve else dj.EulerMaruyama(),
        sampling_steps=1000,
        samples=50_000,
        data="cifar10",
        flip=True,
        batch_size=128,
        workdir=Path(f"runs/cifar10-{type(sde).__name__.lower()}{'-deep' * deep}"),
    )


PRESETS: dict[str, Callable[[], Config]] = {"cpu": cpu, "cpu-long": cpu_long} | {
    f"cifar10-{type(sde).__name__.lower()}{'-deep' * deep}": partial(cifar10, sde, deep)
    for sde in (dj.VP(), dj.SubVP(), dj.VE())
    for deep in (False, True)
}

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

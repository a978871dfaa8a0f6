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
    cpu-classes  5,000 steps            18.5 (1.5)    9.4 +- 3.4 (2.0 +- 2.2)      4.58 +- 0.18

Emoji and faces at 32 x 32, distances in 112 features of EfficientNet-Lite0, 2026-11-25:

    cpu-emoji  6,000 steps, 38 min      1134 (56)     1836 +- 42 (63 +- 15)

cpu-classes, 2026-11-25, as the unconditional model that it is for one image in ten; its first 2,577 steps ran with the
learning rates of a run of 8,000.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tyro.conf import Suppress

import diffjax as dj
from diffjax import precondition, times, train
from diffjax.losses import DSM, DropCondition, weightings
from diffjax.nn import presets
from diffjax.runs import experiment, image_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(image_run.ImageRun):
    sde: dj.VP | dj.SubVP | dj.VE
    precondition: Suppress[Callable]  # what the network predicts
    weight: Suppress[Callable]
    time_distribution: Suppress[Callable] = times.Uniform()
    drop: float = 0.1
    """How often the label is dropped in training, for a network with classes."""
    workdir: Path = Path("runs/score_sde")


def main(config: Config) -> dict[str, Any]:
    loss = DSM(config.sde, config.time_distribution, config.net.apply, config.precondition, config.weight)
    classes = getattr(config.net, "num_classes", 0)
    if classes:
        loss = DropCondition(loss, {"label": classes}, config.drop)

    return image_run.run(config, image_run.Recipe(config.sde, loss, config.precondition))


def cpu() -> Config:
    return Config(
        sde=dj.VP(),
        net=presets.small(),
        precondition=precondition.from_v,
        weight=weightings.v,
        time_distribution=times.LowDiscrepancy(),
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


def cpu_classes() -> Config:
    """Conditional on the class, and with the null label unconditional: the model of `guidance.py`."""
    return dataclasses.replace(
        cpu_long(),
        net=presets.small(num_classes=10),
        loop=train.LoopConfig(steps=5000, log_every=100, checkpoint_every=500, sample_every=0),
        samples=2000,
        workdir=Path("runs/score_sde_classes"),
    )


def pictures(name: str, steps: int, dropout: float, **changes: Any) -> Config:
    """RGB pictures of 32 x 32, a level of 4 x 4 more: the models of `mpgd.py`; the faces must not be published."""
    return dataclasses.replace(
        cpu_long(),
        net=presets.small(multipliers=(1, 2, 3), dropout=dropout),
        loop=train.LoopConfig(steps=steps, log_every=100, checkpoint_every=500, sample_every=0),
        data=name,
        samples=1000,
        likelihoods=0,
        workdir=Path(f"runs/score_sde_{name}"),
        **changes,
    )


def cifar10(sde: dj.VP | dj.SubVP | dj.VE, deep: bool) -> Config:
    """The continuous CIFAR-10 models of the paper (its Table 3 and Appendix H)."""
    ve = isinstance(sde, dj.VE)
    return Config(
        sde=sde,
        net=(presets.ncsnpp if ve else presets.ddpmpp)(deep=deep),
        precondition=precondition.from_score if ve else precondition.from_eps,
        weight=weightings.simple,
        time_distribution=times.Uniform(1e-5),
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


PRESETS: dict[str, Callable[[], Config]] = (
    {"cpu": cpu, "cpu-long": cpu_long, "cpu-classes": cpu_classes}
    | {
        "cpu-emoji": partial(pictures, "emoji", 6000, 0.1),
        "cpu-faces": partial(pictures, "faces", 4000, 0.0, flip=True),
    }
    | {
        f"cifar10-{type(sde).__name__.lower()}{'-deep' * deep}": partial(cifar10, sde, deep)
        for sde in (dj.VP(), dj.SubVP(), dj.VE())
        for deep in (False, True)
    }
)

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

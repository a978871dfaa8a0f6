"""NCSN: learn the score at a ladder of noise levels, sample by annealed Langevin dynamics (Song & Ermon 2019, 2020).

    python experiments/ncsn.py                              # preset cpu: minutes on two CPU cores
    python experiments/ncsn.py --preset ncsnv2              # the paper's CIFAR-10 settings, for accelerators
    python experiments/ncsn.py --preset ncsnv2 --dry-run    # parameters, FLOPs and memory of a step, no training

What an option leaves at 0 the data choose, by the techniques of the 2020 paper (`samplers.annealing`), and the run
prints it: sigma_1, the largest distance between two training images (1); the number of levels (2); the step size (4).
Any field is an option: `--sigma-1 10 --levels 80 --steps 2000`. A stopped run goes on with `--resume`.

Images lie in [-1, 1] here, in the papers in [0, 1]: their noise levels are doubled. Chains start from
N(0, sigma_1^2), where the papers' code takes uniform noise, and end with a denoising step, which is the 2020 paper's.
The CIFAR-10 settings are those of the authors' configurations (ermongroup/ncsn, ermongroup/ncsnv2).

Fashion-MNIST, preset cpu, two CPU cores shared with other work, jax 0.10.2, 2026-11-24; sigma_1 = 44.24 from 10,000
images; 40 levels down to 0.1 where technique 2 gives 79; eps/sigma_L^2 = 0.2079 for 3 steps a level, which leaves the
variance 1.18 times what it should be. 256 samples; distances in 64 classifier features, floor in brackets:

    600 steps of 32 images, 0.62 s each; 11 min, 7.3 of CPU time    FD 142 (7.4)    KID 50 +- 11 (-4.3 +- 0.4)

The samples are grainy garments: so short a training shows that the pieces fit, not how good NCSN is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Suppress

import diffjax as dj
from diffjax import data, precondition, times, train
from diffjax.losses import DSM, weightings
from diffjax.nn import presets
from diffjax.runs import experiment, image_run
from diffjax.samplers import annealing

PAIRED = 10_000  # images among which technique 1 looks: seconds; Fashion-MNIST's 60,000 take a minute more
NO_CLIP = 1e9  # the papers do not clip gradients


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(image_run.ImageRun):
    sigma_1: float = 0.0
    """The greatest noise level; 0: technique 1."""
    sigma_L: float = 0.02
    """The least noise level."""
    levels: int = 0
    """Noise levels, in training and in sampling; 0: technique 2."""
    langevin_steps: int = 5
    """Steps of Langevin dynamics at each level."""
    relative_step: float = 0.0
    """Their size eps / sigma_L^2; 0: technique 4."""
    scaled: Suppress[bool] = True  # the network's output over sigma is the score (technique 3); False: it is the score
    grid: Suppress[Callable] = times.geometric
    sampling_steps: Suppress[int] = 0  # `levels`
    likelihoods: int = 0
    workdir: Path = Path("runs/ncsn")


def main(config: Config) -> dict[str, Any]:
    config = choose(config)
    return image_run.run(config, recipe(config))


def recipe(config: Config) -> image_run.Recipe:
    """The process, the loss at its levels and the prediction, of a configuration that `choose` has settled."""
    sde = dj.VE(config.sigma_L, config.sigma_1)  # its times are uniform in log sigma: level i of L has t = 1 - i/(L-1)
    c_noise = precondition.log_sigma if config.scaled else precondition.level(config.levels)
    read = partial(precondition.from_score, c_noise=c_noise, scaled=config.scaled)
    levels = times.OneOf(times.geometric(sde, config.levels)[:-1])
    loss = DSM(sde, levels, config.net.apply, read, weightings.simple)  # sigma^2 |score error|^2
    return image_run.Recipe(sde, loss, read)


def choose(config: Config) -> Config:
    """The configuration with its levels, step size and sampler settled; what is 0 by techniques 1, 2 and 4, printed.

    Raises:
      ValueError: there are fewer than two levels.
    """
    sigma_1, L, T, u = config.sigma_1, config.levels, config.langevin_steps, config.relative_step
    if not (sigma_1 and L):
        images = data.load(config.data, config.data_dir, size=config.data_size, path=config.data_path)
        dim = int(np.prod(images.shape))
        if not sigma_1:
            part = data.to_float(images.train_images[:PAIRED])
            sigma_1 = annealing.max_pairwise_distance(part)
            print(f"technique 1: sigma_1 = {sigma_1:.2f}, the largest distance in the first {len(part):,} images")
        needed = annealing.n_levels(dim, sigma_1, config.sigma_L)
        print(f"technique 2: ratio {annealing.level_ratio(dim):.4f}, that is {needed} levels down to {config.sigma_L}")
        L = L or needed
    if L < 2:
        raise ValueError(f"annealing needs at least two noise levels, got {L}")
    gamma = (sigma_1 / config.sigma_L) ** (1 / (L - 1))
    chosen = "" if u else ", by technique 4"
    u = u or annealing.step_size(T, gamma, 1.0)
    r = annealing.variance_ratio(u, T, gamma, 1.0)
    print(
        f"{L} levels of ratio {gamma:.4f}, {T} steps at each: eps / sigma_L^2 = {u:.4f}{chosen}, variance ratio {r:.4f}"
    )
    sampler = dj.AnnealedLangevin(u, 1.0, T)  # only eps / sigma_L^2 counts
    settled = dict(sigma_1=sigma_1, levels=L, relative_step=u, sampler=sampler, sampling_steps=L)
    return dataclasses.replace(config, **settled)


def cpu() -> Config:
    """Half the levels that technique 2 gives and 3 steps at each, so that sampling takes no longer than training."""
    return Config(
        net=presets.ncsnv2_small(),
        sigma_L=0.1,
        levels=40,
        langevin_steps=3,
        optim=train.OptimConfig(lr=1e-3, lr_end=1e-4, warmup=50, ema=(0.98,)),
        loop=train.LoopConfig(steps=600, log_every=20, checkpoint_every=200, sample_every=0),
        samples=256,
        batch_size=32,
    )


def cifar10(name: str, **changes: Any) -> Config:
    """What the two papers share on CIFAR-10."""
    fields = dict(sigma_L=0.02, samples=50_000, data="cifar10", flip=True, batch_size=128, workdir=Path(f"runs/{name}"))
    return Config(**{**fields, **changes})


def ncsn() -> Config:
    """Song & Ermon 2019: no average of the parameters; eps = 2e-5 in the convention of the published code."""
    return cifar10(
        "ncsn",
        net=presets.ncsn(),
        scaled=False,
        sigma_1=2.0,
        levels=10,
        langevin_steps=100,
        relative_step=2e-5 / 0.01**2,
        optim=train.OptimConfig(lr=1e-3, warmup=0, clip=NO_CLIP, ema=(0.0,)),
        loop=train.LoopConfig(steps=200_000, steps_per_call=5, checkpoint_every=5000, sample_every=20_000),
    )


def ncsnv2() -> Config:
    """Song & Ermon 2020: eps = 6.2e-6 at sigma_L = 0.01 of [0, 1]."""
    return cifar10(
        "ncsnv2",
        net=presets.ncsnv2(),
        sigma_1=100.0,
        levels=232,
        relative_step=6.2e-6 / 0.01**2,
        optim=train.OptimConfig(lr=1e-4, warmup=0, clip=NO_CLIP, ema=(0.999,)),
        loop=train.LoopConfig(steps=300_000, steps_per_call=5, checkpoint_every=5000, sample_every=20_000),
    )


PRESETS: dict[str, Callable[[], Config]] = {"cpu": cpu, "ncsn-cpu": cpu, "ncsn": ncsn, "ncsnv2": ncsnv2}

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

"""DDPM and improved DDPM: a chain of Gaussian steps, trained by L_simple or L_hybrid (Ho 2020; Nichol & Dhariwal 2021).

    python experiments/ddpm.py                              # preset cpu: L_simple, linear betas; minutes on two cores
    python experiments/ddpm.py --preset cpu-hybrid          # cosine betas, learned variance, L_hybrid
    python experiments/ddpm.py --preset cifar10             # the papers' settings, for accelerators
    python experiments/ddpm.py --preset cifar10-hybrid --dry-run

The bound on the likelihood is the sum of the chain's terms at one noise draw each, in bits per dimension.

Fashion-MNIST, two CPU cores shared with other work, jax 0.10.2, 2026-11-25; 500 samples of 100 steps, distances in 64
classifier features, floor in brackets; the bound of 32 test images. As in Nichol & Dhariwal, L_hybrid buys likelihood:

    cpu           800 steps, 4 min of training    FD 35.0 (4.5)    4.61 +- 0.21 bits per dimension
    cpu-hybrid    800 steps, 4 min on idle cores  FD 50.9 (4.5)    4.09 +- 0.18
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from tyro.conf import Suppress

import diffjax as dj
from diffjax import corrections, data, guidance, precondition, times, train
from diffjax.losses import DSM, Hybrid, weightings
from diffjax.nn import presets
from diffjax.runs import experiment, image_run

from_eps = partial(precondition.from_eps, c_noise=precondition.time_index)  # eps, and the labels 0, ..., T - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(image_run.ImageRun):
    steps_of_chain: int = 1000
    """T, the number of betas."""
    betas: Suppress[Callable] = dj.BetaTable.linear
    learned: bool = False
    """Learn the variance, by L_hybrid."""
    bound: int = 32
    """Test images whose variational bound is computed; 0 for none."""
    likelihoods: int = 0
    workdir: Path = Path("runs/ddpm")


def main(config: Config) -> dict[str, Any]:
    sde, apply = config.betas(config.steps_of_chain), config.net.apply
    distribution = times.Integers(config.steps_of_chain)

    # x_0 is clipped to [-1, 1], as in both papers: without it the cosine chain diverges, where alpha_T = 5e-5
    mean = Partial(precondition.of_mean, from_eps) if config.learned else from_eps
    prediction = Partial(guidance.corrected_prediction, mean, (corrections.Clip(),))

    def large(model: dj.Model) -> Any:
        """The variance's c: learned, or 0 (small)."""
        network = Partial(apply, model.params)
        return precondition.learned_range(sde, network, precondition.time_index)[1] if config.learned else 0.0

    if config.learned:
        weight = config.steps_of_chain / 1e6  # (T/1000) of the terms' mean
        loss = Hybrid(sde, distribution, apply, from_eps, weight)
    else:
        loss = DSM(sde, distribution, apply, from_eps, weightings.simple)

    def bound(images: data.ImageData, model: dj.Model) -> dict[str, float]:
        """The variational bound of test images, term by term."""
        if not config.bound:
            return {}
        x = jnp.asarray(data.to_float(images.test_images[: config.bound]))
        ts = times.trailing(sde, config.steps_of_chain)
        found = dj.elbo(jax.random.key(config.seed), model.denoise, sde, ts, x, large=large(model))
        terms = found.bits_per_dim(x[0].size)
        np.save(config.workdir / "elbo_steps.npy", terms.steps.mean(axis=1))
        total = np.asarray(terms.total)
        return {
            "elbo_bits": float(total.mean()),
            "elbo_bits_stderr": float(total.std(ddof=1) / np.sqrt(len(total))),
            "elbo_prior": float(terms.prior.mean()),
            "elbo_decoder": float(terms.decoder.mean()),
        }

    def sampler(model: dj.Model) -> dj.Ancestral:
        return dj.Ancestral(large(model))

    return image_run.run(config, image_run.Recipe(sde, loss, prediction, sampler), bound)


def cpu(**changes: Any) -> Config:
    fields = dict(
        net=presets.small(),
        optim=train.OptimConfig(lr=2e-3, lr_end=2e-4, warmup=50, ema=(0.98,)),
        loop=train.LoopConfig(steps=800, log_every=20, checkpoint_every=200, sample_every=400),
        grid=times.trailing,
        sampling_steps=100,
        samples=500,
    )
    return Config(**{**fields, **changes})  # type: ignore[arg-type]


def cpu_hybrid() -> Config:
    net = presets.small(out_channels=2)
    return cpu(net=net, betas=dj.BetaTable.cosine, learned=True, workdir=Path("runs/ddpm_hybrid"))


def cifar10(**changes: Any) -> Config:
    """Ho et al. 2020, App. B."""
    fields = dict(
        net=presets.ddpm(),
        optim=train.OptimConfig(),
        loop=train.LoopConfig(steps=800_000, steps_per_call=5, checkpoint_every=50_000, sample_every=50_000),
        grid=times.trailing,
        sampling_steps=1000,
        samples=50_000,
        bound=1024,
        data="cifar10",
        flip=True,
        batch_size=128,
        workdir=Path("runs/ddpm-cifar10"),
    )
    return Config(**{**fields, **changes})  # type: ignore[arg-type]


def cifar10_hybrid() -> Config:
    """Nichol & Dhariwal 2021, Table 2: T = 4000, cosine betas, L_hybrid. Their network differs (52.5 M parameters)."""
    return cifar10(
        net=presets.ddpm(out_channels=6),
        optim=train.OptimConfig(lr=1e-4),
        loop=train.LoopConfig(steps=500_000, steps_per_call=5, checkpoint_every=50_000, sample_every=50_000),
        betas=dj.BetaTable.cosine,
        steps_of_chain=4000,
        sampling_steps=4000,
        learned=True,
        workdir=Path("runs/ddpm-cifar10-hybrid"),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "cpu": cpu,
    "cpu-hybrid": cpu_hybrid,
    "cifar10": cifar10,
    "cifar10-hybrid": cifar10_hybrid,
}

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

"""Flow matching, with independent or optimally matched noise, and rectified flow (Lipman et al. 2023; Liu et al. 2023).

    python experiments/flow_matching.py                      # preset cpu: flow matching, minutes on two CPU cores
    python experiments/flow_matching.py --preset cpu-ot      # noise matched to each batch's images (Tong et al. 2023)
    python experiments/flow_matching.py --preset cpu-reflow  # a second flow, on pairs of the first; run cpu before
    python experiments/flow_matching.py --preset cifar10     # for accelerators

Fashion-MNIST, preset cpu, 800 steps, five minutes of CPU time, jax 0.10.2, 2026-11-25: FD 22.8 (floor 2.0), KID
9.9 +- 1.9 (-0.4 +- 0.3), 4.90 +- 0.10 bits per dimension, straightness 0.084.

`straightness` is the mean square of (velocity - chord) along the sampled paths, by the pixel: 0 for straight ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tyro.conf import Suppress

import diffjax as dj
from diffjax import data, metrics, precondition, samplers, times, train
from diffjax.losses import DSM, couplings, weightings
from diffjax.nn import presets
from diffjax.runs import experiment, image_run
from diffjax.runs.own_pictures import model_of
from diffjax.typing import PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(image_run.ImageRun):
    time_distribution: Suppress[Callable] = times.Uniform()
    coupling: Suppress[Callable] = couplings.independent
    teacher: Path | None = None
    """Weights of a first flow, `ema.safetensors` of its run: train on its pairs of noise and image (reflow)."""
    pairs: int = 5000
    """How many pairs to draw from the teacher."""
    sampler: Suppress[Any] = dj.Heun()
    sampling_steps: int = 25
    likelihood_tol: float = 1e-3
    workdir: Path = Path("runs/flow_matching")


def main(config: Config) -> dict[str, Any]:
    sde, from_velocity = dj.Flow(), precondition.from_velocity
    times_of, weight = config.time_distribution, weightings.velocity
    loss = DSM(sde, times_of, config.net.apply, from_velocity, weight, coupling=config.coupling)

    recipe = image_run.Recipe(sde, loss, from_velocity)
    if config.teacher and not config.dry_run:
        recipe = recipe._replace(batches=reflow(config, config.teacher))

    def straightness(images: data.ImageData, model: dj.Model) -> dict[str, float]:
        """Of 64 sampled paths."""
        key, ts = jax.random.key(config.seed + 1), times.uniform(sde, 50)
        x = dj.prior_sample(key, sde, (64, *images.shape))
        paths = dj.sample(key, model.denoise, sde, dj.Euler(), ts, x, trajectory=True)
        return {"straightness": float(metrics.straightness(ts, paths).mean() / x[0].size)}

    return image_run.run(config, recipe, straightness)


def reflow(config: Config, weights: Path) -> Callable[[int], Iterator[PyTree]]:
    """Batches of pairs drawn from the teacher, in an order that follows from the step."""
    images = data.load(config.data, config.data_dir, size=config.data_size, path=config.data_path)
    teacher = model_of(weights, dj.Flow(), images.shape)
    ts = times.uniform(teacher.sde, config.sampling_steps)
    key = jax.random.key(config.seed + 2)
    shape = (config.pairs, *images.shape)
    pairs = samplers.reflow_pairs(key, teacher.denoise, teacher.sde, config.sampler, ts, shape)

    def batches(start: int) -> Iterator[PyTree]:
        for n in range(start, config.loop.steps):
            rows = np.random.default_rng((config.seed, n)).integers(config.pairs, size=config.batch_size)
            yield {name: array[rows] for name, array in pairs.items()}

    return batches


def cpu(**changes: Any) -> Config:
    fields = dict(
        net=presets.small(),
        optim=train.OptimConfig(lr=2e-3, lr_end=2e-4, warmup=50, ema=(0.98,)),
        loop=train.LoopConfig(steps=800, log_every=20, checkpoint_every=200, sample_every=400),
        samples=1000,
    )
    return Config(**{**fields, **changes})  # type: ignore[arg-type]


def cpu_ot() -> Config:
    return cpu(coupling=couplings.optimal_transport, workdir=Path("runs/flow_matching_ot"))


def cpu_reflow() -> Config:
    return cpu(teacher=Path("runs/flow_matching/ema.safetensors"), workdir=Path("runs/flow_matching_reflow"))


def cifar10() -> Config:
    return Config(
        net=presets.ddpmpp(),
        time_distribution=times.LogitNormal(),
        optim=train.OptimConfig(lr=2e-4),
        loop=train.LoopConfig(steps=400_000, steps_per_call=5, checkpoint_every=20_000, sample_every=20_000),
        samples=50_000,
        data="cifar10",
        flip=True,
        batch_size=256,
        workdir=Path("runs/flow_matching-cifar10"),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "cpu": cpu,
    "cpu-ot": cpu_ot,
    "cpu-reflow": cpu_reflow,
    "cifar10": cifar10,
}

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

"""Five ways to learn a score, on one distribution of known score (Hyvarinen 2005; Vincent 2011; Song et al. 2019).

    python experiments/score_matching.py        # about a minute on two CPU cores

A small network learns the score of eight Gaussians blurred by noise of deviation sigma, with the same budget for each
objective. All have the same minimiser. `Fisher` is E |s - grad log p|^2 at the end, to be compared with what s = 0 has,
E |grad log p|^2 = 11.6; `noise` is the deviation of one example's loss; `ms` the time of a step.

Two CPU cores shared with other work, jax 0.10.2, 2026-11-25, 68 s:

    objective             Fisher    noise    ms
    exact                 0.075     10.0     2.24
    Hutchinson, SSM-VR    0.110     12.4     1.44
    SSM-VR, Gaussian      0.165     19.4     1.58
    SSM                   0.277     17.5     1.30
    denoising             0.045     10.3     0.92
"""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

import diffjax as dj
from diffjax import nn, precondition, times, train
from diffjax.arrays import flat_sum
from diffjax.data import toys
from diffjax.likelihoods.probes import Exact, Gaussian, Rademacher
from diffjax.losses import DSM, ScoreMatching, weightings
from diffjax.runs import experiment
from diffjax.typing import Loss, PyTree

PER_CALL = 100


@dataclasses.dataclass(frozen=True)
class Config:
    sigma: float = 0.3
    """Deviation of the noise added to the data."""
    steps: int = 2000
    """Training steps for each objective, a multiple of 100."""
    batch_size: int = 256
    lr: float = 2e-3
    test: int = 20_000
    """Examples that the Fisher divergence is measured on."""
    seed: int = 0
    workdir: Path = Path("runs/score_matching")

    def __post_init__(self):
        if self.steps < PER_CALL or self.steps % PER_CALL:
            raise ValueError(f"steps must be a multiple of {PER_CALL}, got {self.steps}")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    net, sde = nn.MLP(width=64), dj.EDM()  # x + sigma eps
    mixture = dj.GaussianMixture(*map(jnp.asarray, toys.eight_gaussians_parameters()))

    def score(params: PyTree, x: Array, t: Array, cond: Any = None) -> Array:
        return net.apply(params, x, jnp.zeros(len(x)))  # type: ignore[return-value]

    x = toys.eight_gaussians(jax.random.key(config.seed + 1), config.test)
    x = x + config.sigma * jax.random.normal(jax.random.key(config.seed + 2), x.shape)
    exact = mixture.score(sde, x, config.sigma)
    start = net.init(jax.random.key(config.seed), jnp.zeros((1, 2)), jnp.zeros(1))
    summary: dict[str, Any] = {}
    print(f"{'objective':<22}{'Fisher':>9}{'noise':>9}{'ms':>7}")
    for name, loss in objectives(config, net, sde, score).items():
        params, noise, seconds = fit(config, loss, start)
        fisher = float(flat_sum((score(params, x, jnp.zeros(len(x))) - exact) ** 2).mean())
        summary |= {f"{name}, Fisher": fisher, f"{name}, noise": noise, f"{name}, ms": 1e3 * seconds}
        print(f"{name:<22}{fisher:>9.3f}{noise:>9.2f}{1e3 * seconds:>7.2f}", flush=True)
    summary["E |grad log p|^2"] = float(flat_sum(exact**2).mean())
    experiment.finish(config.workdir, summary)
    return summary


def objectives(config: Config, net: nn.MLP, sde: dj.EDM, score: Any) -> dict[str, Loss]:
    one_level = times.Fixed(config.sigma)
    implicit = partial(ScoreMatching, score, sde=sde, time_distribution=one_level, weight=weightings.score)
    to_denoiser = partial(precondition.from_score, c_noise=zero, scaled=False)
    return {
        "exact": implicit(Exact()),
        "Hutchinson, SSM-VR": implicit(Rademacher()),
        "SSM-VR, Gaussian": implicit(Gaussian()),
        "SSM": implicit(Gaussian(), sliced=True),
        "denoising": DSM(sde, one_level, net.apply, to_denoiser, weightings.score),
    }


def zero(sde: Any, t: Any) -> Array:
    return jnp.zeros_like(t)


def fit(config: Config, loss: Loss, params: PyTree) -> tuple[PyTree, float, float]:
    """The averaged parameters, the deviation of one example's loss at them, and the seconds of a step."""
    key = jax.random.key(config.seed)
    tx = train.adam(config.lr, warmup=100)
    decays = (0.99,)
    state = train.TrainState.create(key, params, tx, decays)
    step = train.jit_train_steps(loss, tx, decays)
    draw = jax.jit(lambda n: toys.eight_gaussians(jax.random.fold_in(key, n), PER_CALL * config.batch_size))
    start = 0.0
    for n in range(config.steps // PER_CALL):
        batch = np.asarray(draw(n)).reshape(PER_CALL, config.batch_size, 2)
        state, metrics = step(state, {"image": batch})
        if not np.isfinite(np.asarray(metrics["loss"])).all():
            raise FloatingPointError("the loss is not finite: lower the learning rate, or raise sigma")
        start = start or time.perf_counter()  # after the first call, which compiles
    calls = config.steps // PER_CALL - 1
    seconds = (time.perf_counter() - start) / (calls * PER_CALL) if calls else float("nan")
    values = jax.jit(Partial(loss, state.ema[0]))(jax.random.key(config.seed + 3), draw(-1))[0]
    return state.ema[0], float(values.std()), seconds


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

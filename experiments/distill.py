"""Few-step models on one teacher in the plane: every method of `losses.distillation`, one table, minutes on a CPU.

    python experiments/distill.py [--methods CD CTM LSD ...] [--data checkerboard] [--steps 4000]

The data are eight Gaussians on a circle, or a checkerboard, and the teacher is their exact denoiser, so that what
separates a student from the teacher's own flow is the method, its schedule and the network, and no teacher's error.
Methods without a teacher see data. Each student is an MLP, trained for as many steps. The rows give the sliced W2
distance between the data and samples in 1, 2, 4 and 8 steps, beside that of the teacher's DDIM on the same process. The
summary holds more: the root mean square from flow maps' two steps to their one (`semigroup`), KL(student | data) on the
Gaussians, and on the checkerboard the share of samples inside its squares. Table and picture are in the README.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from tyro.conf import OmitArgPrefixes

import diffjax as dj
from diffjax import experiment, flow_maps, losses, metrics, nn, plots, precondition, times, train
from diffjax.data import toys
from diffjax.losses import distillation as d
from diffjax.losses import weightings
from diffjax.student_run import Method, StudentRun
from diffjax.typing import SDE, Denoiser, PyTree, Sampler

COUNTS = (1, 2, 4, 8)  # of steps
MIXTURE = dj.GaussianMixture(*map(jnp.asarray, toys.eight_gaussians_parameters()))
LAWS = {"eight_gaussians": MIXTURE, "checkerboard": dj.Boxes(*map(jnp.asarray, toys.checkerboard_squares()))}
Teach = Callable[[SDE], Denoiser]  # the exact denoiser of the data
NET = nn.MLP(width=128)
EDM, FLOW, COSINE = dj.EDM(T=20.0, t_min=0.01), dj.Flow(), dj.Cosine()
GRID = times.karras(EDM, 17, to_zero=False)
LEVELS = times.LogNormal(EDM, -0.5, 1.5)


def told(sde: SDE, t: Any) -> Array:
    """What the networks are told on `EDM`: log sigma, stretched to what a sinusoidal embedding tells apart."""
    return 100 * jnp.log(sde.sigma(t))


SLOW = precondition.scaled_by(20.0)  # where a loss differentiates networks in time, no feature may turn fast
consistent = partial(precondition.consistency, c_noise=told)
trig = partial(precondition.from_v, c_noise=SLOW)


def inner(sde: SDE, network: Callable) -> Any:
    """CTM's g: EDM's boundary at 0, told log sigma."""
    return precondition.consistency(sde, network, eps=0.0, c_noise=told)


trajectory = partial(flow_maps.ctm, precondition=inner, c_noise=told)
average = partial(flow_maps.average_velocity, levels=flow_maps.Both(SLOW))
shortcut = partial(flow_maps.average_velocity, levels=flow_maps.Duration(SLOW, 1 / 128))


def pairs_on_edm(law: Any, f: Callable = consistent, ema: tuple[Any, ...] = (0.999,), **options: Any) -> Method:
    """CD, CT, iCT and ECT."""
    return Method(EDM, d.Consistency(EDM, law, NET.apply, f, **options), f, ema=ema)


def trigflow(steps: int, **options: Any) -> Method:
    """sCD and sCT."""
    law = times.LogNormal(COSINE, -0.5, 1.4)
    return Method(
        COSINE, d.ContinuousConsistency(COSINE, law, NET.apply, c_noise=SLOW, warmup=steps / 4, **options), trig
    )


def ctm(teach: Teach) -> Method:
    teacher = flow_maps.along(EDM, teach(EDM), GRID)
    soft = d.Trajectory(EDM, times.Stops(GRID), teacher, NET.apply, trajectory, end=EDM.t_min)
    diagonal = Partial(flow_maps.diagonal_of, trajectory)
    match = losses.DSM(EDM, LEVELS, NET.apply, diagonal, weightings.edm)
    loss = losses.Balanced((soft, match), lambda params: params["params"]["out"])
    return Method(EDM, loss, trajectory, dj.Jump(0.0, EDM.t_min))


def matched(residual: Callable, teach: Teach) -> Method:
    """LMD and EMD: the teacher's velocity."""
    law = times.Sorted(times.Uniform(1e-3))
    loss = d.SelfDistillation(FLOW, law, residual, NET.apply, average, teach(FLOW))
    return Method(FLOW, loss, average, dj.Jump())


def self_distilled(residual: Callable, flow_map: Callable = average, law: Any = None) -> Method:
    """LSD, ESD, PSD and shortcut models: the student's own velocity, learnt at once."""
    off = d.SelfDistillation(FLOW, law or times.Sorted(times.Uniform(1e-3)), residual, NET.apply, flow_map)
    diagonal = Partial(flow_maps.diagonal_of, flow_map)
    on = losses.DSM(FLOW, times.Uniform(1e-3), NET.apply, diagonal, weightings.velocity)
    return Method(FLOW, losses.Sum((on, off), (0.75, 0.25)), flow_map, dj.Jump())


def mean_flow(**options: Any) -> Method:
    law = times.Sorted(times.LogitNormal(-0.4, 1.0), 0.75)
    return Method(FLOW, d.MeanFlow(FLOW, law, NET.apply, flow_maps.Both(SLOW), **options), average, dj.Jump())


def reflow(teach: Teach) -> Method:
    """A straight flow, trained on the teacher's pairs, is sampled by DDIM."""
    velocity = losses.DSM(FLOW, times.Uniform(1e-3), NET.apply, precondition.from_velocity, weightings.velocity)
    teacher = flow_maps.along(FLOW, teach(FLOW), times.uniform(FLOW, 16, t_min=0.0))
    return Method(FLOW, d.Reflow(FLOW, teacher, velocity), precondition.from_velocity, dj.DDIM())


def consistency_distillation(teach: Teach) -> Method:
    teacher = flow_maps.heun(EDM, teach(EDM))
    return pairs_on_edm(times.Neighbours(GRID), teacher=teacher, target=0, ema=(0.95, 0.999))


def consistency_training(steps: int) -> Method:
    levels = times.Rising(2.0, 50.0, 0.8 * steps)
    ema = (train.levels_ema(levels), 0.999)
    return pairs_on_edm(times.KarrasNeighbours(EDM, levels), ema=ema, target=0)


def improved_training(steps: int) -> Method:
    law = times.KarrasNeighbours(EDM, times.Doubling(10.0, 80.0, float(steps)), (-0.5, 1.5))
    return pairs_on_edm(law, metric=d.PseudoHuber(), weight=d.rate)


METHODS: dict[str, Callable[[int, Teach], Method]] = {  # of the number of training steps, and of the teacher
    "CD": lambda steps, teach: consistency_distillation(teach),
    "CT": lambda steps, teach: consistency_training(steps),
    "iCT": lambda steps, teach: improved_training(steps),
    "ECT": lambda steps, teach: pairs_on_edm(
        times.Tightening(EDM, LEVELS, steps / 3), inner, metric=d.PseudoHuber(0.03), weight=d.rate
    ),
    "sCD": lambda steps, teach: trigflow(steps, teacher=teach(COSINE)),
    "sCT": lambda steps, teach: trigflow(steps),
    "CTM": lambda steps, teach: ctm(teach),
    "LMD": lambda steps, teach: matched(d.lagrangian, teach),
    "EMD": lambda steps, teach: matched(d.eulerian, teach),
    "LSD": lambda steps, teach: self_distilled(d.lagrangian),
    "ESD": lambda steps, teach: self_distilled(d.eulerian),
    "PSD": lambda steps, teach: self_distilled(d.uniform),
    "shortcut": lambda steps, teach: self_distilled(d.middle, shortcut, times.Dyadic(128.0)),
    "MeanFlow": lambda steps, teach: mean_flow(),
    "iMF": lambda steps, teach: mean_flow(improved=True),
    "reflow": lambda steps, teach: reflow(teach),
}


@dataclasses.dataclass(frozen=True)
class Config:
    methods: tuple[str, ...] = ("PD", *METHODS)
    """PD (progressive distillation) and the names in METHODS."""
    data: Literal["eight_gaussians", "checkerboard"] = "eight_gaussians"
    lr: float = 2e-3
    batch_size: int = 128
    teacher_steps: int = 16
    """Where progressive distillation begins; its rounds share the training steps."""
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=4000, steps_per_call=250, log_every=1000, checkpoint_every=1000, sample_every=0, keep=1
    )
    samples: int = 10_000
    seed: int = 0
    workdir: Path = Path("runs/distill")


def main(config: Config) -> dict[str, Any]:
    unknown = set(config.methods) - {"PD", *METHODS}
    if unknown:
        raise SystemExit(f"unknown methods {sorted(unknown)}; choose among PD, {', '.join(METHODS)}")
    if config.teacher_steps < 4:
        raise SystemExit(f"students of 1 and 2 steps need a teacher of 4 or more, got {config.teacher_steps}")
    d.halvings(jnp.linspace(1.0, 0.0, config.teacher_steps + 1))  # or it says why not
    experiment.start(config.workdir, config)
    law = LAWS[config.data]
    k_data, k_other, k_slices = jax.random.split(jax.random.key(config.seed + 1), 3)
    data = law.sample(k_data, config.samples)
    distance = partial(metrics.sliced_wasserstein, k_slices, data)
    panels = {"data": data[:4000]}
    summary = {"floor": float(distance(law.sample(k_other, config.samples)))}
    print(f"{'sliced W2':<10}" + "".join(f"{n:>8}{'teacher':>8}" for n in COUNTS) + f"{'floor':>8}", flush=True)
    for name in config.methods:
        row, ends = [], []
        for n, (sde, model, sampler) in sorted(students(config, name).items()):
            ts, x = grid(sde, n), dj.prior_sample(jax.random.key(config.seed + 2), sde, data.shape)
            samples = dj.sample(k_other, model, sde, sampler, ts, x)
            row += [distance(samples), distance(dj.sample(k_other, law.denoiser(sde), sde, dj.DDIM(), ts, x))]
            summary |= {f"{name}, {n}": float(row[-2]), f"DDIM on {type(sde).__name__}, {n}": float(row[-1])}
            ends.append(samples)
            if n == 2 and isinstance(sampler, dj.Jump):
                summary[f"{name}, semigroup"] = float(jnp.sqrt(jnp.mean((ends[1] - ends[0]) ** 2)))
            if law is not MIXTURE:
                summary[f"{name}, {n}, inside"] = float(jnp.isfinite(law.log_prob(samples)).mean())
            elif n == 1 and sampler == dj.Jump() and sde == FLOW:
                summary[f"{name}, KL"] = divergence(partial(model, t=sde.T, s=0.0), x)
        panels[f"{name}, 1 step"] = ends[0][:4000]
        print(f"{name:<10}" + "".join(f"{value:>8.4f}" for value in (*row, summary["floor"])), flush=True)
    plots.scatter_panels(config.workdir / "one_step.png", panels, limit=1.8)
    experiment.finish(config.workdir, summary)
    return summary


def grid(sde: SDE, n: int) -> Array:
    """n steps to 0; two meet where there is about as much noise as data."""
    few = jnp.array([EDM.T, 1.0, 0.0])[:: 3 - n] if n <= 2 else times.karras(EDM, n)
    return few if sde == EDM else times.uniform(sde, n, 0.0)


def students(config: Config, name: str) -> dict[int, tuple[SDE, Any, Sampler]]:
    """The student of a method by its numbers of steps, trained; PD has one for each."""

    def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
        for n in itertools.count(start):
            yield {"image": np.asarray(getattr(toys, config.data)(jax.random.fold_in(key, n), config.batch_size))}

    key = jax.random.key(config.seed)
    run = StudentRun(lambda _: train.adam(config.lr, warmup=100, clip=1.0), batches, config.loop, config.workdir, key)
    teach = LAWS[config.data].denoiser
    if name == "PD":
        method = Method(COSINE, None, trig, dj.DDIM(), (0.99,))
        grid = jnp.linspace(1.0, 0.0, config.teacher_steps + 1)
        halved = run.progressive(method, NET.apply, init(key), teach(COSINE), grid)
        return {n: (COSINE, model, method.sampler) for n, model in halved.items() if n in COUNTS}
    method = METHODS[name](config.loop.steps, teach)
    params = run.fit(name, method, init(key, method.two_times))
    return dict.fromkeys(COUNTS, (method.sde, method.model(method.sde, Partial(NET.apply, params)), method.sampler))


def divergence(f: Callable, z: Array) -> float:
    """KL(q | p) in nats of the law q of f(z), z ~ N(0, I), from the mixture p, if f is invertible.

    log q(f(z)) = log N(z) - log |det df/dz|; where f folds there is more in q, and this is a lower bound.
    """
    jacobians = jax.lax.map(jax.jacfwd(lambda z: f(z[None])[0]), z, batch_size=1000)
    log_q = -jnp.sum(z**2, -1) / 2 - jnp.log(2 * jnp.pi) - jnp.linalg.slogdet(jacobians)[1]
    return float(jnp.mean(log_q - MIXTURE.log_prob(f(z))))


def init(key: Array, pair: bool = False) -> PyTree:
    """The MLP's first parameters, of one time or of two."""
    level = jnp.zeros(1)
    return jax.jit(NET.init)(key, jnp.zeros((1, 2)), (level, level) if pair else level)


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

"""Few-step models on one teacher in the plane: every method of `losses.distillation`, one table, minutes on a CPU.

    python experiments/distill.py [--methods CD CTM LSD ...] [--data checkerboard] [--steps 4000]

The data are eight Gaussians on a circle, or a checkerboard, and the teacher is their exact denoiser, so that what
separates a student from the teacher's own flow is the method, its schedule and the network, and no teacher's error.
Methods without a teacher are trained on data. Each student is an MLP, trained for as many steps. The rows give the
sliced W2 distance between the data and samples in 1, 2, 4 and 8 steps, and the last rows that of the teacher's DDIM.
The summary holds more: the root mean square from flow maps' two steps to their one (`semigroup`), KL(student | data) on
the Gaussians, on the checkerboard the share of samples inside, and training's cost. Table and picture are in
`RESULTS.md`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from tyro.conf import OmitArgPrefixes

import diffjax as dj
from diffjax import flow_maps, losses, metrics, nn, plots, precondition, times, train
from diffjax.data import toys
from diffjax.losses import distillation as d
from diffjax.losses import weightings
from diffjax.runs import experiment
from diffjax.runs.student_run import Method, StudentRun, evaluations
from diffjax.typing import SDE, Denoiser, PyTree, Sampler

# steps of the students and the teacher, and of the teacher alone
COUNTS = (1, 2, 4, 8)
MORE = (16, 50, 100)
MIXTURE = dj.GaussianMixture(*map(jnp.asarray, toys.eight_gaussians_parameters()))
DISTRIBUTIONS = {"eight_gaussians": MIXTURE, "checkerboard": dj.Boxes(*map(jnp.asarray, toys.checkerboard_squares()))}
Teach = Callable[[SDE], Denoiser]  # the exact denoiser of the data
NET = nn.MLP(width=128)
EDM, FLOW, COSINE = dj.EDM(T=20.0, t_min=0.01), dj.Flow(), dj.Cosine()
GRID = times.karras(EDM, 17, to_zero=False)
LEVELS = times.LogNormal(EDM, -0.5, 1.5)


def stretched(sde: SDE, t: Any) -> Array:
    """c_noise on `EDM`: 100 log sigma, as a sinusoidal embedding needs differences of about 1."""
    return 100 * jnp.log(sde.sigma(t))


SLOW = precondition.scaled_by(20.0)  # where a loss differentiates networks in time, no feature may turn fast
consistent = partial(precondition.consistency, c_noise=stretched)
inner = partial(consistent, eps=0.0)  # CTM's g: EDM's boundary at 0
trig = partial(precondition.from_v, c_noise=SLOW)
trajectory = partial(flow_maps.ctm, precondition=inner, c_noise=stretched)
average = partial(flow_maps.average_velocity, levels=flow_maps.Both(SLOW))
shortcut = partial(flow_maps.average_velocity, levels=flow_maps.Duration(SLOW, 1 / 128))


def pairs_on_edm(pairs: Any, f: Callable = consistent, ema: tuple[Any, ...] = (0.999,), **options: Any) -> Method:
    """CD, CT, iCT and ECT."""
    return Method(EDM, d.Consistency(EDM, pairs, NET.apply, f, **options), f, ema=ema)


def trigflow(steps: int, **options: Any) -> Method:
    """sCD and sCT."""
    levels = times.LogNormal(COSINE, -0.5, 1.4)
    loss = d.ContinuousConsistency(COSINE, levels, NET.apply, c_noise=SLOW, warmup=steps / 4, **options)
    return Method(COSINE, loss, trig)


def ctm(teach: Teach) -> Method:
    teacher = flow_maps.along(EDM, teach(EDM), GRID)
    soft = d.Trajectory(EDM, times.Stops(GRID), teacher, NET.apply, trajectory, end=EDM.t_min)
    diagonal = Partial(flow_maps.diagonal_of, trajectory)
    match = losses.DSM(EDM, LEVELS, NET.apply, diagonal, weightings.edm)
    loss = losses.Balanced((soft, match), lambda params: params["params"]["out"])
    return Method(EDM, loss, trajectory, dj.Jump(0.0, EDM.t_min))


def matched(residual: Callable, teach: Teach) -> Method:
    """LMD and EMD: the teacher's velocity."""
    pairs = times.Sorted(times.Uniform(1e-3))
    loss = d.SelfDistillation(FLOW, pairs, residual, NET.apply, average, teach(FLOW))
    return Method(FLOW, loss, average, dj.Jump())


def self_distilled(residual: Callable, flow_map: Callable = average, pairs: Any = None) -> Method:
    """LSD, ESD, PSD and shortcut models: the student's own velocity, learnt at once."""
    off = d.SelfDistillation(FLOW, pairs or times.Sorted(times.Uniform(1e-3)), residual, NET.apply, flow_map)
    diagonal = Partial(flow_maps.diagonal_of, flow_map)
    on = losses.DSM(FLOW, times.Uniform(1e-3), NET.apply, diagonal, weightings.velocity)
    return Method(FLOW, losses.Sum((on, off), (0.75, 0.25)), flow_map, dj.Jump())


def mean_flow(power: float = 0.0, **options: Any) -> Method:
    """Without the papers' adaptive weight, which in the plane draws u towards the modes of v."""
    pairs = times.Sorted(times.LogitNormal(-0.4, 1.0), 0.75)
    loss = d.MeanFlow(FLOW, pairs, NET.apply, flow_maps.Both(SLOW), power=power, **options)
    return Method(FLOW, loss, average, dj.Jump())


def reflow(teach: Teach) -> Method:
    """A straight flow, trained on the teacher's pairs, is sampled by DDIM."""
    velocity = losses.DSM(FLOW, times.Uniform(1e-3), NET.apply, precondition.from_velocity, weightings.velocity)
    teacher = flow_maps.along(FLOW, teach(FLOW), times.uniform(FLOW, 16, t_min=0.0))
    return Method(FLOW, d.Reflow(FLOW, teacher, velocity), precondition.from_velocity, dj.DDIM())


def consistency_distillation(teach: Teach) -> Method:
    teacher = flow_maps.heun_step(EDM, teach(EDM))
    return pairs_on_edm(times.Neighbours(GRID), teacher=teacher, target_ema=0, ema=(0.95, 0.999))


def consistency_training(steps: int) -> Method:
    levels = times.Rising(2.0, 50.0, 0.8 * steps)
    ema = (train.levels_ema(levels), 0.999)
    return pairs_on_edm(times.KarrasNeighbours(EDM, levels), ema=ema, target_ema=0)


def improved_training(steps: int) -> Method:
    pairs = times.KarrasNeighbours(EDM, times.Doubling(10.0, 80.0, float(steps)), (-0.5, 1.5))
    return pairs_on_edm(pairs, metric=d.PseudoHuber(), weight=d.rate)


def progressive(teach: Teach) -> Method:
    """Its last round."""
    loss = d.Progressive(COSINE, jnp.linspace(1.0, 0.0, 3), teach(COSINE), NET.apply, trig)
    return Method(COSINE, loss, trig, dj.DDIM(), (0.99,))


METHODS: dict[str, Callable[[int, Teach], Method]] = {  # of the number of training steps, and of the teacher
    "PD": lambda steps, teach: progressive(teach),
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
    "PSD": lambda steps, teach: self_distilled(d.progressive_uniform),
    "shortcut": lambda steps, teach: self_distilled(d.progressive_midpoint, shortcut, times.Dyadic(128.0)),
    "MeanFlow": lambda steps, teach: mean_flow(),
    "iMF": lambda steps, teach: mean_flow(improved=True),
    "reflow": lambda steps, teach: reflow(teach),
}


@dataclasses.dataclass(frozen=True)
class Config:
    methods: tuple[str, ...] = tuple(METHODS)
    """Of METHODS."""
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
    unknown = set(config.methods) - set(METHODS)
    if unknown:
        raise SystemExit(f"unknown methods {sorted(unknown)}; choose among {', '.join(METHODS)}")
    d.halvings(jnp.linspace(1.0, 0.0, config.teacher_steps + 1))  # raises where it is no power of two
    experiment.start(config.workdir, config)
    distribution = DISTRIBUTIONS[config.data]
    k_data, k_other, k_slices = jax.random.split(jax.random.key(config.seed + 1), 3)
    data = distribution.sample(k_data, config.samples)
    distance = partial(metrics.sliced_wasserstein, k_slices, data)
    panels = {"data": data[:4000]}
    summary = {"floor": float(distance(distribution.sample(k_other, config.samples)))}

    def draw(sde: SDE, model: Any, sampler: Sampler, n: int) -> Array:
        x = dj.prior_sample(jax.random.key(config.seed + 2), sde, data.shape)
        return dj.sample(k_other, model, sde, sampler, grid(sde, n), x)

    def show(name: str, ends: dict[int, Array]) -> None:
        row = {f"{name}, {n}": float(distance(x)) for n, x in ends.items()}
        summary.update(row)
        print(f"{name:<14}" + "".join(f"{value:>8.4f}" for value in row.values()), flush=True)

    print(f"{'sliced W2':<14}" + "".join(f"{n:>8}" for n in (*COUNTS, *MORE)) + f"   floor {summary['floor']:.4f}")
    for name in config.methods:
        cost, models = students(config, name)
        ends = {n: draw(*how, n) for n, how in sorted(models.items())}
        show(name, ends)
        summary |= {f"{name}, evaluations": cost, **more(config, name, models[1], ends)}
        panels[f"{name}, 1 step"] = ends[1][:4000]
    for sde in (EDM, FLOW, COSINE):
        ends = {n: draw(sde, distribution.denoiser(sde), dj.DDIM(), n) for n in (*COUNTS, *MORE)}
        show(f"DDIM on {type(sde).__name__}", ends)
    plots.scatter_panels(config.workdir / "one_step.png", panels, limit=1.8)
    experiment.finish(config.workdir, summary)
    return summary


def more(config: Config, name: str, how: tuple[SDE, Any, Sampler], ends: dict[int, Array]) -> dict[str, float]:
    """Further figures of a student's samples, by their numbers of steps."""
    (sde, model, sampler), distribution, found = how, DISTRIBUTIONS[config.data], {}
    if isinstance(sampler, dj.Jump):
        found[f"{name}, semigroup"] = float(jnp.sqrt(jnp.mean((ends[2] - ends[1]) ** 2)))
    if distribution is not MIXTURE:
        found |= {f"{name}, {n}, inside": float(jnp.isfinite(distribution.log_prob(x)).mean()) for n, x in ends.items()}
    elif sampler == dj.Jump() and sde == FLOW:
        x = dj.prior_sample(jax.random.key(config.seed + 2), sde, ends[1].shape)
        found[f"{name}, KL"] = metrics.pushforward_kl(partial(model, t=sde.T, s=0.0), x, distribution.log_prob)
    return found


def grid(sde: SDE, n: int) -> Array:
    """n steps to 0; two meet where there is about as much noise as data."""
    few = jnp.array([EDM.T, 1.0, 0.0])[:: 3 - n] if n <= 2 else times.karras(EDM, n)
    return few if sde == EDM else times.uniform(sde, n, 0.0)


def students(config: Config, name: str) -> tuple[float, dict[int, tuple[SDE, Any, Sampler]]]:
    """Evaluations of a network that training costs, if the teacher is one too; and the students by steps."""
    key = jax.random.key(config.seed)
    steps = config.loop.steps
    teach = DISTRIBUTIONS[config.data].denoiser
    batches = partial(toys.stream, getattr(toys, config.data), key, config.batch_size)
    run = StudentRun(lambda _: train.adam(config.lr, warmup=100, clip=1.0), batches, config.loop, config.workdir, key)
    method = METHODS[name](steps, teach)
    params = init(key, method.two_times)
    network = METHODS[name](steps, lambda sde: trig(sde, Partial(NET.apply, init(key))))
    cost = config.batch_size * steps * evaluations(network, NET.apply, params, None, next(batches(0)))
    if name == "PD":
        start = jnp.linspace(1.0, 0.0, config.teacher_steps + 1)
        halved = run.progressive(method, params, start)
        return cost, {n: how(method, params) for n, params in halved.items() if n in COUNTS}
    return cost, dict.fromkeys(COUNTS, how(method, run.fit(name, method, params)))


def how(method: Method, params: PyTree) -> tuple[SDE, Any, Sampler]:
    """A student as it is sampled."""
    return method.sde, method.model(method.sde, Partial(NET.apply, params)), method.sampler


def init(key: Array, pair: bool = False) -> PyTree:
    """The MLP's first parameters, of one time or of two."""
    level = jnp.zeros(1)
    return jax.jit(NET.init)(key, jnp.zeros((1, 2)), (level, level) if pair else level)


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

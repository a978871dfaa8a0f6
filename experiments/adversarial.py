"""Adversarial few-step models on one teacher in the plane: ADD, DMD, DMD2, CTM and denoising diffusion GANs.

    python experiments/adversarial.py [--methods DMD2 ADD ...] [--data checkerboard] [--steps 2000]

Data, teacher, network, batches and distance are those of `distill.py`: eight Gaussians or a checkerboard, their exact
denoiser, an MLP. Student and opponent train in turn; a round is one step of the student, and of its opponent one step,
five for DMD and DMD2. "GAN" is ADD without its teacher, and CTM alone has no opponent; DDGAN's 1 and 2 steps are two
students. Each row gives the sliced W2 distance between the data and 1-step and 2-step samples, beside that of the
teacher's DDIM. In 2 steps all but DDGAN and CTM renoise between.

Minutes on two busy CPU cores, jax 0.10.2, 2026-11-25, CTM and the checkerboard 2026-11-27; one seed:

                  Gaussians           checkerboard
    sliced W2     1 step   2 steps    1 step   2 steps
    GAN           0.6038    0.6044    0.5570    0.4273
    ADD           0.2698    0.2077    0.3676    0.3720
    DMD           0.2023    0.1502    0.0986    0.0887
    DMD2          0.0793    0.1064    0.2703    0.2871
    DDGAN         0.0699    0.0653    0.1133    0.1448
    CTM           0.0469    0.0464    0.0244    0.0242
    CTM + GAN     0.0595    0.0472    0.0354    0.0372
    DDIM          0.9981    0.3994    0.8796    0.4142
    floor         0.0246              0.0219

A teacher's score improves on a discriminator of features alone, and a discriminator of noised samples beside it, in
DMD2, halves the distance again on the Gaussians; on the checkerboard it harms. DDGAN, whose latent lets one step choose
among the modes, comes nearer there, and not on the checkerboard. CTM, which follows the teacher's exact flow, has
nothing left to gain from a discriminator here; the two end level (mean logits 0.36 and 0.32).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
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
from diffjax import flow_maps, losses, metrics, nn, precondition, times, train
from diffjax.data import toys
from diffjax.losses import distillation as d
from diffjax.losses import weightings
from diffjax.runs import experiment
from diffjax.runs.student_run import Method, StudentRun
from diffjax.typing import Denoiser, PyTree, Sampler

SDE, LATENT = dj.Flow(), 4
MIXTURE = dj.GaussianMixture(*map(jnp.asarray, toys.eight_gaussians_parameters()))
DISTRIBUTIONS = {"eight_gaussians": MIXTURE, "checkerboard": dj.Boxes(*map(jnp.asarray, toys.checkerboard_squares()))}
NET = nn.MLP(width=128)
JUDGE = nn.PointDiscriminator(width=128)
HEADS = nn.FeatureHeads(width=128)
LEVELS, SLOW = times.Uniform(0.02), precondition.scaled_by(20.0)
velocity = partial(precondition.from_velocity, c_noise=SLOW)
FREQUENCIES = 2.0 * np.random.RandomState(0).standard_normal((2, 64)).astype(np.float32)
GRID = times.uniform(SDE, 16, 0.0)
TRAJECTORY = partial(flow_maps.ctm, precondition=velocity, c_noise=SLOW)
GRIDS = {1: jnp.array([1.0, 0.0]), 2: jnp.array([1.0, 0.5, 0.0])}


def fourier(x: Array) -> list[Array]:
    """The frozen features of ADD's discriminator, of two kinds: a point itself, and waves."""
    return [x, jnp.concatenate([jnp.sin(x @ FREQUENCIES), jnp.cos(x @ FREQUENCIES)], -1)]


def fake_score(opponent: PyTree, *args: Any, **options: Any) -> Any:
    return NET.apply(opponent["fake"], *args, **options)


def judge(opponent: PyTree, *args: Any) -> Any:
    return JUDGE.apply(opponent["judge"], *args)


def heads(opponent: PyTree, *args: Any) -> Any:
    return HEADS.apply(opponent["heads"], *args)


def with_latent(params: PyTree, x: Array, c_noise: Any, cond: Any, **options: Any) -> Array:
    """The MLP on x_t beside z."""
    out: Any = NET.apply(params, jnp.concatenate([x, cond["latent"]], -1), c_noise, **options)
    return out[:, : x.shape[-1]]


STUDENT = d.Student(SDE, times.OneOf(GRIDS[2][:-1]), NET.apply, precondition.from_velocity)
GAN_HEADS = d.AdversarialTerm(d.Discriminator(heads, d.Features(fourier)))
GAN_NOISED = d.AdversarialTerm(d.Discriminator(judge, d.Noised(SDE, LEVELS), d.non_saturating))
DENOISE = losses.DSM(SDE, LEVELS, fake_score, precondition.from_velocity, weightings.velocity, train=False)


def method(opponent: Any, student: Any, turns: int = 1, sampler: Sampler = dj.Renoise(1.0)) -> Method:
    """The losses of opponent and student, and how many steps the opponent takes for each of the student's."""
    return Method(SDE, student, student.student.precondition, sampler, (0.99,), opponent, turns)


def with_heads(*more: tuple[Any, float]) -> Method:
    """GAN and ADD."""
    terms, weights = zip((GAN_HEADS, 1.0), *more, strict=True)
    return method(d.DiscriminatorLoss(STUDENT, GAN_HEADS.discriminator, 1e-3), d.GeneratorLoss(STUDENT, terms, weights))


def match(teacher: Denoiser) -> d.DistributionMatching:
    return d.DistributionMatching(SDE, LEVELS, teacher, fake_score, precondition.from_velocity)


def dmd(teacher: Denoiser) -> Method:
    return method(d.OnSamples(STUDENT, DENOISE), d.GeneratorLoss(STUDENT, (match(teacher),), (1.0,)), 5)


def dmd2(teacher: Denoiser) -> Method:
    """DMD beside a discriminator; the student trains where its own sampler brings it."""
    student = dataclasses.replace(STUDENT, simulate=True)
    opponents = d.OnSamples(student, DENOISE), d.DiscriminatorLoss(student, GAN_NOISED.discriminator)
    student_loss = d.GeneratorLoss(student, (match(teacher), GAN_NOISED), (1.0, 0.1))
    return method(losses.Sum(opponents, (1.0, 1.0)), student_loss, 5)


def ctm(teacher: Denoiser, *adversarial: Any) -> Method:
    """CTM, each of its other losses as strong in the last layer as soft consistency."""
    diagonal = Partial(flow_maps.diagonal_of, TRAJECTORY)
    soft = d.Trajectory(SDE, times.Stops(GRID), flow_maps.along(SDE, teacher, GRID), NET.apply, TRAJECTORY)
    dsm = losses.DSM(SDE, LEVELS, NET.apply, diagonal, weightings.velocity)
    loss = losses.Balanced((soft, dsm, *adversarial), lambda params: params["params"]["out"], (0.01, 10.0))
    return Method(SDE, loss, TRAJECTORY, dj.Jump(), (0.99,))


def ctm_gan(teacher: Denoiser) -> Method:
    student = dataclasses.replace(STUDENT, precondition=Partial(flow_maps.denoiser_of, TRAJECTORY))
    opponent = d.DiscriminatorLoss(student, GAN_HEADS.discriminator, 1e-3)
    return ctm(teacher, d.GeneratorLoss(student, (GAN_HEADS,), (1.0,)))._replace(opponent=opponent)


def ddgan(steps: int) -> Method:
    student = d.PairStudent(SDE, GRIDS[steps], with_latent, precondition.from_x0, LATENT)
    term = d.AdversarialTerm(d.Discriminator(judge, d.stepwise, d.non_saturating))
    losses_of_both = d.DiscriminatorLoss(student, term.discriminator, 0.01), d.GeneratorLoss(student, (term,), (1.0,))
    return method(*losses_of_both, sampler=dj.Latent(dj.Ancestral(), LATENT))


METHODS: dict[str, Callable[[int, Denoiser], Method]] = {  # of the number of sampling steps, and of the teacher
    "GAN": lambda steps, teacher: with_heads(),
    "ADD": lambda steps, teacher: with_heads((d.ScoreDistillation(SDE, LEVELS, teacher), 2.5)),
    "DMD": lambda steps, teacher: dmd(teacher),
    "DMD2": lambda steps, teacher: dmd2(teacher),
    "CTM": lambda steps, teacher: ctm(teacher),
    "CTM + GAN": lambda steps, teacher: ctm_gan(teacher),
    "DDGAN": lambda steps, teacher: ddgan(steps),
}


@dataclasses.dataclass(frozen=True)
class Config:
    methods: tuple[str, ...] = tuple(METHODS)
    """Of METHODS."""
    data: Literal["eight_gaussians", "checkerboard"] = "eight_gaussians"
    lr: float = 1e-3
    batch_size: int = 128
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=2000, steps_per_call=50, log_every=500, checkpoint_every=500, sample_every=0, keep=1
    )
    samples: int = 10_000
    seed: int = 0
    workdir: Path = Path("runs/adversarial")


def main(config: Config) -> dict[str, Any]:
    unknown = set(config.methods) - set(METHODS)
    if unknown:
        raise SystemExit(f"unknown methods {sorted(unknown)}; choose among {', '.join(METHODS)}")
    experiment.start(config.workdir, config)
    k_data, k_other, k_slices = jax.random.split(jax.random.key(config.seed + 1), 3)
    distribution = DISTRIBUTIONS[config.data]
    data = distribution.sample(k_data, config.samples)
    teacher = distribution.denoiser(SDE)
    distance = partial(metrics.sliced_wasserstein, k_slices, data)
    x = dj.prior_sample(jax.random.key(config.seed + 2), SDE, data.shape)
    summary = {"floor": float(distance(distribution.sample(k_other, config.samples)))}
    summary |= {f"DDIM, {n}": float(distance(dj.sample(k_other, teacher, SDE, dj.DDIM(), GRIDS[n], x))) for n in GRIDS}
    print(f"{'sliced W2':<12}{'1 step':>10}{'teacher':>10}{'2 steps':>10}{'teacher':>10}{'floor':>10}", flush=True)
    for name in config.methods:
        for n, model in students(config, name).items():
            draws = dj.sample(k_other, model, SDE, METHODS[name](n, teacher).sampler, GRIDS[n], x)
            summary[f"{name}, {n}"] = float(distance(draws))
        row = [summary[f"{kind}, {n}"] for n in GRIDS for kind in (name, "DDIM")]
        print(f"{name:<12}" + "".join(f"{value:>10.4f}" for value in (*row, summary["floor"])), flush=True)
    experiment.finish(config.workdir, summary)
    return summary


def students(config: Config, name: str) -> dict[int, Denoiser]:
    """The student of a method for one and for two steps, trained; two of them for DDGAN."""

    def trained(n: int) -> Denoiser:
        method = METHODS[name](n, DISTRIBUTIONS[config.data].denoiser(SDE))
        student, opponent = init(k_init, method)
        params = run.fit(f"{name}{n}", method, student, opponent)
        network = with_latent if isinstance(method.sampler, dj.Latent) else NET.apply
        return method.model(SDE, Partial(network, params))

    k_init, k_data, k_run = jax.random.split(jax.random.key(config.seed), 3)
    tx = train.adam(config.lr, warmup=100, clip=1.0, betas=(0.5, 0.9))
    batches = partial(toys.stream, getattr(toys, config.data), k_data, config.batch_size)
    run = StudentRun(lambda _: tx, batches, config.loop, config.workdir, k_run)
    return {n: trained(n) for n in GRIDS} if name == "DDGAN" else dict.fromkeys(GRIDS, trained(2))


def init(key: Array, method: Method) -> tuple[PyTree, PyTree]:
    """The parameters of the student, and of all networks that an opponent may have, used or not."""
    keys, x, c = jax.random.split(key, 4), jnp.zeros((1, 2)), jnp.zeros(1)
    pairs = isinstance(method.sampler, dj.Latent)
    opponent = {
        "fake": jax.jit(NET.init)(keys[0], x, c),
        "heads": jax.jit(HEADS.init)(keys[1], fourier(x)),
        "judge": jax.jit(JUDGE.init)(keys[2], x, (x, c) if pairs else c),
    }
    c_noise = (c, c) if method.two_times else c
    return jax.jit(NET.init)(keys[3], jnp.zeros((1, 2 + LATENT * pairs)), c_noise), opponent


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

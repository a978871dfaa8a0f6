"""Few steps on real images: every distillation of one teacher, by steps, beside the teacher's best solver.

    python experiments/few_step.py                             # Fashion-MNIST, 28 x 28: two hours on two CPU cores
    make data                                                  # once, for the emoji and for ADD's discriminator
    python experiments/few_step.py --preset emoji              # RGB emoji, 32 x 32
    python experiments/few_step.py --methods CTM --steps 3000  # the student in `weights/fashion-ctm.safetensors`
    python experiments/few_step.py --methods CD PD --resume    # a run that was stopped goes on

Each student starts as its teacher, a VP network whose parameters are in the repository, and is trained on the same
process in the cosine clock. Students are sampled on uniform grids, the teacher by the best of three solvers. FD is the
Fréchet distance, in 64 features of a classifier or (emoji) in 112 of EfficientNet-Lite0; evaluations are of one example
in training, a backward pass counted as two, by products. The picture shows the same noise through teacher and students.
All but PD are measured in two steps twice, the second time with the second step at t = 0.7, as in sCM (1.1 of pi/2; Lu
& Song 2025). The table is in `RESULTS.md`.

Errors must be counted in v (`error_in_v`): in x_0, FD of CD was 71 and 86 in one and two steps. sCD is left out: with
c = 0.1 it ruined its teacher (FD 305), which is conditioned on 999 t; sCM trains teachers that are conditioned on t.
ADD is run if named: from the teacher all samples are one (FD 376), and from a student (`--methods ADD --begin
runs/few_step/CD.safetensors --lr 5e-5 --lr-end 1e-6 --opponent-lr 1e-3 --rounds 150`) it does not clearly improve on
that in six settings (`RESULTS.md`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from tyro.conf import OmitArgPrefixes

import diffjax as dj
from diffjax import data, flow_maps, losses, nn, plots, precondition, pretrained, times, train
from diffjax.data import packages
from diffjax.formats import load_params
from diffjax.losses import distillation as d
from diffjax.losses import weightings
from diffjax.model_files import SHIPPED
from diffjax.runs import experiment, judges
from diffjax.runs.own_pictures import model_of
from diffjax.runs.student_run import EqualNoise, Method, StudentRun, evaluations
from diffjax.typing import Denoiser, PyTree, Sampler

WEIGHTS = Path(__file__).with_name("weights")
VP, COSINE = dj.VP(), dj.Cosine()
# of the students and the teacher, and of the teacher alone
COUNTS = (1, 2, 4, 8)
MORE = (16, 50, 100)
SOLVERS: dict[str, tuple[Sampler, Callable]] = {
    "DDIM, uniform t": (dj.DDIM(), times.uniform),
    "DPM++ 2M": (dj.DPMpp2M(), times.uniform_logsnr),
    "PNDM, uniform t": (dj.PNDM(4), times.uniform),
}
ONE_TIME = times.LowDiscrepancy(1e-3)
PAIRS = times.Sorted(times.Uniform(1e-3))
steps = partial(times.uniform, COSINE, t_min=0.0)  # n -> the students' grid
GRID = steps(16)
LATE = jnp.array([1.0, 0.7, 0.0])
VP_LEVEL = precondition.clock(VP)  # the teacher's noise level, at the students' time
consistent = partial(precondition.from_v, c_noise=VP_LEVEL)  # alpha x - sigma F: x itself at t = 0
trajectory = partial(flow_maps.ctm, precondition=consistent, c_noise=precondition.scaled_by(20.0))
DIAGONAL = Partial(flow_maps.diagonal_of, trajectory)
HEADS = nn.FeatureHeads()


class Parts(NamedTuple):
    """What all methods share: the network, the teacher, and the constants of ADD."""

    net: nn.UNet
    params: PyTree  # the teacher's
    add: tuple[float, float] = (2.5, 300.0)  # of ADD: the weight of score distillation, and R1

    @property
    def teacher(self) -> Denoiser:
        """In the students' time."""
        return consistent(COSINE, Partial(self.net.apply, self.params))

    def dsm(self, model: Callable) -> losses.DSM:
        return losses.DSM(COSINE, ONE_TIME, self.net.apply, model, weightings.v)


def progressive(parts: Parts) -> Method:
    """One of its rounds."""
    loss = d.Progressive(COSINE, steps(2), parts.teacher, parts.net.apply, consistent)
    return Method(COSINE, loss, consistent, dj.DDIM())


def consistency_distillation(parts: Parts) -> Method:
    pairs, teacher = times.Neighbours(GRID), flow_maps.heun_step(COSINE, parts.teacher)
    loss = d.Consistency(COSINE, pairs, parts.net.apply, consistent, teacher, weight=d.error_in_v)
    return Method(COSINE, loss, consistent)


def consistency_trajectory(parts: Parts) -> Method:
    teacher = flow_maps.heun_step(COSINE, parts.teacher)  # one interval of the grid is one step
    soft = d.Trajectory(COSINE, times.Stops(GRID, 1), teacher, parts.net.apply, trajectory, weight=d.error_in_v)
    loss = losses.Sum((soft, parts.dsm(DIAGONAL)), (1.0, 0.2))
    return Method(COSINE, loss, trajectory, dj.Jump())


def map_matching(parts: Parts) -> Method:
    loss = d.SelfDistillation(COSINE, PAIRS, d.lagrangian, parts.net.apply, trajectory, parts.teacher)
    return Method(COSINE, loss, trajectory, dj.Jump())


def self_distillation(parts: Parts) -> Method:
    off = d.SelfDistillation(COSINE, PAIRS, d.progressive_uniform, parts.net.apply, trajectory)
    return Method(COSINE, losses.Sum((parts.dsm(DIAGONAL), off), (0.5, 0.5)), trajectory, dj.Jump())


def distribution_matching(parts: Parts) -> Method:
    student = d.Student(COSINE, times.OneOf(GRID[:-1:2]), parts.net.apply, consistent)
    match = d.DistributionMatching(COSINE, times.Uniform(0.02), parts.teacher, parts.net.apply, consistent)
    opponent = d.OnSamples(student, parts.dsm(consistent))
    return Method(COSINE, d.GeneratorLoss(student, (match,), (1.0,)), consistent, opponent=opponent, turns=5)


def adversarial(parts: Parts) -> Method:
    student = d.Student(COSINE, times.OneOf(GRID[:-1:4]), parts.net.apply, consistent)
    term = d.AdversarialTerm(d.Discriminator(HEADS.apply, d.Features(frozen())))
    terms = term, d.ScoreDistillation(COSINE, times.Uniform(0.02), parts.teacher)
    loss = d.GeneratorLoss(student, terms, (1.0, parts.add[0]))
    opponent = d.DiscriminatorLoss(student, term.discriminator, parts.add[1])  # of means
    return Method(COSINE, loss, consistent, opponent=opponent)


def frozen() -> Callable:
    """Three stages of EfficientNet-Lite0, from images [B, H, W, 1 or 3]."""
    return Partial(stages, pretrained.load_efficientnet_lite0(packages.find(*pretrained.EFFICIENTNET_LITE0)))


def stages(net: Callable, x: Array) -> Any:
    x = jnp.broadcast_to(x, (*x.shape[:-1], 3))
    return net(jax.image.resize(x, (len(x), 64, 64, 3), "linear")).stages[1:4]


METHODS: dict[str, Callable[[Parts], Method]] = {
    "PD": progressive,
    "CD": consistency_distillation,
    "CTM": consistency_trajectory,
    "LMD": map_matching,
    "PSD": self_distillation,
    "DMD": distribution_matching,
    "ADD": adversarial,
}


@dataclasses.dataclass(frozen=True)
class Config:
    teacher: Path = SHIPPED / "fashion-vp.safetensors"
    """Weights of `score_sde.py`."""
    data: str = "fashion_mnist"
    methods: tuple[str, ...] = tuple(METHODS)[:-1]
    begin: Path | None = None
    """The weights of a student to begin from, in place of the teacher's."""
    teacher_steps: int = 32
    """Where progressive distillation begins; its rounds share the training steps."""
    opponent_lr: float | None = None
    """The learning rate of an opponent; None: the student's."""
    add: tuple[float, float] = (2.5, 300.0)
    """For ADD, the weight of score distillation, and R1."""
    rounds: int = 300
    """Steps of a student that has an opponent; DMD's takes five for each, ADD's one."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=1e-3, lr_end=1e-5, warmup=50, ema=(0.99,)
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=1200, log_every=100, checkpoint_every=300, sample_every=0, keep=1
    )
    batch_size: int = 64
    samples: int = 2000
    data_dir: Path | None = None
    seed: int = 0
    workdir: Path = Path("runs/few_step")


def main(config: Config) -> dict[str, Any]:
    unknown = set(config.methods) - set(METHODS)
    if unknown:
        raise SystemExit(f"unknown methods {sorted(unknown)}; choose among {', '.join(METHODS)}")
    experiment.start(config.workdir, config, shared=True)
    images = data.load(config.data, config.data_dir)
    teacher = model_of(config.teacher, VP, images.shape, prediction=precondition.from_v)
    parts, native = Parts(teacher.network, teacher.params, config.add), teacher.denoise
    methods = {name: METHODS[name](parts) for name in config.methods}
    judge = judges.judge(images)
    if judge is None:
        raise SystemExit(f"there is no network to judge samples of {images.name}: `make data` fetches one")
    needed = judges.dimensions(images.name, images.shape) or 0
    if config.samples <= needed:
        raise SystemExit(f"distances in {needed} features need more than {needed} samples, got {config.samples}")
    d.halvings(steps(config.teacher_steps))
    loop = dataclasses.replace(config.loop, resume=False)
    settings = experiment.describe(dataclasses.replace(config, loop=loop, methods=(), workdir=Path()))
    table = experiment.Table(config.workdir / "rows.json", settings)
    noise = EqualNoise(jax.random.key(config.seed + 1), images.shape, config.samples, judge, table, {})
    noise.look("teacher, 50", VP, native, dj.DDIM(), times.uniform(VP, 50))
    for name, method in methods.items():
        for n, student in sorted(students(config, parts, images, table, name, method).items()):
            how = COSINE, student, method.sampler, steps(n)
            noise.measure(f"{name}, {n}", *how)
            if n <= 2:
                noise.look(f"{name}, {n}", *how)
            if n == 2 and name != "PD":
                noise.measure(f"{name}, t = 0.7", *how[:-1], LATE)
    for n in (*COUNTS, *MORE):  # the reference: all solvers, in the teacher's own time
        for name, (sampler, grid) in list(SOLVERS.items())[: 2 if n >= 50 else None]:
            noise.measure(f"{name}, {n}", VP, native, sampler, grid(VP, n))
    plots.image_rows(config.workdir / "equal_noise.png", noise.pictures)  # a column is one noise
    summary = {name: value for name, value in table.rows.items() if name.endswith(("/fd", "/kid", "/evaluations"))}
    experiment.finish(config.workdir, summary)
    return summary


def students(
    config: Config, parts: Parts, images: data.ImageData, table: experiment.Table, name: str, method: Method
) -> dict[int, Any]:
    """The students of a method by their numbers of steps, trained; it is one for all of them, but for PD."""

    def batches(start: int) -> Iterator[Any]:
        arrays = images.train_images, images.train_labels, config.batch_size
        return data.batches(*arrays, seed=config.seed, start_step=start)

    method = method._replace(ema=config.optim.ema[:1])
    params, opponent = initial(parts, images.shape, method)
    params = params if config.begin is None else load_params(config.begin, params)
    loop = config.loop if method.opponent is None else dataclasses.replace(config.loop, steps=config.rounds)
    optim = config.optim
    own_lr = config.opponent_lr is not None
    opponent_optim = dataclasses.replace(optim, lr=config.opponent_lr, lr_end=None) if own_lr else optim

    def kept(file: str, params: PyTree, n: int = 2) -> Any:
        """A student, whose file samples in n steps."""
        student = dj.Model(parts.net, params, COSINE, method.model, images.shape, sampler=method.sampler, steps=n)
        dj.save(config.workdir / f"{file}.safetensors", student, {"data": images.name, "method": name}, "float16")
        return student.denoise

    run = StudentRun(optim.build, batches, loop, config.workdir, jax.random.key(config.seed), opponent_optim.build)
    cost = partial(evaluations, method, parts.net.apply, params, opponent, next(batches(0)))
    table.measure(name, lambda: {"evaluations": cost() * config.batch_size * loop.steps})
    if name == "PD":
        halved = run.progressive(method, params, steps(config.teacher_steps))
        return {n: kept(f"PD{n}", params, n) for n, params in halved.items() if n in COUNTS}
    return dict.fromkeys(COUNTS, kept(name, run.fit(name, method, params, opponent)))


def initial(parts: Parts, shape: tuple[int, ...], method: Method) -> tuple[PyTree, PyTree]:
    """The student as the teacher, with a second time if it is a flow map; its opponent, the teacher or new heads."""
    x, level = jnp.zeros((1, *shape)), jnp.zeros(1)
    student = opponent = parts.params
    if method.two_times:
        student = dj.parameters.graft(jax.jit(parts.net.init)(jax.random.key(0), x, (level, level)), parts.params)
    if isinstance(method.opponent, d.DiscriminatorLoss):
        opponent = jax.jit(HEADS.init)(jax.random.key(0), method.opponent.discriminator.inputs(jax.random.key(0), x)[0])
    return student, opponent


EMOJI = WEIGHTS / "emoji.safetensors", "emoji"
PRESETS = {"fashion": Config, "emoji": partial(Config, *EMOJI, samples=1000, workdir=Path("runs/few_step_emoji"))}

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

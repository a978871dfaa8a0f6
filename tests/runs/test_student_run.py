"""The run that distillation experiments share: rounds, adversarial training, resuming, and what training costs."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import flow_maps, losses, precondition, times, train
from diffjax.losses import distillation as d
from diffjax.runs.student_run import Method, StudentRun, evaluations, in_rounds

SDE = dj.Cosine()


def network(params, x, c_noise, cond=None, *, train=False, rngs=None):
    return params["w"] * x + params["b"]


@pytest.fixture
def params():
    return {"w": jnp.asarray(0.1), "b": jnp.zeros(2)}


@pytest.fixture
def run(tmp_path, key):
    def batches(start):
        for n in itertools.count(start):
            yield {"image": np.random.default_rng(n).standard_normal((8, 2)).astype(np.float32)}

    loop = train.LoopConfig(steps=12, log_every=2, checkpoint_every=6, sample_every=0)
    return StudentRun(lambda steps: optax.adam(0.1), batches, loop, tmp_path, key)


@pytest.fixture
def adversarial():
    student = d.Student(SDE, times.Fixed(1.0), network, precondition.from_x0)
    teacher = Partial(lambda x, t, cond=None: 0.5 * x)
    match = d.DistributionMatching(SDE, times.Uniform(0.1), teacher, network, precondition.from_x0)
    opponent = d.OnSamples(student, losses.DSM(SDE, times.Uniform(0.1), network, precondition.from_x0))
    loss = d.GeneratorLoss(student, (match,), (1.0,))
    return Method(SDE, loss, precondition.from_x0, ema=(0.5, 0.0), opponent=opponent, turns=2)


@pytest.mark.slow
def test_the_last_average_is_returned(run, params):
    loss = losses.DSM(SDE, times.Uniform(0.1), network, precondition.from_x0)
    found = [
        run.fit(str(ema), Method(SDE, loss, precondition.from_x0, ema=ema), params) for ema in ((0.9,), (0.9, 0.0))
    ]
    still = [run.fit("still", Method(SDE, loss, precondition.from_x0, ema=(0.0, 1.0)), params)]
    assert abs(found[0]["w"] - found[1]["w"]) > 1e-3
    assert still[0]["w"] == params["w"]


@pytest.mark.slow
def test_adversarial_training_resumes_bit_for_bit(run, params, adversarial, tmp_path):
    whole = run.fit("whole", adversarial, params, params)
    half = dataclasses.replace(run, loop=dataclasses.replace(run.loop, steps=6))
    half.fit("parts", adversarial, params, params)
    rest = dataclasses.replace(run, loop=dataclasses.replace(run.loop, resume=True))
    jax.tree.map(np.testing.assert_array_equal, whole, rest.fit("parts", adversarial, params, params))
    assert whole["w"] != params["w"]


@pytest.mark.slow
def test_progressive_distillation_of_a_gaussian_ends_at_its_teachers_four_steps(run, params):
    """Data N(0, I) have v = 0, and a DDIM step of angle a is x -> cos(a) x: four of them are cos(pi/8)^4 x."""
    mixture = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.eye(2)[None])
    loop = train.LoopConfig(steps=600, steps_per_call=100, log_every=0, checkpoint_every=0, sample_every=0)
    run = dataclasses.replace(run, loop=loop, optimiser=lambda steps: optax.adam(optax.linear_schedule(0.05, 0, steps)))
    ts = times.uniform(SDE, 4, t_min=0.0)
    loss = d.Progressive(SDE, ts, mixture.denoiser(SDE), network, precondition.from_v)
    method = Method(SDE, loss, precondition.from_v, ema=(0.0,))
    students = run.progressive(method, params, ts)
    assert sorted(students) == [1, 2]
    x = jnp.array([[0.3, -0.7]])
    for n, found in students.items():
        model = precondition.from_v(SDE, Partial(network, found))
        end = dj.sample(run.key, model, SDE, dj.DDIM(), times.uniform(SDE, n, t_min=0.0), x)
        np.testing.assert_allclose(end, np.cos(np.pi / 8) ** 4 * x, atol=2e-3)
    with pytest.raises(ValueError, match="3 steps cannot be halved to 1"):
        run.progressive(method, params, times.uniform(SDE, 3))


def test_each_network_has_a_schedule_of_its_own_length(run, params, adversarial):
    lengths = []
    optimiser = lambda steps: lengths.append(steps) or optax.sgd(optax.linear_schedule(0.1, 0.0, steps))  # noqa: E731
    dataclasses.replace(run, optimiser=optimiser).fit("adversarial", adversarial, params, params)
    assert lengths == [12, 24]  # of the student, and of its opponent with two turns a round


def test_in_rounds():
    loop = train.LoopConfig(steps=100, steps_per_call=10, log_every=20, checkpoint_every=50, sample_every=0)
    rounds = in_rounds(loop, 3)
    assert (rounds.steps, rounds.steps_per_call, rounds.log_every) == (300, 30, 60)
    assert (rounds.checkpoint_every, rounds.sample_every, rounds.keep) == (150, 0, loop.keep)


def test_the_cost_counts_networks():
    """Of a network of two products: its gradient costs three, as that of the input is not needed."""

    def wide(params, x, c_noise, cond=None, **options):
        return jnp.tanh(x @ params["a"]) @ params["b"]

    def cost(loss, model=precondition.from_x0, sampler=dj.DDIM(), **opponent):
        method = Method(SDE, loss, model, sampler, **opponent)
        return evaluations(method, wide, params, params, {"image": jnp.ones((8, 2))})

    params = {"a": jnp.ones((2, 100)), "b": jnp.ones((100, 2))}
    dsm = losses.DSM(SDE, times.Uniform(0.1), wide, precondition.from_x0)
    teacher = precondition.from_x0(SDE, Partial(wide, params))
    grid = times.uniform(SDE, 4, t_min=0.0)
    alone = cost(dsm)
    assert alone == 1 + 1.5
    pairs = times.Neighbours(grid)
    consistency = d.Consistency(SDE, pairs, wide, precondition.from_x0, flow_maps.ddim_step(SDE, teacher))
    assert cost(consistency) - alone == 2  # the teacher's step and the target
    tracked = dataclasses.replace(consistency, target_ema=0)
    assert cost(tracked, ema=(0.9, 0.99)) == cost(consistency)
    along = flow_maps.along(SDE, teacher, grid, flow_maps.ddim_step)
    assert cost(d.Reflow(SDE, along, dsm)) - alone == 4  # each interval is counted
    student = d.Student(SDE, times.Fixed(1.0), wide, precondition.from_x0)
    generator_loss = d.GeneratorLoss(student, (lambda opponent, key, x, cond, context: (x**2).mean(-1),), (1.0,))
    played = cost(
        generator_loss, opponent=d.OnSamples(student, dsm), turns=4
    )  # 4 samples and steps of DSM, one step of the student
    assert played == 4 * (1 + alone) + alone
    middle = d.SelfDistillation(
        SDE, times.Sorted(times.Uniform()), d.progressive_midpoint, wide, flow_maps.average_velocity
    )
    assert cost(middle, flow_maps.average_velocity, dj.Jump()) - alone == 2  # two frozen jumps

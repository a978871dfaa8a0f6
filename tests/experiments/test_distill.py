"""The table of few-step models, at a size of seconds."""

import json
import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import losses, nn, train
from diffjax.data import toys
from diffjax.runs.student_run import StudentRun


@pytest.fixture(scope="module")
def distill(load):
    return load("distill")


class Linear(NamedTuple):
    """In place of the MLP: of the point and of the levels, and compiled at once."""

    def init(self, key, x, c_noise):
        return {"params": {"out": {"w": 0.5 * jnp.ones(2), "b": 0.1 * jnp.ones(2)}}}

    def apply(self, params, x, c_noise, cond=None, *, train=False, rngs=None):
        out = params["params"]["out"]
        return out["w"] * x + out["b"] * jnp.sin(sum(jax.tree.leaves(c_noise)))[:, None]


@pytest.fixture
def quick(distill, monkeypatch):
    monkeypatch.setattr(distill, "NET", Linear())
    return distill


@pytest.fixture
def few(distill, monkeypatch):
    """Fewer programs to compile, and smaller ones."""
    monkeypatch.setattr(distill, "NET", nn.MLP(width=8, depth=0))
    monkeypatch.setattr(distill, "COUNTS", (1, 2))
    monkeypatch.setattr(distill, "MORE", ())
    return distill


@pytest.mark.slow
def test_a_small_table(few, tmp_path, capsys):
    loop = train.LoopConfig(steps=4, steps_per_call=2, log_every=2, checkpoint_every=0, sample_every=0)
    config = few.Config(("LMD", "PD"), batch_size=8, teacher_steps=2, loop=loop, samples=64, workdir=tmp_path)
    summary = few.main(config)
    rows = [("LMD", n) for n in (*few.COUNTS, "KL", "semigroup", "evaluations")]
    rows += [("PD", n) for n in (1, "evaluations")]  # all that a teacher of 2 steps has
    rows += [(f"DDIM on {sde}", n) for sde in ("EDM", "Flow", "Cosine") for n in few.COUNTS]
    assert set(summary) == {"floor", *(f"{name}, {n}" for name, n in rows)}
    assert np.isfinite(list(summary.values())).all()
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    table = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("LMD ", "PD ")) for line in table) == 2


@pytest.mark.slow
def test_the_checkerboard_counts_what_falls_inside(few, tmp_path):
    loop = train.LoopConfig(steps=2, steps_per_call=2, log_every=2, checkpoint_every=0, sample_every=0)
    summary = few.main(few.Config(("LSD",), "checkerboard", batch_size=8, loop=loop, samples=64, workdir=tmp_path))
    rows = {name for name in summary if name.startswith("LSD")}
    assert rows == {"LSD, semigroup", "LSD, evaluations"} | {
        f"LSD, {n}{what}" for n in few.COUNTS for what in ("", ", inside")
    }
    assert all(0 <= summary[f"LSD, {n}, inside"] < 1 for n in (1, 2))


def test_every_method_is_built_for_a_number_of_steps(distill):
    for name, method in distill.METHODS.items():
        assert callable(method(1000, distill.MIXTURE.denoiser).loss), name
    with pytest.raises(SystemExit, match=r"unknown methods \['GAN'\]; choose among PD, CD"):
        distill.main(distill.Config(("GAN",)))
    with pytest.raises(ValueError, match="3 steps cannot be halved to 1"):
        distill.main(distill.Config(("PD",), teacher_steps=3))


GROUPS = ("CD", "CT", "CTM", "PD iCT ECT sCD sCT reflow", "LMD EMD LSD ESD PSD shortcut MeanFlow iMF")


@pytest.mark.slow
@pytest.mark.parametrize("names", GROUPS)
def test_every_method_resumes_bit_for_bit(quick, halves, points, names, tmp_path):
    """Targets, schedules and warm-ups live in the state and the step: what is saved and read again goes on the same.

    Methods of one kind of network that follow no average of their own are trained as one sum, a program for all.
    """
    assert {name for group in GROUPS for name in group.split()} == set(quick.METHODS)
    tx, methods = optax.adam(1e-2), [quick.METHODS[name](4, quick.MIXTURE.denoiser) for name in names.split()]
    loss, ema = losses.Sum(tuple(method.loss for method in methods), (1.0,) * len(methods)), methods[0].ema
    key, batches = jax.random.key(0), points(1, "image", *["noise"] * (len(methods) > 1))  # less to compile
    start = train.TrainState.create(key, quick.init(key, methods[0].two_times), tx, ema)
    whole, seen = halves(train.jit_train_steps(loss, tx, ema), start, batches, tmp_path)
    assert whole.step == 4
    for i in range(len(methods)):
        values = [float(metrics[f"part{i}"][0]) for metrics in seen]
        assert np.isfinite(values).all() and np.all(values), values


@pytest.mark.slow
def test_progressive_distillation_stopped_within_a_round_resumes_bit_for_bit(quick, tmp_path):
    """As if it had been killed in the middle of the second round: the last checkpoint is taken away."""
    starts = []

    def batches(start):
        starts.append(start)
        return toys.stream(toys.eight_gaussians, jax.random.key(1), 4, start)

    def students(resume):
        loop = train.LoopConfig(steps=8, log_every=2, checkpoint_every=2, sample_every=0, resume=resume)
        run = StudentRun(lambda steps: optax.adam(1e-2), batches, loop, tmp_path, jax.random.key(0))
        method = quick.METHODS["PD"](4, quick.MIXTURE.denoiser)
        return run.progressive(method, quick.init(run.key), jnp.linspace(1.0, 0.0, 5))

    whole = students(False)
    shutil.rmtree(tmp_path / "PD1/checkpoints/4")
    parts = students(True)
    assert sorted(whole) == [1, 2] and starts == [0, 0, 2]  # the first round was over
    jax.tree.map(np.testing.assert_array_equal, whole, parts)
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (whole[1], whole[2])), strict=True))

"""The table of few-step models, at a size of seconds."""

import json

import jax
import numpy as np
import optax
import pytest

from diffjax import nn, train


@pytest.fixture(scope="module")
def distill(load):
    return load("distill")


@pytest.fixture
def few(distill, monkeypatch):
    """Fewer programs to compile."""
    monkeypatch.setattr(distill, "COUNTS", (1, 2))
    monkeypatch.setattr(distill, "MORE", (4,))
    return distill


@pytest.mark.slow
def test_a_small_table(few, tmp_path, capsys):
    loop = train.LoopConfig(steps=4, steps_per_call=2, log_every=2, checkpoint_every=0, sample_every=0)
    config = few.Config(("LMD", "PD"), batch_size=8, teacher_steps=4, loop=loop, samples=64, workdir=tmp_path)
    summary = few.main(config)
    rows = [("LMD", n) for n in (*few.COUNTS, "KL", "semigroup", "evaluations")]
    rows += [("PD", n) for n in (1, 2, "evaluations")]  # all that a teacher of 4 steps has
    rows += [(f"DDIM on {sde}", n) for sde in ("EDM", "Flow", "Cosine") for n in (*few.COUNTS, *few.MORE)]
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
    with pytest.raises(ValueError, match="3"):
        distill.main(distill.Config(("PD",), teacher_steps=3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CD", "CT", "iCT", "ECT", "sCT", "CTM"])
def test_targets_schedules_and_warm_ups_resume_bit_for_bit(distill, name, tmp_path, monkeypatch):
    """They live in the state and the step: what is saved and read again goes on the same. Other methods have none."""
    monkeypatch.setattr(distill, "NET", nn.MLP(width=8, depth=1))
    key, tx = jax.random.key(0), optax.adam(1e-2)
    batch = {"image": np.random.default_rng(0).standard_normal((2, 4, 2)).astype(np.float32)}
    method = distill.METHODS[name](4, distill.MIXTURE.denoiser)
    state = train.TrainState.create(key, distill.init(key, method.two_times), tx, method.ema)
    steps = train.jit_train_steps(method.loss, tx, method.ema)
    half, _ = steps(state, batch)
    with train.Checkpoints(tmp_path) as saved:
        saved.save(half)
        again = saved.restore(state)
    assert int(again.step) == 2
    whole, parts = steps(half, batch)[0], steps(again, batch)[0]
    leaves = (jax.tree.leaves((state.params, state.ema)) for state in (whole, parts))
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)

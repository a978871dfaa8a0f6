"""The table of few-step models, at a size of seconds."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import nn, train


@pytest.fixture(scope="module")
def distill(load):
    return load("distill")


@pytest.mark.slow
def test_a_small_table(distill, tmp_path, capsys):
    loop = train.LoopConfig(steps=4, steps_per_call=2, log_every=2, checkpoint_every=0, sample_every=0)
    config = distill.Config(("LMD", "PD"), batch_size=8, teacher_steps=4, loop=loop, samples=64, workdir=tmp_path)
    summary = distill.main(config)
    students = [(name, n) for name in ("LMD", "DDIM on Flow") for n in distill.COUNTS]
    students += [(name, n) for name in ("PD", "DDIM on Cosine") for n in (1, 2)]  # all that a teacher of 4 steps has
    assert set(summary) == {"floor", "LMD, KL", "LMD, semigroup", *(f"{name}, {n}" for name, n in students)}
    assert np.isfinite(list(summary.values())).all()
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    table = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("LMD ", "PD ")) for line in table) == 2


@pytest.mark.slow
def test_the_checkerboard_counts_what_falls_inside(distill, tmp_path):
    loop = train.LoopConfig(steps=2, steps_per_call=2, log_every=2, checkpoint_every=0, sample_every=0)
    summary = distill.main(
        distill.Config(("LSD",), "checkerboard", batch_size=8, loop=loop, samples=64, workdir=tmp_path)
    )
    assert set(summary) == {"floor", *(f"{name}, {n}" for name in ("LSD", "DDIM on Flow") for n in distill.COUNTS)} | {
        "LSD, semigroup",
        *(f"LSD, {n}, inside" for n in distill.COUNTS),
    }
    assert all(0 <= summary[f"LSD, {n}, inside"] < 1 for n in (1, 2))


def test_the_divergence_of_an_invertible_map(distill):
    """z -> 1.5 z + 0.2 is N(0.2, 2.25 I), whose density is known."""
    z = jax.random.normal(jax.random.key(0), (500, 2))
    x = np.asarray(1.5 * z + 0.2, np.float64)
    log_q = -((x - 0.2) ** 2).sum(1) / 4.5 - np.log(2 * np.pi * 2.25)
    expected = np.mean(log_q - np.asarray(distill.MIXTURE.log_prob(x)))
    assert distill.divergence(lambda z: 1.5 * z + 0.2, z) == pytest.approx(expected, rel=1e-4)
    folded = lambda z: z.at[..., 0].set(jnp.abs(z[..., 0]))  # noqa: E731  the true value is log 2 more
    assert distill.divergence(folded, z) == pytest.approx(distill.divergence(lambda z: z, z), rel=1e-4)


def test_every_method_is_built_for_a_number_of_steps(distill):
    for name, method in distill.METHODS.items():
        assert callable(method(1000, distill.MIXTURE.denoiser).loss), name
    with pytest.raises(SystemExit, match=r"unknown methods \['GAN'\]; choose among PD, CD"):
        distill.main(distill.Config(("GAN",)))
    with pytest.raises(SystemExit, match="students of 1 and 2 steps need a teacher of 4 or more, got 2"):
        distill.main(distill.Config(("PD",), teacher_steps=2))


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

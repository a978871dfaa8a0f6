"""Power-function averages and their reconstruction, against sums over a known sequence in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.train import (
    Checkpoints,
    Snapshot,
    TrainState,
    adam,
    gamma_of_sigma_rel,
    power_ema,
    read_snapshots,
    reconstruct,
    train_step,
)
from diffjax.train.power_ema import inner, sigma_rel_of_gamma, solve_weights

TRACKED = (gamma_of_sigma_rel(0.05), gamma_of_sigma_rel(0.10))
N = 2048
WALK = 100 + np.cumsum(np.random.default_rng(0).normal(size=(N, 64)), axis=0)


def average(t, gamma, theta=WALK):
    """The profile (tau / t)^(gamma + 1), differenced, over theta(1) ... theta(t)."""
    return np.diff((np.arange(t + 1) / t) ** (gamma + 1)) @ theta[:t]


def snapshots(n):
    """n times of both tracked averages of the walk."""
    steps = [N * (i + 1) // n for i in range(n)]
    return [Snapshot(t, g, {"w": average(t, g)}) for t in steps for g in TRACKED]


@pytest.mark.parametrize(
    ("width", "gamma"), [(0.05, 16.9721986), (0.075, 10.2891164), (0.1, 6.9372039), (0.15, 3.5578688)]
)
def test_widths_and_exponents(width, gamma):
    assert gamma_of_sigma_rel(width) == pytest.approx(gamma, abs=5e-8)
    assert sigma_rel_of_gamma(gamma_of_sigma_rel(width)) == pytest.approx(width, rel=1e-12)
    # the width is the standard deviation of the profile on [0, 1]
    tau = (np.arange(100_000) + 0.5) / 100_000
    p = (gamma + 1) * tau**gamma / 100_000
    assert np.sqrt(p @ tau**2 - (p @ tau) ** 2) == pytest.approx(width, rel=1e-6)


def test_the_widest_profile_is_the_mean_and_wider_ones_are_refused():
    assert gamma_of_sigma_rel(12**-0.5) == pytest.approx(0, abs=1e-12)
    for width in (0.0, -0.1, 0.29, float("nan")):
        with pytest.raises(ValueError, match=r"sigma_rel must lie in \(0, 0.2887\]"):
            gamma_of_sigma_rel(width)


def test_inner_products_are_integrals():
    tau = (np.arange(400000) + 0.5) / 400000 * 50

    def p(t, g):
        return np.where(tau <= t, (g + 1) * tau**g / t ** (g + 1), 0)

    for (t, g), (s, h) in [((50, 17.0), (50, 7.0)), ((20, 17.0), (50, 7.0)), ((50, 17.0), (30, 7.0))]:
        assert inner(t, g, s, h) == pytest.approx((p(t, g) * p(s, h)).mean() * 50, rel=1e-4)


def test_the_decay_gives_the_profile_in_train_step(line, key):
    """Five averages of one run, each against the sum over its parameters."""
    gammas = [0.0, 1.0, *TRACKED]
    tx, decays = adam(0.1), [power_ema(g) for g in gammas]
    step = jax.jit(lambda s, b: train_step(line.loss, tx, decays, s, b)[0])
    state, theta = TrainState.create(key, line.params, tx, decays), []
    for n in range(30):
        state = step(state, line.batch(n))
        theta.append(np.asarray(state.params["w"], np.float64))
    for g, ema in zip(gammas, state.ema, strict=True):
        np.testing.assert_allclose(ema["w"], average(30, g, np.array(theta)), rtol=1e-5)


def test_the_decay_keeps_its_digits_late_in_training():
    n = np.array([1, 2, 10, 10**4, 10**6])
    for g in TRACKED:
        decay = np.asarray(jax.jit(power_ema(g))(jnp.asarray(n)), np.float64)
        assert decay[0] == 0
        # a float32 near 1 is rounded to 3e-8; what matters is 1 - decay
        np.testing.assert_allclose(1 - decay, 1 - (1 - 1 / n) ** (g + 1), rtol=1e-6, atol=6e-8)


@pytest.mark.parametrize("i", [0, 1, 2, 5])
def test_a_tracked_average_comes_back(i):
    stored = snapshots(8)
    target = stored[-1 - i]
    width = sigma_rel_of_gamma(target.gamma)
    w = solve_weights([s.step for s in stored], [s.gamma for s in stored], width, target.step)
    np.testing.assert_allclose(w, np.eye(16)[-1 - i], atol=1e-9)
    np.testing.assert_allclose(reconstruct(stored, width, target.step)["w"], target.params["w"], rtol=1e-9)


@pytest.mark.parametrize(
    ("width", "known"),
    [(0.075, [2e-2, 4e-3, 5e-4, 7e-5]), (0.15, [3e-2, 5e-3, 7e-4, 8e-5]), (0.03, [0.3, 8e-2, 2e-2, 3e-3])],
)
def test_untracked_averages_are_near_and_nearer_with_more_snapshots(width, known):
    """Against the average tracked exactly; the error is relative to its distance from the last parameters."""
    exact = average(N, gamma_of_sigma_rel(width))
    spread = np.linalg.norm(exact - WALK[-1])
    errors = []
    for n in (4, 8, 16, 32):
        stored = snapshots(n)
        w = solve_weights([s.step for s in stored], [s.gamma for s in stored], width, N)
        assert w.sum() == pytest.approx(1, abs=1e-12)
        errors.append(np.linalg.norm(reconstruct(stored, width)["w"] - exact) / spread)
    assert all(e < k for e, k in zip(errors, known, strict=True)), errors


def test_the_weights_are_the_nearest_profile_whose_sum_is_one():
    """Any other weights of sum 1 are farther, also where two snapshots are the same."""
    steps, gammas = np.repeat([64, 64, 96, 128], 2), np.tile(TRACKED, 4)
    tau = (np.arange(20000) + 0.5) / 20000
    profile = lambda t, g: np.where(tau <= t, (g + 1) / t * (tau / t) ** g, 0)  # noqa: E731
    p = np.array([profile(t / 128, g) for t, g in zip(steps, gammas, strict=True)])
    q, w = profile(1.0, gamma_of_sigma_rel(0.15)), solve_weights(steps, gammas, 0.15, 128)
    best, rng = ((w @ p - q) ** 2).mean(), np.random.default_rng(0)
    for _ in range(20):
        move = rng.normal(size=8)
        assert (((w + 0.05 * (move - move.mean())) @ p - q) ** 2).mean() > best


@pytest.mark.slow
def test_a_run_s_folder_gives_back_what_was_not_tracked(line, key, tmp_path):
    """Accumulation over 2 batches: profiles count updates. The third average is the truth, and is not read."""
    tx, gamma = adam(0.02, accumulate=2), gamma_of_sigma_rel(0.075)
    decays = (power_ema(TRACKED[0]), power_ema(TRACKED[1]), power_ema(gamma), 0.9)
    step = jax.jit(lambda s, b: train_step(line.loss, tx, decays, s, b)[0])
    state = TrainState.create(key, line.params, tx, decays)
    with Checkpoints(tmp_path, keep=1, keep_every=16) as saved:
        for n in range(128):
            state = step(state, line.batch(n))
            if int(state.step) % 16 == 0:
                saved.save(state)
        like = jax.eval_shape(lambda: state)
        stored = list(read_snapshots(saved, like, (*TRACKED, None, None)))
        with pytest.raises(ValueError, match="2 exponents, but the state holds 4 averages"):
            next(read_snapshots(saved, like, TRACKED))
    assert [(s.step, s.gamma) for s in stored] == [(t, g) for t in range(8, 65, 8) for g in TRACKED]
    rebuilt, moved = reconstruct(stored, 0.075), np.abs(state.ema[2]["w"] - state.params["w"]).max()
    assert rebuilt["w"].dtype == np.float32
    assert np.abs(rebuilt["w"] - state.ema[2]["w"]).max() < 0.03 * moved
    np.testing.assert_allclose(reconstruct(stored, 0.05)["w"], state.ema[0]["w"], rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "gammas", "step"), [([], [], 1), ([4, 8], [7.0], 8), ([4, 8], [7.0, 7.0], 9), ([0, 8], [7.0, 7.0], 8)]
)
def test_snapshots_that_cannot_be_meant(steps, gammas, step):
    with pytest.raises(ValueError, match=r"snapshot"):
        solve_weights(steps, gammas, 0.1, step)

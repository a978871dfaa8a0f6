"""A run in two halves is a run: distributions at times above t_min, and independent noise under one key."""

import itertools

import jax
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj

SDE, S2, MIDDLE, N = dj.VP(), 0.6, 0.5, 20_000


def posterior_mean(sde, x, t, cond=None):
    """E[x_0 | x_t] for data N(0, 0.6)."""
    alpha, sigma = dj.gaussian.curves(sde, t, x)
    return alpha * S2 * x / (alpha**2 * S2 + sigma**2)


DENOISE = Partial(posterior_mean, SDE)


def variance(t):
    return float(SDE.alpha(t) ** 2 * S2 + SDE.sigma(t) ** 2)


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(7), (N, 1))


SAMPLERS = {
    "EulerMaruyama": dj.EulerMaruyama(),
    "ReverseDiffusion": dj.ReverseDiffusion(),
    "Ancestral": dj.Ancestral(),
    "DDIM(1)": dj.DDIM(1.0),
    "DPMpp2S(1)": dj.DPMpp2S(1.0),
    "DPMpp2M(1)": dj.DPMpp2M(1.0),
    "DPMpp3M(1)": dj.DPMpp3M(1.0),
    "PC": dj.PC(dj.DDIM(1.0), dj.ULA(0.01)),
    "KeepNoise": dj.KeepNoise(dj.Ancestral()),
    "DDIM": dj.DDIM(),
    "UniPC": dj.UniPC(),
}


QUICK = ("Ancestral", "DPMpp2M(1)", "UniPC")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SAMPLERS])
def test_a_run_that_ends_above_t_min_has_the_distribution_of_x_there(name, x, key, optimised):
    """VP to t = .5: variance .968; 20,000 draws give it to .0097, and 4 sigma of it are allowed.

    Without the last step's noise it was .739 with 20 steps. The second half, with the same key, ends as the data.
    """
    steps = 500 if name in ("EulerMaruyama", "ReverseDiffusion") else 100  # for a bias below 1 %
    down, on = np.linspace(1, MIDDLE, steps + 1), np.linspace(MIDDLE, SDE.t_min, steps + 1)  # in one program
    path = dj.sample(key, DENOISE, SDE, SAMPLERS[name], down, x, trajectory=True)
    assert abs(float(path[-1].var()) - variance(MIDDLE)) < 4 * variance(MIDDLE) * np.sqrt(2 / N)
    out = dj.sample(key, DENOISE, SDE, SAMPLERS[name], on, path[-1], trajectory=True)[-1]
    bias = 0.01  # of 200 steps
    assert abs(float(out.var()) - variance(SDE.t_min)) < 4 * variance(SDE.t_min) * np.sqrt(2 / N) + bias


def test_the_noise_of_two_halves_with_one_key_is_independent(x, key):
    """One ancestral step each, exactly: x_s = A x + B z. Were z the same, A B and B would add up."""
    ts = (1.0, 0.6, MIDDLE)

    def coefficients(t, s):
        a, b = dj.gaussian.transition(SDE, t, s)
        v, alpha, sigma = variance(t), SDE.alpha(t), SDE.sigma(t)
        shrink = alpha * S2 / v
        mean = SDE.alpha(s) * shrink + a * SDE.sigma(s) ** 2 / sigma * (1 - alpha * shrink) / sigma
        return float(mean), float(SDE.sigma(s) * b / sigma)

    (A, B), (C, D) = (coefficients(*pair) for pair in itertools.pairwise(ts))
    independent = C**2 * (A**2 + B**2) + D**2
    half = dj.sample(key, DENOISE, SDE, dj.Ancestral(), np.array(ts[:2]), x)
    out = dj.sample(key, DENOISE, SDE, dj.Ancestral(), np.array(ts[1:]), half)
    sigma = independent * np.sqrt(2 / N)
    assert abs(float(out.var()) - independent) < 4 * sigma < 2 * B * C * D / 4


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_renoise_keeps_its_noise(x, key, eta):
    """Against its exact recursion; the mean alone has variance .005 at eta = 1."""
    ts, v = np.linspace(1, MIDDLE, 6), 1.0
    for t, s in itertools.pairwise(ts):
        shrink = float(SDE.alpha(t)) * S2 / variance(t)
        eps = (1 - float(SDE.alpha(t)) * shrink) / float(SDE.sigma(t))
        gain = float(SDE.alpha(s)) * shrink + float(SDE.sigma(s)) * np.sqrt(1 - eta**2) * eps
        v = gain**2 * v + (float(SDE.sigma(s)) * eta) ** 2
    out = dj.sample(key, DENOISE, SDE, dj.Renoise(eta), ts, x)
    assert abs(float(out.var()) - v) < 4 * v * np.sqrt(2 / N)


@pytest.mark.parametrize(
    "sampler",
    [
        dj.ULA(0.05),
        pytest.param(dj.Langevin(0.05, batch_mean=True), marks=pytest.mark.slow),
        pytest.param(dj.AnnealedLangevin(0.05, 1.0), marks=pytest.mark.slow),
    ],
    ids=lambda sampler: type(sampler).__name__,
)
def test_langevin_chains_go_on_where_they_stopped(sampler, x, key, optimised):
    """At MIDDLE, in two calls: the stationary variance, up to the bias of order h; 4 sigma."""
    v = variance(MIDDLE)
    first = dj.sample(key, DENOISE, SDE, sampler, np.full(101, MIDDLE), x)
    again = dj.sample(jax.random.key(1), DENOISE, SDE, sampler, np.full(101, MIDDLE), first)
    assert abs(float(again.var()) - v) < 4 * v * np.sqrt(2 / N) + 0.05


def test_complete_runs_and_traced_grids(key, x):
    """To t_min or below the mean is returned, above it x; the same in one program for all grids."""
    x = x[:50]
    run = jax.jit(lambda sampler, ts: dj.sample(key, DENOISE, SDE, sampler, ts, x))
    for end, noisy in ((5e-4, False), (1e-3, False), (2e-3, True)):
        ts = np.array([1.0, 0.3, end], np.float32)
        moved = np.abs(run(dj.Ancestral(), ts) - run(dj.KeepNoise(dj.Ancestral()), ts)).max()
        assert (moved < 1e-5) == noisy
        np.testing.assert_allclose(
            run(dj.Ancestral(), ts), dj.sample(key, DENOISE, SDE, dj.Ancestral(), ts, x), atol=1e-5
        )


def test_only_runs_that_start_below_T_fold_their_time_into_the_key(key, x):
    x = x[:50]
    keys = dj.arrays.example_keys(key, 50)

    def step(t, s, keys):
        sampler = dj.Ancestral()
        return sampler.step(dj.arrays.fold(keys, 0), DENOISE, SDE, sampler.init(x), t, s, None).x

    complete = dj.sample(key, DENOISE, SDE, dj.Ancestral(), np.float32([1.0, 0.7]), x)
    np.testing.assert_allclose(complete, step(1.0, 0.7, keys), atol=1e-5)
    for t in (0.7, 0.2):
        folded = dj.arrays.fold(keys, np.float32(t).view(np.uint32))
        late = dj.sample(key, DENOISE, SDE, dj.Ancestral(), np.float32([t, 0.1]), x)
        np.testing.assert_allclose(late, step(t, 0.1, folded), atol=1e-5)

"""Distributions of pairs of times: the papers' schedules and their known numbers."""

import itertools
import math

import jax
import numpy as np
import pytest

import diffjax as dj
from diffjax import times
from diffjax.train import levels_ema

N = 4000


@jax.jit
def run(pairs, key, step=None):
    keys = dj.arrays.example_keys(key, N if key.ndim == 0 else len(key))
    return pairs(keys, len(keys), step)


def test_consistency_trainings_schedule():
    """s0 2, s1 150, mu0 .9, K 800k: N(k), and the target's decay by the codes' rule (N - 1) and the paper's (N)."""
    k, levels = np.array([0, 1, 100_000, 400_000, 800_000, 900_000]), times.Rising()
    code, paper = levels_ema(levels), levels_ema(levels, paper=True)
    np.testing.assert_array_equal(levels(k), [2, 3, 54, 107, 151, 151])
    # a decay is asked for the number of updates made with this one
    np.testing.assert_allclose(code(k + 1), [0.81, 0.9, 0.99603202, 0.99801404, 0.99859618, 0.99859618], rtol=2e-7)
    np.testing.assert_allclose(
        paper(k + 1), [0.9, 0.93216975, 0.99610536, 0.99803258, 0.99860547, 0.99860547], rtol=2e-7
    )


def test_improved_trainings_schedule():
    """The levels double every 50,000 of 400,000 steps."""
    k = np.arange(8) * 50_000
    np.testing.assert_array_equal(times.Doubling()(k), [11, 21, 41, 81, 161, 321, 641, 1281])
    np.testing.assert_array_equal(times.Doubling()(np.append(k[1:] - 1, 10**6)), [11, 21, 41, 81, 161, 321, 641, 1281])


def test_the_log_normal_over_a_grid_by_differences_of_erf():
    """At N = 11: the intervals of quantiles u, with no sampling at all, against erf in NumPy; and the known numbers."""
    pairs = times.KarrasNeighbours(dj.EDM(), times.Doubling(), (-1.1, 2.0))
    u = (np.arange(200_000) + 0.5) / 200_000
    counts = np.bincount(np.asarray(jax.jit(pairs.interval)(u, 11.0)).astype(int), minlength=10) / len(u)
    r = (0.002 ** (1 / 7) + np.arange(11) / 10 * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7
    p = np.diff([math.erf((math.log(c) + 1.1) / (math.sqrt(2) * 2.0)) for c in r])
    np.testing.assert_allclose(counts, p / p.sum(), atol=2e-5)
    known = [0.06263299, 0.18173698, 0.24550142, 0.21349445, 0.14244606, 0.08060462, 0.04107991, 0.01958009]
    np.testing.assert_allclose(counts, [*known, 0.00894387, 0.00397961], atol=2e-5)


@pytest.mark.parametrize("sde", [dj.EDM(), dj.VP()], ids=lambda sde: type(sde).__name__)
def test_neighbours_of_a_growing_grid(sde, key):
    """Both ends are exact, all intervals are equally likely (4 sigma), and those of karras(sde, N - 1)."""
    pairs = times.KarrasNeighbours(sde, times.Rising(2.0, 150.0, 800_000.0))
    for k, levels in ((0, 2), (1, 3), (2000, 8)):
        t, s = (np.asarray(c) for c in run(pairs, key, k))
        grid = np.asarray(times.karras(sde, levels - 1, to_zero=False))
        i = np.abs(t[:, None] - grid).argmin(1)
        np.testing.assert_allclose(t, grid[i], rtol=2e-4)
        np.testing.assert_allclose(s, grid[i + 1], rtol=2e-4)
        assert t.max() == np.float32(sde.T) and s.min() == np.float32(sde.t_min)
        share = np.bincount(i, minlength=levels - 1) / N
        p = 1 / (levels - 1)
        assert np.abs(share - p).max() <= 4 * np.sqrt(p * (1 - p) / N)


def test_tightening_pairs(key):
    """r = t (1 - 2^-(stage + 1) (1 + 8 sigmoid(-t))), not below 0 (Geng et al. 2025)."""
    pairs = times.Tightening(dj.EDM(), times.LogNormal(dj.EDM(), -1.1, 2.0), every=10)
    for step, stage in ((0, 0), (9, 0), (10, 1), (55, 5)):
        t, s = (np.asarray(c, np.float64) for c in run(pairs, key, step))
        share = 1 - 2.0 ** -(stage + 1) * (1 + 8 / (1 + np.exp(t)))
        np.testing.assert_allclose(s, t * np.maximum(share, 0), rtol=1e-4, atol=1e-7)
        assert (s <= t).all() and (s < t).mean() > 0.99
        assert (s == 0).any() == (stage < 2)


def test_pairs_without_a_schedule(key):
    ts = np.array([1.0, 0.7, 0.2, 0.0], np.float32)
    t, s = (np.asarray(c) for c in run(times.Neighbours(ts), key))
    assert {(a, b) for a, b in zip(t, s, strict=True)} == set(itertools.pairwise(ts))

    t, s = (np.asarray(c) for c in run(times.Sorted(times.Uniform(), 0.75), key))
    assert (s <= t).all() and abs((s == t).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / N)

    t, s = (np.asarray(c) for c in run(times.Dyadic(16.0), key))
    assert set(np.unique(t - s)) == {1.0, 0.5, 0.25, 0.125}  # halves are 1/16 or longer
    np.testing.assert_array_equal((t / (t - s)) % 1, 0)
    assert t.max() == 1 and s.min() == 0 and abs((t - s == 1).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / N)

    ts = np.linspace(1, 0, 7, dtype=np.float32)
    t, u, s = (np.rint(6 - 6 * np.asarray(c)).astype(int) for c in run(times.Stops(ts, 2), key))
    seen = set(zip(t, u, s, strict=True))
    assert seen == {(i, j, k) for i in range(6) for j in range(i + 1, min(i + 2, 6) + 1) for k in range(j, 7)}


def test_each_example_draws_by_its_own_key(key):
    keys = dj.arrays.example_keys(key, 6)
    for pairs in (times.Sorted(times.Uniform(), 0.5), times.Dyadic(), times.Stops(np.linspace(1, 0, 9))):
        whole, part = run(pairs, keys), run(pairs, keys[2:4])
        np.testing.assert_array_equal(np.stack(whole)[:, 2:4], np.stack(part))


def test_distributions_without_a_step_to_take():
    for n in (1.0, 96.0, np.nan):
        with pytest.raises(ValueError, match="power of two, 2 or more"):
            times.Dyadic(n)
    with pytest.raises(ValueError, match=r"most must be .* got 0: the teacher takes one step or more"):
        times.Stops(np.array([1.0, 0.0]), 0)
    for pairs in (times.Doubling, times.Rising):
        for s0, s1, K in ((80.0, 10.0, 100.0), (0.0, 1.0, 100.0), (2.0, 4.0, 0.0)):
            with pytest.raises(ValueError, match="1 <= s0 <= s1 and K > 0, got"):
                pairs(s0, s1, K)
    with pytest.raises(ValueError, match=r"every must be .* got 0"):
        times.Tightening(dj.EDM(), times.LogNormal(dj.EDM()), 0)
    with pytest.raises(ValueError, match=r"same must be .* got 75"):
        times.Sorted(times.Uniform(), 75)
    levels = times.Doubling(10.0, 80.0, 3.0)  # fewer training steps than stages: it doubles at each
    np.testing.assert_array_equal([levels(k) for k in range(4)], [11, 21, 41, 81])


def test_a_schedule_needs_the_step(key):
    for pairs in (
        times.KarrasNeighbours(dj.EDM(), times.Rising()),
        times.Tightening(dj.EDM(), times.LogNormal(dj.EDM()), 10),
    ):
        with pytest.raises(ValueError, match="needs the training step"):
            pairs(key, 2, None)

"""Grids against published nodes, laws against their distributions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times

EDM_18 = """80 57.585985 40.785574 28.374585 19.352453 12.910082 8.4009353 5.3151945 3.2568215 1.9233398 1.0881706
.58534812 .29644228 .13951647 .05994731 .02293452 .00752802 .002"""


def test_karras_grid_of_edm(x64):
    ts = times.karras(dj.EDM(), 18)
    np.testing.assert_allclose(ts[:-1], np.array(EDM_18.split(), float), rtol=2e-6)
    np.testing.assert_allclose(ts.sum(), 260.106857, rtol=4e-9)
    assert ts[-1] == 0 and ts.shape == (19,)
    assert times.karras(dj.EDM(), 1).tolist() == [80.0, 0.0]


def test_karras_levels_on_another_sde_are_those_of_its_sigma_over_alpha(x64):
    sde = dj.VP()
    ts = times.karras(sde, 6, to_zero=False)
    level = (sde.sigma(ts) / sde.alpha(ts)) ** (1 / 7)
    np.testing.assert_allclose(jnp.diff(level), jnp.full(6, (level[-1] - level[0]) / 6), rtol=1e-8)
    assert (ts[0], ts[-1]) == (1.0, 1e-3)


@pytest.mark.parametrize("sde", [dj.EDM(T=50.0, t_min=0.01), dj.VP(), dj.SubVP()], ids=lambda sde: type(sde).__name__)
def test_geometric_levels_then_0(x64, sde):
    ts = times.geometric(sde, 232)
    assert ts.shape == (233,) and (ts[0], ts[-2], ts[-1]) == (sde.T, sde.t_min, 0)
    levels = np.asarray(sde.sigma(ts) / sde.alpha(ts))[:-1]
    np.testing.assert_allclose(levels[:-1] / levels[1:], (levels[0] / levels[-1]) ** (1 / 231), rtol=1e-8)
    if isinstance(sde, dj.EDM):  # NCSNv2's 232 levels for CIFAR-10
        np.testing.assert_allclose(levels[0] / levels[1], 1.0375591, rtol=1e-7)
    assert times.geometric(sde, 1).tolist() == [sde.T, 0]
    assert times.geometric(dj.Flow(), 3, t_max=0.9, t_min=0.1)[0] == 0.9


def test_simple_grids():
    sde = dj.VP()
    np.testing.assert_allclose(times.uniform(sde, 4, 0.0), [1, 0.75, 0.5, 0.25, 0])
    np.testing.assert_allclose(times.quadratic(sde, 4, 0.0), [1, 0.5625, 0.25, 0.0625, 0], atol=1e-7)
    assert float(times.uniform(sde, 3)[-1]) == pytest.approx(sde.t_min)
    ts = times.uniform_logsnr(dj.Flow(), 5, t_max=0.9, t_min=0.1)
    np.testing.assert_allclose(np.diff(np.log((1 - ts) / ts)), np.full(5, np.log(81) / 5), rtol=1e-5)


@pytest.mark.parametrize("sde", [dj.VP(), dj.Cosine(), dj.Flow()], ids=lambda sde: type(sde).__name__)
def test_equal_angles(x64, sde):
    ts = times.uniform_angle(sde, 8)
    assert (ts[0], ts[-1], len(ts)) == (sde.T, 0, 9)
    angles = np.arctan2(sde.sigma(ts), sde.alpha(ts))
    np.testing.assert_allclose(np.diff(angles), np.full(8, -angles[0] / 8), rtol=1e-7)
    assert times.uniform_angle(sde, 1).tolist() == [sde.T, 0]
    if isinstance(sde, dj.Cosine):
        np.testing.assert_allclose(ts, times.uniform(sde, 8, 0.0), atol=1e-9)


@pytest.mark.parametrize(("n", "j", "r"), [(250, 10, 10), (20, 1, 3), (20, 3, 2), (7, 6, 4), (5, 2, 1)])
def test_repaint_nodes_are_those_of_the_papers_schedule(n, j, r):
    """Its bookkeeping: at every j-th of the labels n - 1, ..., 0 and -1 (clean) there are r - 1 jumps to be spent."""
    jumps, label, labels = dict.fromkeys(range(0, n - j, j), r - 1), n - 1, [n - 1]
    while label >= 0:
        label -= 1
        labels.append(label)
        if jumps.get(label, 0) > 0:
            jumps[label] -= 1
            labels += range(label + 1, label + j + 1)
            label += j
    grid = times.uniform(dj.VP(), n)
    ts = times.repaint(grid, j, r)
    np.testing.assert_array_equal(ts, grid[n - 1 - np.array(labels)])
    down = int((jnp.diff(ts) < 0).sum())
    assert down == n + (r - 1) * j * len(jumps) and (n != 250 or down == 2410)


def test_repaint_in_a_window_under_jit_and_its_errors():
    grid = times.uniform(dj.VP(), 10, 0.0)
    ts = times.repaint(grid, 2, 3, window=(0.45, 0.75))
    up = np.asarray(ts[1:])[np.diff(ts) > 0]
    np.testing.assert_allclose(up, [0.6, 0.7, 0.6, 0.7, 0.4, 0.5, 0.4, 0.5], atol=1e-6)
    np.testing.assert_array_equal(jax.jit(lambda ts: times.repaint(ts, 2, 3))(grid), times.repaint(grid, 2, 3))
    with pytest.raises(ValueError, match="a jump length j and a number of times r of at least 1, got 0 and 3"):
        times.repaint(grid, 0, 3)
    with pytest.raises(ValueError, match="of at least 1, got 2 and 0"):
        times.repaint(grid, 2, 0)
    with pytest.raises(ValueError, match="a grid of 10 steps is too short for jumps of 10"):
        times.repaint(grid)


def test_integer_grids_of_a_table():
    sde = dj.BetaTable.linear(1000)
    assert times.trailing(sde, 4).tolist() == [1000, 750, 500, 250, 0]
    assert times.trailing(sde, 1000).tolist() == list(range(1000, -1, -1))
    assert times.leading(sde, 10).tolist() == [*range(901, 0, -100), 0]  # labels 900, 800, ..., 0
    quadratic = times.leading_quadratic(sde, 10)
    assert quadratic.tolist() == [800 + 1, *[int((k / 9) ** 2 * 800 + 1e-6) + 1 for k in range(8, -1, -1)], 0]


@pytest.mark.parametrize("grid", [times.uniform, times.quadratic, times.karras, times.uniform_logsnr, times.geometric])
def test_no_steps(grid):
    with pytest.raises(ValueError, match="at least 1 step"):
        grid(dj.VP(), 0)
    with pytest.raises(ValueError, match="1 to 100 steps"):
        times.trailing(dj.BetaTable.linear(100), 101)


@pytest.mark.parametrize(
    ("sde", "t_min", "z"),
    [(dj.VP(), 1e-5, 23.86447237), (dj.VP(), 1e-3, 19.16538668), (dj.SubVP(), 1e-5, 37.67894573)],
)
def test_importance_sampling(x64, sde, t_min, z):
    law = times.UniformLogSNR(sde, t_min)
    np.testing.assert_allclose(law.z(), z, rtol=1e-9)
    # the drawn t has the closed-form cdf u: log((e^B - 1)/(e^B0 - 1)) for VP, of 2 log(e^B - 1) - B for sub-VP
    t = law(jax.random.key(1), 200)
    B = lambda t: 0.1 * t + 9.95 * t**2  # noqa: E731
    cumulative = (
        (lambda t: jnp.log(jnp.expm1(B(t))))
        if isinstance(sde, dj.VP)
        else (lambda t: 2 * jnp.log(jnp.expm1(B(t))) - B(t))
    )
    u = jax.vmap(jax.random.uniform)(dj.arrays.example_keys(jax.random.key(1), 200))
    np.testing.assert_allclose(
        (cumulative(t) - cumulative(t_min)) / (cumulative(1.0) - cumulative(t_min)), u, atol=1e-10
    )


@pytest.mark.parametrize("law", [times.Uniform(0.1, 0.7), times.LowDiscrepancy(0.1, 0.7)])
def test_uniform_laws(key, law):
    t = np.sort(law(key, 2000))
    assert t[0] >= 0.1 and t[-1] <= 0.7
    # Kolmogorov-Smirnov distance; P(> 2.2/sqrt(n)) is 1e-4 for independent draws, and far less for the spaced ones
    assert np.abs((t - 0.1) / 0.6 - np.arange(2000) / 2000).max() < 2.2 / np.sqrt(2000)


def test_fixed_and_discrete_laws(key):
    np.testing.assert_array_equal(times.Fixed(0.3)(key, 4), np.full(4, 0.3, np.float32))
    levels, n = np.array([0.1, 0.5, 2.0], np.float32), 9000
    t = np.asarray(times.OneOf(jnp.asarray(levels))(key, n))
    counts = (t[:, None] == levels).sum(0)
    assert counts.sum() == n and np.all(abs(counts / n - 1 / 3) < 4 * np.sqrt(2 / 9 / n))  # 4 sigma


def test_low_discrepancy_spaces_the_batch_evenly(key):
    t = np.sort(times.LowDiscrepancy(0.0, 1.0)(key, 16))
    np.testing.assert_allclose(np.diff(t), 1 / 16, rtol=1e-4)


def test_log_normal(key):
    t = times.LogNormal(dj.EDM())(key, 4000)
    z = (np.log(t) + 1.2) / 1.2
    assert abs(z.mean()) < 4 / np.sqrt(4000) and abs(z.std() - 1) < 4 / np.sqrt(8000)


def test_logit_normal(key):
    t = times.LogitNormal(-0.4, 1.3)(key, 4000)
    z = (np.log(t) - np.log1p(-t) + 0.4) / 1.3
    assert abs(z.mean()) < 4 / np.sqrt(4000) and abs(z.std() - 1) < 4 / np.sqrt(8000)
    narrow = times.LogitNormal(0.0, 100.0, 0.2, 0.7)(key, 100)  # nearly all at the ends, which it never leaves
    assert 0.2 <= narrow.min() < 0.21 and 0.69 < narrow.max() <= 0.7


def test_a_law_with_keys_draws_each_example_from_its_own(key):
    keys = jax.random.split(key, 8)
    for law in (
        times.Uniform(),
        times.UniformLogSNR(dj.VP()),
        times.LogNormal(dj.EDM()),
        times.LogitNormal(),
        times.OneOf(jnp.arange(9.0)),
    ):
        np.testing.assert_array_equal(law(keys, 8)[3:5], law(keys[3:5], 2))


def test_integers(key):
    """All of 1, ..., n, equally often: chi^2 of 9 degrees, whose 4 sigma bound is 9 + 4 sqrt(18)."""
    t = np.asarray(times.Integers(10.0)(key, 5000))
    values, counts = np.unique(t, return_counts=True)
    assert values.tolist() == list(range(1, 11))
    assert ((counts - 500) ** 2 / 500).sum() < 9 + 4 * np.sqrt(18)


def test_loss_second_moment_keeps_the_last_losses_of_each_time(key):
    """Batches with repeated times, against a list of each time's losses; uniform until every list is full."""
    T, H, u = 5, 3, 0.01
    rng, law = np.random.default_rng(0), times.LossSecondMoment.create(T, H, u)
    update, seen, full = jax.jit(lambda law, t, loss: law.update(t, loss)), [[] for _ in range(T)], []
    for _ in range(12):
        t, loss = rng.integers(1, T + 1, 8), rng.exponential(size=8)
        law = update(law, jnp.asarray(t, jnp.float32), jnp.asarray(loss))
        for i, value in zip(t, loss, strict=True):
            seen[i - 1].append(value)
        full.append(min(map(len, seen)) >= H)
        np.testing.assert_array_equal(law.count, [len(s) for s in seen])
        root = np.array([np.sqrt(np.mean(np.square(s[-H:]))) if s else 0 for s in seen])
        expected = (1 - u) * root / root.sum() + u / T if full[-1] else np.full(T, 1 / T)
        np.testing.assert_allclose(law.probabilities(), expected, rtol=1e-5)
    assert True in full and False in full
    t = law(key, 20000)
    np.testing.assert_allclose(law.weight(jnp.arange(1.0, T + 1)), 1 / (T * expected), rtol=1e-5)
    counts = np.bincount(np.asarray(t, int), minlength=T + 1)[1:]
    assert np.all(np.abs(counts / 20000 - expected) < 4 * np.sqrt(expected * (1 - expected) / 20000))
    # so weighted, a mean over the law is the mean over uniform times
    assert abs(float((law.weight(t) * t).mean()) - 3) < 4 * float((law.weight(t) * t).std()) / np.sqrt(20000)

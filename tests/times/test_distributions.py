"""Time distributions against their distribution functions, and fitted to the SDE of a loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times


@pytest.mark.parametrize(
    ("sde", "t_min", "z"),
    [(dj.VP(), 1e-5, 23.86447237), (dj.VP(), 1e-3, 19.16538668), (dj.SubVP(), 1e-5, 37.67894573)],
)
def test_importance_sampling(x64, sde, t_min, z):
    distribution = times.UniformLogSNR(sde, t_min)
    np.testing.assert_allclose(distribution.z(), z, rtol=1e-9)
    # the drawn t has the closed-form cdf u: log((e^B - 1)/(e^B0 - 1)) for VP, of 2 log(e^B - 1) - B for sub-VP
    t = distribution(jax.random.key(1), 200)
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


@pytest.mark.parametrize("distribution", [times.Uniform(0.1, 0.7), times.LowDiscrepancy(0.1, 0.7)])
def test_uniform_distributions(key, distribution):
    t = np.sort(distribution(key, 2000))
    assert t[0] >= 0.1 and t[-1] <= 0.7
    # Kolmogorov-Smirnov distance; P(> 2.2/sqrt(n)) is 1e-4 for independent draws, and far less for the spaced ones
    assert np.abs((t - 0.1) / 0.6 - np.arange(2000) / 2000).max() < 2.2 / np.sqrt(2000)


def test_fixed_and_discrete_distributions(key):
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


def test_a_distribution_with_keys_draws_each_example_from_its_own(key):
    distributions = (
        times.Uniform(),
        times.UniformLogSNR(dj.VP()),
        times.LogNormal(dj.EDM()),
        times.LogitNormal(),
        times.OneOf(jnp.arange(9.0)),
    )
    keys, draw = jax.random.split(key, 8), jax.jit(lambda keys: [d(keys, len(keys)) for d in distributions])
    for whole, part in zip(draw(keys), draw(keys[3:5]), strict=True):
        np.testing.assert_array_equal(whole[3:5], part)


def test_integers(key):
    """All of 1, ..., n, equally often: chi^2 of 9 degrees, whose 4 sigma bound is 9 + 4 sqrt(18)."""
    t = np.asarray(times.Integers(10.0)(key, 5000))
    values, counts = np.unique(t, return_counts=True)
    assert values.tolist() == list(range(1, 11))
    assert ((counts - 500) ** 2 / 500).sum() < 9 + 4 * np.sqrt(18)


def test_loss_second_moment_keeps_the_last_losses_of_each_time(key):
    """Batches with repeated times, against a list of each time's losses; uniform until every list is full."""
    T, H, u = 5, 3, 0.01
    rng, distribution = np.random.default_rng(0), times.LossSecondMoment.create(T, H, u)
    seen, full = [[] for _ in range(T)], []

    @jax.jit
    def update(distribution, t, loss):
        distribution = distribution.update(t, loss)
        return distribution, distribution.probabilities()

    for _ in range(12):
        t, loss = rng.integers(1, T + 1, 8), rng.exponential(size=8)
        distribution, probabilities = update(distribution, t.astype(np.float32), loss)
        for i, value in zip(t, loss, strict=True):
            seen[i - 1].append(value)
        full.append(min(map(len, seen)) >= H)
        np.testing.assert_array_equal(distribution.count, [len(s) for s in seen])
        root = np.array([np.sqrt(np.mean(np.square(s[-H:]))) if s else 0 for s in seen])
        expected = (1 - u) * root / root.sum() + u / T if full[-1] else np.full(T, 1 / T)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-5)
    assert True in full and False in full
    t = np.asarray(jax.jit(lambda distribution: distribution(key, 20000))(distribution))
    weight = np.asarray(
        jax.jit(lambda distribution, t: distribution.weight(t))(distribution, np.append(t, 1 + np.arange(T)))
    )
    np.testing.assert_allclose(weight[-T:], 1 / (T * expected), rtol=1e-5)
    counts = np.bincount(t.astype(int), minlength=T + 1)[1:]
    assert np.all(np.abs(counts / 20000 - expected) < 4 * np.sqrt(expected * (1 - expected) / 20000))
    # so weighted, a mean over the distribution is the mean over uniform times
    weighted = weight[:-T] * t
    assert abs(weighted.mean() - 3) < 4 * weighted.std() / np.sqrt(20000)


OPEN = [times.Uniform(), times.LowDiscrepancy(), times.LogitNormal(0.0, 2.0), times.Sorted(times.Uniform())]


@pytest.mark.parametrize("sde", [dj.EDM(), dj.BetaTable.linear(100), dj.VP(T=2.0), dj.Flow()], ids=lambda s: str(s.T))
def test_open_ends_are_those_of_the_sde_of_the_loss(key, sde):
    distributions = (*OPEN, times.UniformLogSNR(sde), times.LogNormal(sde, 3.0, 5.0), times.Dyadic(8.0))

    def draw(sde):
        return [times.draw(d, sde, key, 64, count=d.per_example) for d in distributions]

    drawn = jax.jit(lambda: draw(sde))()
    for distribution, times_of in zip(distributions, drawn, strict=True):
        t = times_of if distribution.per_example == 1 else times_of[0]
        assert t.shape == (64,) and 0.5 * sde.T < float(t.max()) <= sde.T and float(t.min()) >= 0
    if sde.T == 80:
        jax.tree.map(lambda t, again: np.testing.assert_allclose(t, again, rtol=2e-4), drawn, jax.jit(draw)(sde))
    assert float(times.Uniform()(key, 64).max()) <= 1  # without an SDE, T = 1
    ints = times.draw(times.Integers(), dj.BetaTable.linear(50), key, 500)
    assert sorted({*map(int, ints)}) == list(range(1, 51))


@pytest.mark.parametrize(
    ("distribution", "error", "message"),
    [
        (times.Uniform(t_max=5.0), ValueError, r"lie in \[0, T = 1.0\], got 5.0"),
        (times.Fixed(3.0), ValueError, "lie in"),
        (times.OneOf([0.5, 2.0]), ValueError, "lie in"),
        (times.Integers(1000), ValueError, "lie in"),
        (times.Integers(), ValueError, "times of a BetaTable"),
        (times.LossSecondMoment.create(10), ValueError, "lie in"),
        (times.LogNormal(dj.EDM()), ValueError, "of another SDE"),
        (times.UniformLogSNR(dj.VP(beta_max=10.0)), ValueError, "of another SDE"),
        (times.Sorted(times.Uniform()), ValueError, "single times t, got one of pairs"),
        (lambda key, n: jnp.full(n, 7.0), ValueError, "lie in"),
        (lambda key, n: jnp.full((n, 1), 0.5), ValueError, "of shape"),
        (times.Uniform, TypeError, r"did you mean Uniform\(\)"),
        (None, TypeError, "expected a time distribution"),
    ],
)
def test_a_distribution_of_other_times_is_refused(key, distribution, error, message):
    with pytest.raises(error, match=message):
        times.draw(distribution, dj.VP(), key, 4)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: times.Uniform(1.0, 0.1), ValueError),
        (lambda: times.Uniform(-1.0), ValueError),
        (lambda: times.LogitNormal(std=-1.0), ValueError),
        (lambda: times.LogNormal(dj.EDM), TypeError),
        (lambda: times.LogNormal(dj.EDM(), "0"), TypeError),
        (lambda: times.OneOf([]), ValueError),
        (lambda: times.Integers(0), ValueError),
        (lambda: times.LossSecondMoment.create(0), ValueError),
        (lambda: times.Neighbours([0.0, 1.0]), ValueError),
        (lambda: times.draw(times.Sorted(times.Fixed(3.0)), dj.VP(), jax.random.key(0), 4, count=2), ValueError),
        (lambda: times.draw(times.Uniform(), dj.VP(), jax.random.key(0), 4, count=2), ValueError),
    ],
)
def test_impossible_distributions_are_refused_when_made(make, error):
    with pytest.raises(error):
        make()


def test_a_batch_cut_in_two_has_the_times_of_the_whole(key):
    """With a `Place`, as devices that share a batch have it; and two combs in pairs are at no common distance."""
    keys, sde = dj.arrays.example_keys(key, 8), dj.Flow()
    for distribution in (times.LowDiscrepancy(), times.Sorted(times.LowDiscrepancy(), 0.3)):

        @jax.jit
        def part(first, keys, d=distribution):
            place = times.Place(key, first, 8)
            return jnp.asarray(times.draw(d, sde, keys, len(keys), count=d.per_example, place=place))

        halves = part(0, keys[:4]), part(4, keys[4:])
        np.testing.assert_allclose(np.concatenate(halves, axis=-1), part(0, keys), rtol=1e-6)
    t, s = np.asarray(jax.jit(lambda key: times.Sorted(times.LowDiscrepancy(0.0, 1.0))(key, 64))(key))
    comb = np.sort(np.concatenate([t, s]) * 64 % 1)
    assert len(np.unique(comb.round(3))) <= 4  # both are combs
    assert len(np.unique((t - s).round(3))) > 32

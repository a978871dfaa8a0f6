import jax
import numpy as np
import pytest
from scipy.stats import norm

from diffjax.metrics import sliced_wasserstein
from diffjax.metrics.sliced_wasserstein import compare_slices, couple

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def test_on_the_line_it_is_the_distance_of_sorted_samples():
    x, y = RNG.normal(size=(50, 1)).astype(np.float32), RNG.exponential(size=(50, 1)).astype(np.float32)
    expected = np.sqrt(np.mean((np.sort(x[:, 0]) - np.sort(y[:, 0])) ** 2))
    np.testing.assert_allclose(sliced_wasserstein(KEY, x, y, 4), expected, rtol=1e-5)


def test_gaussians_on_the_line():
    # quantiles of N(m, s^2): W_2^2 = (m - m')^2 + (s - s')^2
    q = norm.ppf((np.arange(20_000) + 0.5) / 20_000)[:, None]
    distance = sliced_wasserstein(KEY, q, 3 * q + 1.5, 2)
    np.testing.assert_allclose(distance, np.sqrt(1.5**2 + 2**2), rtol=1e-3)  # 1e-3: the tails beyond the last quantile


@pytest.mark.parametrize(("n", "m"), [(3, 7), (6, 4), (5, 10), (8, 8), (1, 5)])
def test_unequal_sizes_compare_quantile_functions(n, m):
    x, y = RNG.normal(size=(n, 1)).astype(np.float32), RNG.normal(size=(m, 1)).astype(np.float32)
    repeated = np.repeat(np.sort(x[:, 0]), m), np.repeat(np.sort(y[:, 0]), n)  # n m copies of equal mass on both sides
    expected = np.sqrt(np.mean((repeated[0] - repeated[1]) ** 2))
    np.testing.assert_allclose(sliced_wasserstein(KEY, x, y, 2), expected, rtol=1e-5)
    i, j, mass = couple(n, m)
    np.testing.assert_allclose(np.bincount(i, mass), np.full(n, 1 / n), rtol=1e-6)
    np.testing.assert_allclose(np.bincount(j, mass), np.full(m, 1 / m), rtol=1e-6)


def test_a_shift_in_many_dimensions():
    x = RNG.normal(size=(64, 20)).astype(np.float32)
    shift = RNG.normal(size=20).astype(np.float32)
    n = 4000
    squared = float(sliced_wasserstein(KEY, x, x + shift, n)) ** 2
    m2 = float(shift @ shift)  # (u . m)^2 has the mean m^2 / D and the variance 2 m^4 (D - 1) / (D^2 (D + 2))
    assert abs(squared - m2 / 20) < 4 * np.sqrt(2 * m2**2 * 19 / (20**2 * 22) / n)  # 4 sigma


def test_agrees_with_pot():
    ot = pytest.importorskip("ot")
    x, y = RNG.normal(size=(40, 3)).astype(np.float32), RNG.normal(size=(25, 3)).astype(np.float32) + 0.5
    u = np.asarray(jax.random.normal(KEY, (3, 16)))
    u = u / np.linalg.norm(u, axis=0)
    for other in (y, np.concatenate([y, y[:15]])):
        expected = ot.sliced_wasserstein_distance(x, other, projections=u, p=2)
        np.testing.assert_allclose(sliced_wasserstein(KEY, x, other, 16), expected, rtol=1e-5)


def test_one_trace_zero_and_nan():
    x, y = RNG.normal(size=(33, 2)), RNG.normal(size=(33, 2))
    before = compare_slices._cache_size()
    first, second = sliced_wasserstein(KEY, x, y), sliced_wasserstein(jax.random.key(1), y, x)
    assert compare_slices._cache_size() == before + 1
    assert first != second
    assert sliced_wasserstein(KEY, x, x[::-1]) == 0
    y[0, 0] = np.nan
    assert np.isnan(jax.jit(lambda x, y: sliced_wasserstein(KEY, x, y))(x, y))  # traced values are not looked at


def test_bad_shapes():
    for x, y in (((3, 2), (3, 3)), ((3,), (3, 1)), ((0, 2), (3, 2)), ((3, 2), (0, 2))):
        with pytest.raises(ValueError, match=r"expected samples \[N, D\] and \[M, D\]"):
            sliced_wasserstein(KEY, np.zeros(x), np.zeros(y))

import numpy as np
import pytest
import scipy.linalg

from diffjax.metrics import frechet_distance, moments

RNG = np.random.default_rng(0)


def covariance(d):
    a = RNG.normal(size=(d, 2 * d))
    return a @ a.T / d


@pytest.mark.parametrize("d", [1, 3, 32])
def test_agrees_with_a_general_matrix_root(d):
    m1, m2, s1, s2 = RNG.normal(size=d), RNG.normal(size=d), covariance(d), covariance(d)
    expected = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * np.real(scipy.linalg.sqrtm(s1 @ s2)))
    np.testing.assert_allclose(frechet_distance((m1, s1), (m2, s2)), expected, rtol=1e-10)


def test_known_gaussians():
    eye = np.eye(4)
    # equal covariances: the squared distance of the means
    np.testing.assert_allclose(frechet_distance((np.zeros(4), eye), (np.full(4, 0.5), eye)), 1.0, rtol=1e-12)
    # commuting covariances: the sum of (s1 - s2)^2 over the axes, also where some are zero
    s1, s2 = np.array([1.0, 2.0, 0.0, 3.0]), np.array([2.0, 2.0, 1.0, 0.0])
    a, b = (np.zeros(4), np.diag(s1**2)), (np.zeros(4), np.diag(s2**2))
    np.testing.assert_allclose(frechet_distance(a, b), 1 + 0 + 1 + 9, rtol=1e-12)
    # turning both sets leaves the distance as it is
    q, _ = np.linalg.qr(RNG.normal(size=(4, 4)))
    turned = [(q @ m, q @ s @ q.T) for m, s in (a, b)]
    np.testing.assert_allclose(frechet_distance(*turned), 11, rtol=1e-7)  # zero variances: root(rounding)


def test_moments_of_features():
    x = RNG.normal(size=(50, 3)).astype(np.float32)
    mean, cov = moments(x)
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(0))
    np.testing.assert_allclose(cov, np.cov(x.astype(np.float64).T))
    y = RNG.normal(size=(40, 3))
    assert (
        frechet_distance(x, y) == frechet_distance(moments(x), y) == frechet_distance(x.astype(np.float64), moments(y))
    )


def test_zero_only_for_equal_sets_and_symmetric():
    x, y = RNG.normal(size=(200, 8)), RNG.normal(size=(300, 8))
    assert 0 <= frechet_distance(x, x) < 1e-12
    assert frechet_distance(x, y) > 0.05
    np.testing.assert_allclose(frechet_distance(x, y), frechet_distance(y, x), rtol=1e-10)


def test_bias_falls_as_one_over_n():
    # Two samples of N(0, I_d): on average the means contribute 2 d / n, the covariances d (d + 1) / (2 n) + O(n^-2).
    d, n, repeats = 4, 400, 60
    values = [frechet_distance(RNG.normal(size=(n, d)), RNG.normal(size=(n, d))) for _ in range(repeats)]
    stderr = np.std(values, ddof=1) / np.sqrt(repeats)
    assert abs(np.mean(values) - (2 * d + d * (d + 1) / 2) / n) < 4 * stderr + 1e-3 * d / n  # 4 sigma, and O(n^-2)


def test_bad_input():
    good, nan = RNG.normal(size=(9, 3)), RNG.normal(size=(9, 3))
    nan[4, 1] = np.nan
    eye = np.eye(3)
    cases = [
        (good[:3], good, "3 samples of 3 dimensions: more samples"),
        (nan, good, "1 of the 9 rows of features hold NaN"),
        (good, good[:, 0], r"must be \[N, d\]"),
        (good, good[:, :2], "different dimensions: 3 and 2"),
        (good[:0], good, "not empty"),
        ((np.zeros(3), np.eye(2)), good, "moments must be"),
        ((np.full(3, np.inf), eye), good, "moments hold NaN"),
        ((np.zeros(3), np.triu(np.ones((3, 3)))), good, "not symmetric"),
        ((np.zeros(3), np.diag([1.0, 1.0, -0.1])), good, "not a covariance"),
    ]
    for a, b, message in cases:
        with pytest.raises(ValueError, match=message):
            frechet_distance(a, b)

import itertools

import jax
import numpy as np
import pytest

from diffjax.data import checkerboard, eight_gaussians, rings, swiss_roll, two_moons
from diffjax.data.toys import eight_gaussians_parameters, stream

KEY = jax.random.key(0)
N = 20_000
TOYS = (two_moons, swiss_roll, checkerboard, rings, eight_gaussians)


@pytest.fixture(scope="module")
def points():
    return {toy: np.asarray(toy(KEY, N)) for toy in TOYS}


@pytest.mark.parametrize("toy", TOYS)
def test_pure_centred_and_of_unit_scale(toy, points):
    x = points[toy]
    assert x.shape == (N, 2) and x.dtype == np.float32 and np.isfinite(x).all()
    np.testing.assert_array_equal(x, toy(KEY, N))
    assert not np.array_equal(x, toy(jax.random.key(1), N))
    assert (np.abs(x.mean(0)) < 0.25).all() and (x.std(0) > 0.45).all() and (x.std(0) < 1.1).all()
    assert np.abs(x).max() < 2.2


def test_two_moons_are_half_circles():
    x = np.asarray(two_moons(KEY, 2000, noise=0.0))
    upper = np.abs(np.hypot(x[:, 0] + 0.5, x[:, 1] + 0.25) - 1) < 1e-5
    lower = np.abs(np.hypot(x[:, 0] - 0.5, x[:, 1] - 0.25) - 1) < 1e-5
    assert (upper | lower).all()
    assert abs(upper.sum() - 1000) < 4 * np.sqrt(500)  # 4 sigma


def test_swiss_roll_is_a_spiral():
    x = np.asarray(swiss_roll(KEY, 2000, noise=0.0))
    phi = np.hypot(*x.T) * 3 * np.pi
    np.testing.assert_allclose(x, phi[:, None] / (3 * np.pi) * np.stack([np.cos(phi), np.sin(phi)], -1), atol=2e-5)
    assert phi.min() >= 1.5 * np.pi - 1e-4 and phi.max() <= 4.5 * np.pi + 1e-4


def test_checkerboard_fills_the_eight_black_squares(points):
    squares = np.floor(points[checkerboard] / 0.75).astype(int) + 2
    assert squares.min() >= 0 and squares.max() <= 3 and (squares.sum(1) % 2 == 0).all()
    counts = np.bincount(4 * squares[:, 1] + squares[:, 0], minlength=16)
    expected, sigma = N / 8, np.sqrt(N / 8 * 7 / 8)
    assert (np.abs(counts[counts > 0] - expected) < 4 * sigma).all() and (counts > 0).sum() == 8  # 4 sigma


def test_rings_have_the_density_of_their_length():
    r = np.hypot(*np.asarray(rings(KEY, N, noise=0.0)).T)
    for k, radius in enumerate((0.5, 1.0, 1.5), start=1):
        count, p = (np.abs(r - radius) < 1e-5).sum(), k / 6
        assert abs(count - N * p) < 4 * np.sqrt(N * p * (1 - p))  # 4 sigma


def test_eight_gaussians_have_the_parameters_they_state(points):
    weights, means, covs = eight_gaussians_parameters()
    assert weights.shape == (8,) and means.shape == (8, 2) and covs.shape == (8, 2, 2)
    assert weights.dtype == means.dtype == covs.dtype == np.float32
    x = points[eight_gaussians]
    nearest = np.linalg.norm(x[:, None] - means, axis=-1).argmin(1)  # neighbours are 1.07 = 9 standard deviations apart
    for k in range(8):
        own = x[nearest == k]
        assert abs(len(own) - N * weights[k]) < 4 * np.sqrt(N * weights[k] * (1 - weights[k]))  # 4 sigma
        assert (np.abs(own.mean(0) - means[k]) < 4 * np.sqrt(np.diag(covs[k]) / len(own))).all()  # 4 sigma
        z = np.sqrt(len(own) / 2) * (np.cov(own.T) / covs[k][0, 0] - np.eye(2))
        assert (np.abs(z) < 4 * np.array([[1, 0.71], [0.71, 1]])).all()  # 4 sigma of a sample covariance
    moved = eight_gaussians_parameters(radius=2.0, std=0.5)
    np.testing.assert_allclose(np.linalg.norm(moved[1], axis=1), 2.0, rtol=1e-6)
    np.testing.assert_allclose(moved[2][3], 0.25 * np.eye(2))
    np.testing.assert_allclose(np.linalg.norm(eight_gaussians(KEY, 9, radius=2.0, std=0.0), axis=1), 2.0, rtol=1e-6)


def test_a_stream_goes_on_where_it_was_stopped():
    whole = [batch["image"] for batch in itertools.islice(stream(two_moons, KEY, 4), 3)]
    np.testing.assert_array_equal(next(stream(two_moons, KEY, 4, start=2))["image"], whole[2])
    assert whole[0].shape == (4, 2) and (whole[0] != whole[1]).all()


@pytest.mark.parametrize("toy", [two_moons, swiss_roll, checkerboard, rings, eight_gaussians])
def test_counts_and_keys_are_checked(toy, key):
    for n, error in ((-1, ValueError), (0, ValueError), (4.0, TypeError), ("4", TypeError)):
        with pytest.raises(error, match=r"n must be .* the number of points"):
            toy(key, n)
    for wrong in (0, None, jax.random.PRNGKey(0)):
        with pytest.raises(ValueError, match=r"key must be made by jax\.random\.key"):
            toy(wrong, 4)
    assert jax.jit(lambda k: toy(k, 4))(key).shape == (4, 2)
    with pytest.raises(ValueError, match="start must be"):
        stream(toy, key, 4, -1)
    with pytest.raises(ValueError, match="batch_size must be"):
        stream(toy, key, 0)

"""Metrics at their limits: equal and flat images, equal samples, singular covariances, other units and dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from diffjax import metrics

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
IMAGE = jnp.asarray(RNG.uniform(-1, 1, (2, 12, 12, 1)), jnp.float32)


def features(x):
    return [x, x[:, ::2] - 1]


@pytest.mark.parametrize("level", [0.0, *(pytest.param(v, marks=pytest.mark.slow) for v in (-1.0, 1.0, 3.0))])
def test_equal_and_flat_images(level):
    flat = jnp.full((2, 12, 12, 1), level)

    @jax.jit
    def run(x, y):
        fns = (metrics.psnr, metrics.ssim, lambda x, y: metrics.feature_distance(features, x, y))
        return [(fn(x, y), jax.grad(lambda x, fn=fn: fn(x, y).sum())(x)) for fn in fns]

    for x, y in ((flat, flat), (IMAGE, IMAGE), (flat, flat + 1e-3)):
        (psnr, d_psnr), (ssim, d_ssim), (distance, d_distance) = run(x, y)
        equal = x is y
        np.testing.assert_allclose(psnr, np.inf if equal else 20 * np.log10(2 / 1e-3), rtol=1e-3)
        alike = 1 if equal else (2 * level * (level + 1e-3) + 4e-4) / (level**2 + (level + 1e-3) ** 2 + 4e-4)
        np.testing.assert_allclose(ssim, alike, atol=1e-5)  # flat images: Eq. 2 of their means alone
        assert not equal or not distance.any()
        assert all(jnp.isfinite(slope).all() for slope in (d_psnr, d_ssim, d_distance))


def test_units_and_dtypes_of_images():
    levels = np.full((2, 12, 12, 1), 200, np.uint8)
    for metric in (metrics.psnr, metrics.ssim, lambda x, y, *r: metrics.feature_distance(features, x, y)):
        with pytest.raises(TypeError, match="must be floats"):
            metric(levels, levels - 100)
        with pytest.raises(ValueError, match=r"must lie in \[-1, 1\], got values from 200"):
            metric(levels.astype(float), levels.astype(float))
    with pytest.raises(TypeError, match="differences of integers wrap around"):
        metrics.psnr(levels, levels, 255)
    a, b = RNG.uniform(0, 255, (2, 3, 12, 12, 1))
    for metric in (metrics.psnr, metrics.ssim):  # the same in every unit, and from NumPy
        np.testing.assert_allclose(metric(a, b, 255), metric(a / 255, b / 255, 1), rtol=1e-4, atol=1e-5)
        assert metric(a, b, 255.0).dtype == jnp.float32
    low = metrics.psnr(IMAGE.astype(jnp.bfloat16), (IMAGE / 2).astype(jnp.bfloat16))
    np.testing.assert_allclose(low, metrics.psnr(IMAGE, IMAGE / 2), rtol=1e-2)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="value_range"):
            metrics.psnr(IMAGE, IMAGE, bad)


@pytest.mark.parametrize("d", [2, 9, 40])
def test_singular_covariances_agree_with_a_general_root(d):
    """Off-centre features of a lower rank with unequal variances; all of them constant in the end."""
    scale = np.geomspace(1e-2, 3, d)
    a = 5 + RNG.normal(size=(200, d)) * scale @ np.diag(np.arange(d) % 2)  # half of the dimensions are constant
    b = 4 + (RNG.normal(size=(200, 1)) @ RNG.normal(size=(1, d))) * scale  # of rank 1
    (m1, s1), (m2, s2) = metrics.moments(a), metrics.moments(b)
    root = np.real(scipy.linalg.sqrtm(s1 @ s2 + 1e-13 * np.eye(d)))
    expected = ((m1 - m2) ** 2).sum() + np.trace(s1 + s2 - 2 * root)
    np.testing.assert_allclose(metrics.frechet_distance(a, b), expected, rtol=1e-5)
    single = [tuple(np.float32(part) for part in m) for m in ((m1, s1), (m2, s2))]  # as files hold moments
    np.testing.assert_allclose(metrics.frechet_distance(*single), expected, rtol=1e-3)
    constant = np.full((50, d), 3.0)
    assert metrics.frechet_distance(constant, constant) == 0
    np.testing.assert_allclose(metrics.frechet_distance(constant, constant + 0.1), 0.01 * d, rtol=1e-9)


def test_kid_needs_no_more_samples_than_dimensions():
    a, b = RNG.normal(size=(8, 500)), RNG.normal(size=(9, 500)) + 1
    estimate = metrics.kid(a, b, block_size=2)
    assert estimate.value > 4 * estimate.stderr > 0  # a shift of 1 in all 500 dimensions
    assert metrics.mmd2(a[:2], a[:2]) < 0  # two samples are enough; without bias, equal sets are below 0
    with pytest.raises(ValueError, match="x has 1 samples: at least 2"):
        metrics.mmd2(a[:1], b)
    with pytest.raises(TypeError, match="block_size must be an integer"):
        metrics.kid(a, b, block_size=2.5)


def test_sliced_wasserstein_of_equal_samples_of_levels_and_of_nan():
    x = jnp.asarray(3 + RNG.normal(size=(7, 2)) * [0.1, 2], jnp.float32)
    slope = jax.grad(lambda x: metrics.sliced_wasserstein(KEY, x, jax.lax.stop_gradient(x), 8))(x)
    assert not slope.any()
    integers = RNG.integers(0, 255, (5, 2)).astype(np.uint8)
    expected = metrics.sliced_wasserstein(KEY, integers.astype(np.float32), x, 8)
    np.testing.assert_allclose(metrics.sliced_wasserstein(KEY, integers, x, 8), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="1 of 14 points hold NaN"):
        metrics.sliced_wasserstein(KEY, x.at[0, 1].set(jnp.nan), x)
    with pytest.raises(ValueError, match="n_projections"):
        metrics.sliced_wasserstein(KEY, x, x, 0)


@pytest.mark.slow
def test_straightness_where_a_time_is_repeated():
    ts, xs = jnp.array([1.0, 0.6, 0.6, 0.1]), jnp.array([0.0, 1.0, 1.0, 4.0]).reshape(4, 1, 1)
    keep = jnp.array([0, 1, 3])
    np.testing.assert_allclose(metrics.straightness(ts, xs), metrics.straightness(ts[keep], xs[keep]), rtol=1e-6)
    assert jnp.isinf(metrics.straightness(ts, xs.at[2].set(2.0)))  # a jump in no time
    assert jnp.isfinite(jax.grad(lambda xs: metrics.straightness(ts, xs).sum())(xs)).all()
    for bad in ([1.0, 0.5, 0.7, 0.1], [1.0, 1.0, 1.0, 1.0], [1.0, np.nan, 0.2, 0.1]):
        with pytest.raises(ValueError, match="run one way"):
            metrics.straightness(np.array(bad), xs)


def test_features_refuse_other_units_and_a_collapsed_map_is_infinitely_far():
    describe = metrics.batched(lambda x: x.reshape(len(x), -1), (2, 2, 1), 3)
    with pytest.raises(TypeError, match="must be floats"):
        describe(np.zeros((1, 2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match="if they are levels"):
        describe(np.full((1, 2, 2, 1), 200.0))
    with pytest.raises(ValueError, match="batch_size"):
        metrics.batched(len, (2, 2, 1), 0)
    log_prob = lambda x: -jnp.sum(x**2 + jnp.log(2 * jnp.pi), -1) / 2  # noqa: E731
    assert metrics.pushforward_kl(lambda z: z.at[:, 0].set(0.0), jnp.ones((4, 2)), log_prob) == np.inf
    with pytest.raises(ValueError, match="expected a map"):
        metrics.pushforward_kl(lambda z: z[:, 0], jnp.ones((4, 2)), log_prob)

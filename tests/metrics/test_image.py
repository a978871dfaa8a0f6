"""PSNR, SSIM and the distance of features against NumPy and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import correlate1d

from diffjax import metrics
from diffjax.metrics.image import WINDOW


@pytest.fixture(scope="module")
def pair():
    x = jax.random.uniform(jax.random.key(0), (3, 16, 20, 2), minval=-1.0)
    return x, x + 0.1 * jax.random.normal(jax.random.key(1), x.shape)


def test_psnr(pair):
    x, y = pair
    mse = np.mean((np.asarray(x) - np.asarray(y)) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(metrics.psnr(x, y), 10 * np.log10(4 / mse), rtol=1e-5)
    np.testing.assert_allclose(metrics.psnr(jnp.zeros((1, 2, 2, 1)), jnp.full((1, 2, 2, 1), 0.02)), 40, rtol=1e-5)


def test_ssim(pair):
    x, y = (np.asarray(a, np.float64) for a in pair)
    taps = WINDOW / WINDOW.sum()

    def mean(a):
        return correlate1d(correlate1d(a, taps, 1), taps, 2)[:, 5:-5, 5:-5]

    c1, c2 = 0.02**2, 0.06**2
    m_x, m_y = mean(x), mean(y)
    v_x, v_y, cov = mean(x * x) - m_x**2, mean(y * y) - m_y**2, mean(x * y) - m_x * m_y
    expected = (2 * m_x * m_y + c1) * (2 * cov + c2) / ((m_x**2 + m_y**2 + c1) * (v_x + v_y + c2))
    np.testing.assert_allclose(metrics.ssim(*pair), expected.mean((1, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(metrics.ssim(pair[0], pair[0]), 1, atol=1e-6)


def test_feature_distance(pair):
    x, y = pair

    def layers(a):
        return [3 * a, a[:, ::2]]

    def angle(a, b):  # |a/|a| - b/|b||^2 = 2 - 2 cos
        cos = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        return (2 - 2 * cos).mean((1, 2))

    x_, y_ = np.asarray(x), np.asarray(y)
    expected = angle(x_, y_) + angle(x_[:, ::2], y_[:, ::2])
    np.testing.assert_allclose(metrics.feature_distance(layers, x, y), expected, atol=1e-4)
    assert jnp.all(metrics.feature_distance(layers, x, x) == 0)


def test_errors(pair):
    x, y = pair
    with pytest.raises(ValueError, match="of one shape"):
        metrics.psnr(x, y[:2])
    with pytest.raises(ValueError, match="window is 11 pixels wide"):
        metrics.ssim(x[:, :8], y[:, :8])

"""Resampling against a NumPy derivation: filters as explicit sums, patches as a round trip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn import resample


@pytest.mark.parametrize("kernel", [(1, 1), (1, 3, 3, 1)])
def test_down_and_up_are_their_equations(kernel):
    k, K, n = np.array(kernel) / sum(kernel), len(kernel), 6
    D, U = np.zeros((n // 2, n)), np.zeros((2 * n, n))
    for i in range(n // 2):
        for j in range(K):
            if 0 <= (at := 2 * i + j - K // 2 + 1) < n:
                D[i, at] += k[j]
    for i in range(n):
        for m in range(2 * n):
            if 0 <= (j := m - 2 * i + K // 2 - 1) < K:
                U[m, i] += 2 * k[j]
    x = np.random.default_rng(0).normal(size=(2, n, n, 3)).astype(np.float32)
    np.testing.assert_allclose(resample.down(x, kernel), np.einsum("ih,jw,bhwc->bijc", D, D, x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(resample.up(x, kernel), np.einsum("ih,jw,bhwc->bijc", U, U, x), rtol=1e-5, atol=1e-6)


def test_means_and_nearest_neighbours():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_allclose(resample.down(x, (1, 1))[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_allclose(resample.up(x, (1, 1)), jnp.repeat(jnp.repeat(x, 2, 1), 2, 2))


def test_bilinear_is_linear_interpolation_from_corner_to_corner():
    x = np.random.default_rng(0).normal(size=(2, 4, 1, 3)).astype(np.float32)
    y = resample.bilinear(x, (7, 5))
    lines = [[np.interp(np.linspace(0, 3, 7), np.arange(4), x[b, :, 0, c]) for c in range(3)] for b in range(2)]
    expected = np.repeat(np.moveaxis(lines, -1, 1)[:, :, None], 5, 2)  # a single column is repeated
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y[:, ::2], np.repeat(x, 5, 2), rtol=1e-6)  # the old pixels are among the new
    assert resample.bilinear(x, (4, 1)) is x


def test_blur_of_an_impulse():
    x = jnp.zeros((1, 5, 5, 1)).at[0, 2, 2, 0].set(1.0)
    k = np.array([1, 3, 3, 1]) / 8
    np.testing.assert_allclose(resample.blur(x, (1, 3, 3, 1), 2)[0, 1:5, 1:5, 0], np.outer(k, k), rtol=1e-6)
    assert resample.blur(x, (1, 3, 3, 1), 2).shape == (1, 6, 6, 1)


def test_patches(key):
    x = jax.random.normal(key, (2, 6, 4, 3))
    patches = resample.space_to_depth(x, 2)
    assert patches.shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(patches[0, 1, 0].reshape(2, 2, 3), x[0, 2:4, 0:2])
    np.testing.assert_array_equal(resample.depth_to_space(patches, 2), x)


@pytest.mark.parametrize("kernel", [(1, 2, 1), (1, 3, 2, 1)])
def test_bad_kernels(kernel):
    with pytest.raises(ValueError, match="even length and is symmetric"):
        resample.down(jnp.zeros((1, 4, 4, 1)), kernel)

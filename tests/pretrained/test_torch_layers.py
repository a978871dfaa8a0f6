"""The shared layers against NumPy and against XLA's own grouped convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from numpy_layers import conv, depthwise, windows

from diffjax.pretrained import layers


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_fold_is_the_affine_map_behind_the_convolution():
    x, w, s, t = draw(2, 5, 6, 3), draw(3, 3, 3, 4, seed=1), draw(4, seed=2), draw(4, seed=3)
    y = layers.affine_conv(layers.fold(w, s, t), x, 2, "VALID")
    np.testing.assert_allclose(y, s * conv(x, w, 2, "VALID") + t, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (5, 2)])
def test_depthwise(size, stride):
    x, w, b = draw(2, 7, 10, 3), draw(size, size, 3, seed=1), draw(3, seed=2)

    def ours(x, w):
        return layers.affine_depthwise({"kernel": w, "bias": b}, x, stride)

    def xla(x, w):
        names = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, w[:, :, None], (stride, stride), "SAME", None, None, names, 3) + b

    def value_and_gradients(f):
        y, pullback = jax.vjp(f, x, w)
        return y, *pullback(y**2)

    mine, theirs = (jax.jit(value_and_gradients, static_argnums=0)(f) for f in (ours, xla))
    np.testing.assert_allclose(mine[0], depthwise(x, w, stride) + b, rtol=1e-4, atol=1e-5)
    for a, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, other, rtol=1e-3, atol=1e-3)
    assert jax.eval_shape(ours, x[:, :1, :2], w).shape == (2, 1, -(-2 // stride), 3)  # smaller than the kernel


@pytest.mark.parametrize("shape", [(2, 7, 10, 3), (1, 8, 5, 2)])
def test_pools(shape):
    x = draw(*shape)
    largest, mean = jax.jit(lambda x: (layers.max_pool(x), layers.avg_pool(x)))(x)
    np.testing.assert_allclose(largest, windows(x, 3, 2, "VALID").max((-2, -1)), rtol=1e-6)
    np.testing.assert_allclose(mean, windows(x, 2, 2, "VALID").mean((-2, -1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (8, 8, 3), (2, 3, 8, 8)])
def test_only_rgb_images(shape):
    with pytest.raises(ValueError, match=r"RGB images \[B, H, W, 3\]"):
        layers.rgb(jnp.zeros(shape), jnp.float32)

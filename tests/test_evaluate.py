"""Judging a model, on digits and with denoisers that cost nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import evaluate, times
from diffjax.data import batches, load


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_image_i_is_the_same_for_every_number_and_batch_size(key):
    sde = dj.VP()
    denoise, ts = lambda x, t, cond: jnp.tanh(x), times.uniform(sde, 3)
    draw = lambda n, size: evaluate.generate(key, denoise, sde, dj.DDIM(1.0), ts, (n, 4, 4, 1), size)  # noqa: E731
    many = draw(7, 3)
    assert many.shape == (7, 4, 4, 1)
    np.testing.assert_allclose(draw(2, 128), many[:2], rtol=1e-5, atol=1e-6)


def test_real_images_are_at_the_floor_and_noise_is_not(digits, key):
    images = digits.train_images[:300] / 127.5 - 1
    near = evaluate.distances(digits, images.astype(np.float32))
    far = evaluate.distances(digits, np.asarray(jax.random.normal(key, images.shape)))
    assert near["count"] == far["count"] == 257  # the test set's size
    assert near["fd"] < 2 * near["fd_floor"] < far["fd"]


def test_bits_of_the_data_s_own_gaussian(digits):
    """A normal law fitted to the dequantised pixels: the ODE's bits equal the density's."""
    x = (digits.train_images.reshape(-1, 64).astype(np.float64) + 0.5) / 128 - 1
    law = dj.GaussianMixture(jnp.ones(1), jnp.array([x.mean(0)]), jnp.array([np.cov(x.T) + 1e-3 * np.eye(64)]))
    sde = dj.VP()

    def denoise(x, t, cond=None):
        return law.denoise(sde, x.reshape(len(x), -1), t).reshape(x.shape)

    result = evaluate.bits(jax.random.key(0), denoise, sde, digits, 8, tol=1e-3)
    batch = next(batches(digits.test_images, digits.test_labels, 8, seed=0, dequantise=True))["image"]
    exact = dj.bits_per_dim(law.log_prob(jnp.asarray(batch).reshape(8, -1)), 64).mean()
    # one Rademacher probe for each of 8 images; its error is far below the 0.3 bits allowed here
    assert abs(result["bits_per_dim"] - float(exact)) < 0.3
    assert evaluate.bits(jax.random.key(0), denoise, sde, digits, 0) == {}

"""Measurements by networks: Gram matrices forget places, directions have length one, losses vanish at the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import corrections
from diffjax.operators import Gram, Measurement, Misfit, Unit


def two_maps(x):  # [B, 6, 6, 3] -> a map of the same size, and one of half
    return x, jnp.tanh(x[:, ::2, ::2] @ jnp.arange(12.0).reshape(3, 4))


@pytest.fixture
def images(key):
    return jax.random.normal(key, (3, 6, 6, 3))


def test_gram_matrices(images):
    whole = np.asarray(Gram(two_maps)(images))
    assert whole.shape == (3, 9 + 16)
    f = np.asarray(two_maps(images)[1], np.float64).reshape(3, 9, 4)
    by_hand = np.stack([sum(np.outer(v, v) for v in g) / (9 * 4) for g in f])
    np.testing.assert_allclose(whole[:, 9:].reshape(3, 4, 4), by_hand, atol=1e-6)
    alone = Gram(lambda x: x)
    order = np.random.default_rng(0).permutation(36)
    shuffled = images.reshape(3, 36, 3)[:, order].reshape(images.shape)
    np.testing.assert_allclose(alone(shuffled), alone(images), atol=1e-6)
    np.testing.assert_allclose(alone(images), whole[:, :9], atol=1e-6)


def test_directions(images):
    unit = Unit(lambda x: x.reshape(len(x), -1))(images)
    np.testing.assert_allclose(jnp.linalg.norm(unit, axis=-1), 1, atol=1e-6)
    loss = Misfit(Measurement(Unit(lambda x: x.reshape(len(x), -1)), unit[::-1]), squared=True)(images)
    np.testing.assert_allclose(loss, 2 - 2 * (unit * unit[::-1]).sum(-1), atol=1e-6)


@pytest.mark.parametrize("operator", [Gram(two_maps), Unit(lambda x: x.reshape(len(x), -1))])
def test_at_the_reference_the_loss_is_0_and_its_gradient_finite(operator, images):
    black = jnp.zeros_like(images)  # its features are 0 exactly, whichever way the program is compiled
    loss = Misfit(Measurement(operator, operator(black)))
    assert (loss(black) == 0).all()
    np.testing.assert_array_equal(corrections.Gradient(loss, 1.0, normalised=True)(black, 0.5), black)


def test_references_of_another_size_are_refused(images):
    with pytest.raises(ValueError, match="each example needs its own y"):
        Misfit(Measurement(Gram(two_maps), Gram(two_maps)(images)[:1]))(images)

"""Measurements by networks: Gram matrices forget places, directions have length one, losses vanish at the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import corrections
from diffjax.operators import Gram, Measurement, Misfit, UnitNorm, Views
from diffjax.operators.perceptual import view


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
    unit = UnitNorm(lambda x: x.reshape(len(x), -1))(images)
    np.testing.assert_allclose(jnp.linalg.norm(unit, axis=-1), 1, atol=1e-6)
    loss = Misfit(Measurement(UnitNorm(lambda x: x.reshape(len(x), -1)), unit[::-1]), squared=True)(images)
    np.testing.assert_allclose(loss, 2 - 2 * (unit * unit[::-1]).sum(-1), atol=1e-6)


@pytest.mark.parametrize("operator", [Gram(two_maps), UnitNorm(lambda x: x.reshape(len(x), -1))])
def test_at_the_reference_the_loss_is_0_and_its_gradient_finite(operator, images):
    black = jnp.zeros_like(images)  # its features are 0 exactly, whichever way the program is compiled
    loss = Misfit(Measurement(operator, operator(black)))
    assert (loss(black) == 0).all()
    np.testing.assert_array_equal(corrections.Gradient(loss, 1.0, normalised=True)(black, 0.5), black)


def test_a_view_is_moved_magnified_and_mirrored(images):
    np.testing.assert_allclose(view(images, jnp.array([1.0, 0, 0, 0])), images, atol=1e-6)
    np.testing.assert_allclose(view(images, jnp.array([1.0, 0, 0, 1])), images[:, :, ::-1], atol=1e-6)
    moved = view(images, jnp.array([1.0, 1, -2, 0]))  # one down, two to the left
    np.testing.assert_allclose(moved[:, 1:, :-2], images[:, :-1, 2:], atol=1e-6)
    np.testing.assert_allclose(moved[:, :1], -1, atol=1e-6)
    big = view(images, jnp.array([3.0, 0, 0, 0]))  # the middle third of 6 x 6, pixel (2, 2) over the first 3 x 3
    np.testing.assert_allclose(big[:, 1, 1], images[:, 2, 2], atol=1e-6)
    np.testing.assert_allclose(big[:, 4, 1], images[:, 3, 2], atol=1e-6)


def test_views_are_evaluated_one_by_one(images):
    embed = lambda x: x.reshape(len(x), -1)[:, ::7] ** 2  # noqa: E731
    windows = np.array([(1, 0, 0, 0), (1.1, 0.5, -0.5, 1), (1, -1, 0, 0)], np.float32)
    by_hand = jnp.concatenate([embed(view(images, jnp.asarray(w))) for w in windows], -1)
    np.testing.assert_allclose(Views(embed, windows)(images), by_hand, atol=1e-6)
    with pytest.raises(ValueError, match=r"windows are \[K, 4\]: magnification"):
        Views(embed, windows[0])(images)
    assert Views(embed)(images).shape == (3, 8 * embed(images).shape[1])
    loss = Misfit(Measurement(Views(embed), Views(embed)(images)), squared=True)
    alone = Misfit(Measurement(Views(embed), Views(embed)(images[:1])), squared=True)
    np.testing.assert_allclose(loss(images[::-1])[0], alone(images[2:])[0], rtol=1e-4)


def test_references_of_another_size_are_refused(images):
    with pytest.raises(ValueError, match="each example needs its own y"):
        Misfit(Measurement(Gram(two_maps), Gram(two_maps)(images)[:1]))(images)

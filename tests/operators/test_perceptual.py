"""Measurements by networks: Gram matrices forget places, directions have length one, losses vanish at the reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import corrections
from diffjax.operators import Gram, Measurement, Misfit, UnitNorm, Views
from diffjax.operators.perceptual import view

view = jax.jit(view)


def two_maps(x):  # [B, 6, 6, 3] -> a map of the same size, and one of half
    return x, jnp.tanh(x[:, ::2, ::2] @ jnp.arange(12.0).reshape(3, 4))


@pytest.fixture
def images(key):
    return jax.random.normal(key, (3, 6, 6, 3))


def test_gram_matrices(images):
    gram, alone = jax.jit(Gram(two_maps)), jax.jit(Gram(lambda x: x))
    whole = np.asarray(gram(images))
    assert whole.shape == (3, 9 + 16)
    f = np.asarray(two_maps(images)[1], np.float64).reshape(3, 9, 4)
    by_hand = np.stack([sum(np.outer(v, v) for v in g) / (9 * 4) for g in f])
    np.testing.assert_allclose(whole[:, 9:].reshape(3, 4, 4), by_hand, atol=1e-6)
    order = np.random.default_rng(0).permutation(36)
    shuffled = images.reshape(3, 36, 3)[:, order].reshape(images.shape)
    np.testing.assert_allclose(alone(shuffled), alone(images), atol=1e-6)
    np.testing.assert_allclose(alone(images), whole[:, :9], atol=1e-6)


def test_directions(images):
    direction = UnitNorm(lambda x: x.reshape(len(x), -1))
    unit = np.asarray(jax.jit(direction)(images))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, atol=1e-6)
    loss = jax.jit(Misfit(Measurement(direction, unit[::-1]), squared=True))(images)
    np.testing.assert_allclose(loss, 2 - 2 * (unit * unit[::-1]).sum(-1), atol=1e-6)


@pytest.mark.parametrize("operator", [Gram(two_maps), UnitNorm(lambda x: x.reshape(len(x), -1))])
def test_at_the_reference_the_loss_is_0_and_its_gradient_finite(operator, images):
    black = jnp.zeros_like(images)  # its features are 0 exactly, whichever way the program is compiled

    @jax.jit
    def run(black):
        loss = Misfit(Measurement(operator, operator(black)))
        return loss(black), corrections.Gradient(loss, 1.0, normalised=True)(black, 0.5)

    loss, corrected = run(black)
    assert (loss == 0).all()
    np.testing.assert_array_equal(corrected, black)


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
    by_hand = np.concatenate([embed(np.asarray(view(images, w))) for w in windows], -1)

    @jax.jit
    def run(images):
        every = Views(embed)(images)
        loss = Misfit(Measurement(Views(embed), every), squared=True)
        alone = Misfit(Measurement(Views(embed), every[:1]), squared=True)
        return Views(embed, windows)(images), every, loss(images[::-1])[0], alone(images[2:])[0]

    of_windows, every, together, alone = run(images)
    np.testing.assert_allclose(of_windows, by_hand, atol=1e-6)
    assert every.shape == (3, 8 * by_hand.shape[1] // 3)
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    with pytest.raises(ValueError, match=r"windows are \[K, 4\]: magnification"):
        Views(embed, windows[0])(images)


def test_references_of_another_size_are_refused(images):
    with pytest.raises(ValueError, match="each example needs its own y"):
        Misfit(Measurement(Gram(two_maps), Gram(two_maps)(images)[:1]))(images)

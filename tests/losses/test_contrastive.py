"""CLIP's loss against NumPy, its symmetry, pairs that share a caption, and its least value."""

import flax.linen as flax
import jax
import jax.numpy as jnp
import numpy as np

import diffjax as dj
from diffjax import nn, times
from diffjax.losses import InfoNCE
from diffjax.losses.contrastive import contrast
from diffjax.precondition import scaled_time


def test_both_directions_by_hand(x64):
    logits = np.random.default_rng(0).normal(size=(4, 4)) * 3
    label = np.array([0, 1, 1, 2])
    same = label[:, None] == label

    def cross_entropy(z):  # -mean over an example's positives of log softmax
        log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
        return -np.array([log_p[i][same[i]].mean() for i in range(4)])

    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    np.testing.assert_allclose(contrast(jnp.asarray(logits), jnp.asarray(same)), expected, atol=1e-12)
    np.testing.assert_allclose(contrast(jnp.asarray(logits.T), jnp.asarray(same)), expected, atol=1e-12)


def test_least_values():
    """Perfect pairs cost nothing; a caption that two of B images share costs log 2 in each direction."""
    same = jnp.eye(4, dtype=bool)
    np.testing.assert_allclose(contrast(100.0 * same, same), 0, atol=1e-6)
    label = jnp.array([0, 1, 1, 2])
    shared = label[:, None] == label
    np.testing.assert_allclose(contrast(100.0 * shared, shared), [0, np.log(2), np.log(2), 0], atol=1e-6)
    np.testing.assert_allclose(contrast(jnp.zeros((4, 4)), same), np.log(4), atol=1e-6)


class Tower(flax.Module):
    @flax.compact
    def __call__(self, x, c_noise, train=False):
        return flax.Dense(8)(x.reshape(len(x), -1))


def test_the_network_and_the_loss(key):
    net = nn.CLIP(Tower(), dim=8)
    batch = {
        "image": jax.random.normal(key, (4, 8, 8, 3)),
        "text": jax.random.normal(key, (4, 5)),
        "label": jnp.array([0, 1, 2, 2]),
    }
    params = jax.jit(net.init)(key, batch["image"], jnp.zeros(4), batch["text"])
    loss = InfoNCE(dj.VP(), times.Fixed(0.0), net.apply)
    values, aux = jax.jit(loss)(params, key, batch)
    image, text, scale = jax.jit(net.apply)(params, batch["image"], scaled_time(dj.VP(), jnp.zeros(4)), batch["text"])
    assert values.shape == (4,) and np.isclose(scale, 1 / 0.07)
    label = np.asarray(batch["label"])
    expected = contrast(scale * image @ text.T, label[:, None] == label)
    np.testing.assert_allclose(values, expected, atol=1e-4)
    np.testing.assert_array_equal(aux["hit"], label[np.asarray(image @ text.T).argmax(-1)] == label)
    np.testing.assert_allclose(net.apply(params, batch["text"], method="words"), text, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(text, axis=-1), 1, atol=1e-5)
    grads = jax.jit(jax.grad(lambda p: loss(p, key, batch)[0].mean()))(params)
    assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(grads)) and jnp.abs(grads["params"]["log_scale"]) > 0

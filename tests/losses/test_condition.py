"""Condition dropout and the noisy classifier's loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import losses, times
from diffjax.losses.condition import drop


def seen(params, key, batch):
    """A loss that tells what it was given."""
    return batch["cond"]["label"].astype(float), {"text": batch["cond"]["text"][:, 0]}


NULL = {"label": 10, "text": jnp.full(3, -1.0)}


def test_conditions_are_dropped_whole_at_the_given_rate(key):
    n = 10_000
    batch = {"image": jnp.zeros((n, 1)), "cond": {"label": jnp.arange(n) % 10, "text": jnp.ones((n, 3))}}
    labels, aux = losses.DropCondition(seen, NULL, 0.1)({}, key, batch)
    dropped = np.asarray(labels) == 10
    assert abs(dropped.mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / n)  # 4 sigma
    np.testing.assert_array_equal(np.asarray(aux["text"]) == -1, dropped)  # an example's parts go together
    np.testing.assert_array_equal(np.asarray(labels)[~dropped], (np.arange(n) % 10)[~dropped])
    for p, share in ((0.0, 0), (1.0, 1)):
        labels, _ = losses.DropCondition(seen, NULL, p)({}, key, batch)
        assert (np.asarray(labels) == 10).mean() == share


def test_an_example_is_dropped_by_its_own_key(key):
    keys = dj.arrays.example_keys(key, 64)
    batch = {"image": jnp.zeros((64, 1)), "label": jnp.arange(64) % 10}
    loss = losses.DropCondition(lambda p, k, b: (b["cond"]["label"], {}), {"label": 10}, 0.5)
    whole, _ = loss({}, keys, batch)
    part, _ = loss({}, keys[5:9], jax.tree.map(lambda a: a[5:9], batch))
    np.testing.assert_array_equal(part, whole[5:9])


def test_the_null_row_is_trained(key):
    """A network that is a table of outputs: with dropout every row gets a gradient, without it the null row none."""

    def network(params, x, c_noise, cond, *, train, rngs):
        return x + params[cond["label"]][:, None]

    def grad(p):
        dsm = losses.DSM(dj.VP(), times.Uniform(), network, dj.precondition.from_v)
        batch = {"image": jnp.ones((32, 2)), "label": jnp.arange(32) % 3}
        return jax.grad(lambda table: losses.DropCondition(dsm, {"label": 3}, p)(table, key, batch)[0].mean())(
            jnp.zeros(4)
        )

    assert jnp.all(grad(0.5) != 0)
    assert jnp.all(grad(0.0)[:3] != 0) and grad(0.0)[3] == 0


def test_scales_are_drawn_for_each_example_and_joined_to_its_condition(key):
    """Uniform on [2, 5]: mean 3.5, variance 9/12; 4 sigma of 10,000."""
    n = 10_000
    batch = {"image": jnp.zeros((n, 1)), "label": jnp.arange(n)}
    keys = dj.arrays.example_keys(key, n)
    loss = losses.DrawScale(lambda p, k, b: (b["cond"]["scale"], {"label": b["cond"]["label"]}), 2.0, 5.0)
    scale, aux = loss({}, keys, batch)
    assert scale.min() >= 2 and scale.max() <= 5 and abs(scale.mean() - 3.5) < 4 * np.sqrt(0.75 / n)
    np.testing.assert_array_equal(aux["label"], batch["label"])
    np.testing.assert_array_equal(loss({}, keys[5:9], jax.tree.map(lambda a: a[5:9], batch))[0], scale[5:9])
    alone = losses.DrawScale(lambda p, k, b: (b["cond"]["scale"], {}))
    assert alone({}, key, jnp.zeros((2, 1)))[0].shape == (2,)
    with pytest.raises(ValueError, match="a condition that is a dict"):
        alone({}, key, {"image": jnp.zeros((2, 1)), "cond": jnp.zeros(2)})


def test_errors(key):
    loss = losses.DropCondition(seen, NULL)
    with pytest.raises(ValueError, match='needs a batch with an entry "cond" or "label"'):
        loss({}, key, jnp.zeros((2, 1)))
    with pytest.raises(ValueError, match="another structure"):
        drop({"label": jnp.zeros(2)}, NULL, jnp.array([True, False]))


def test_cross_entropy_of_noisy_images(key):
    """Logits that know the noise level: the loss is -log softmax at x_t, and a hit the argmax."""
    sde, w = dj.VP(), jnp.array([[1.0, -1.0], [0.5, 2.0]])

    def network(params, x, c_noise, *, train, rngs):
        return x @ params + c_noise[:, None] / 999

    batch = {"image": jax.random.normal(key, (5, 2)), "label": jnp.array([0, 1, 0, 1, 1])}
    loss = losses.CrossEntropy(sde, times.Fixed(0.3), network)
    values, aux = loss(w, key, batch)
    eps = dj.arrays.normal(dj.arrays.fold(key, 1), batch["image"])
    logits = np.asarray(dj.gaussian.perturb(sde, batch["image"], 0.3, eps) @ w)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(values, -log_p[np.arange(5), np.asarray(batch["label"])], rtol=1e-4)
    np.testing.assert_array_equal(aux["hit"], logits.argmax(1) == np.asarray(batch["label"]))

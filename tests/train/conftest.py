"""The problem of the training tests: a noisy linear regression whose batches and noise follow from the step."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.arrays import normal


def loss(params, keys, batch):
    """Squared error of a line at inputs jittered by each example's own key."""
    x = batch["x"] + 0.1 * normal(keys, batch["x"])
    error = x @ params["w"] + params["b"] - batch["y"]
    return error**2, {"abs": jnp.abs(error)}


def quiet_loss(params, keys, batch):
    """The same without noise."""
    return (batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2, {}


def batch(step, size=8):
    rng = np.random.default_rng(step)
    x = rng.normal(size=(size, 3)).astype(np.float32)
    return {"x": x, "y": x @ np.array([1.0, -2.0, 0.5], np.float32) + 0.3}


def batches(start):
    return (batch(step) for step in itertools.count(start))


def equal(a, b):
    """Bit for bit: structure, types and values (keys by their data)."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture(scope="session")
def line():
    params = {"w": jnp.array([0.1, 0.2, -0.3]), "b": jnp.zeros(())}
    return SimpleNamespace(params=params, loss=loss, quiet_loss=quiet_loss, batch=batch, batches=batches, equal=equal)

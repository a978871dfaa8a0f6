"""Exact worlds shared by the tests."""

import jax
import jax.numpy as jnp
import pytest

import diffjax as dj


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def four_modes():
    """Four modes at (+-1, +-1) with standard deviation 0.2."""
    means = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    return dj.GaussianMixture(jnp.full(4, 0.25), means, jnp.tile(0.04 * jnp.eye(2), (4, 1, 1)))

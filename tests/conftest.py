"""Exact worlds shared by the tests, and the programs that were compiled for them."""

import os

import jax
import jax.numpy as jnp
import pytest
from jax import Array

import diffjax as dj
from diffjax.typing import pytree


def pytest_configure(config):
    """Compile each program once, and quickly: workers, notebooks and the next run read what one of them has compiled.

    Most programs run for less time than they take to be optimised; JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests them as
    users run them.
    """
    kept = {
        "jax_disable_most_optimizations": int(os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0"),
        "jax_compilation_cache_dir": str(config.rootpath / ".pytest_cache" / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in kept.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)  # of processes that tests start


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


@pytree
class OneOf:
    """The process of the given number: as that is an argument, one compilation serves all processes."""

    kind: Array
    processes: tuple
    T: float = 1.0
    t_min: float = 0.0

    def alpha(self, t):
        return jnp.stack([p.alpha(t) + 0 * t for p in self.processes])[self.kind]

    def sigma(self, t):
        return jnp.stack([p.sigma(t) + 0 * t for p in self.processes])[self.kind]


@pytest.fixture(scope="session")
def one_of():
    return OneOf

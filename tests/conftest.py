"""Exact distributions shared by the tests, and the programs that were compiled for them."""

import gc
import os
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import diffjax as dj
from diffjax.typing import pytree


def pytest_configure(config):
    """Compile each program once, and quickly: workers, notebooks and the next run read what one of them has compiled.

    Most programs run for less time than they take to be optimised; JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests them as
    users run them.
    """
    quickly = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1") != "0"
    if quickly and jax.__version_info__ < (0, 11):  # XLA stops at unknown flags
        loops = "simplify-while-loops,while-loop-invariant-code-motion,while-loop-constant-sinking"
        os.environ.setdefault(
            "XLA_FLAGS",
            "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
            f" --xla_disable_hlo_passes={loops}",  # which clone the body of a scan again and again
        )
    kept = {
        "jax_disable_most_optimizations": int(quickly),
        "jax_compilation_cache_dir": str(config.rootpath / ".pytest_cache" / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    gc.set_threshold(50_000, 20, 20)  # tracing makes many objects, few of them garbage
    for name, value in kept.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)  # of processes that tests start


def pytest_runtest_setup(item):
    """Give a test whose module has an RNG one of its own: it draws the same numbers whatever ran before it."""
    if isinstance(getattr(item.module, "RNG", None), np.random.Generator):
        item.module.RNG = np.random.default_rng(zlib.crc32(item.nodeid.encode()))


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Forget compiled programs before they are many: each takes memory maps, and Linux stops a process at 65,530.

    Those that stay are left out of Python's search for garbage, which would go through all of JAX's caches for seconds.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 30_000:
        gc.unfreeze()
        jax.clear_caches()
    gc.collect()
    gc.freeze()


@pytest.fixture
def optimised():
    """Programs as users have them, for a test that runs for longer than they take to be optimised."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


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
        return _curve(self, t, "alpha")

    def sigma(self, t):
        return _curve(self, t, "sigma")


@partial(jax.jit, static_argnames="name")  # so that a program with many of them traces one
def _curve(one: OneOf, t, name: str):
    """By selection, which compiles faster than an index into a stack, and its gradient much faster."""
    each = [getattr(p, name)(t) + 0 * t for p in one.processes]
    dtype = jnp.result_type(*each)
    return jax.lax.select_n(jnp.asarray(one.kind, jnp.int32), *[jnp.asarray(value, dtype) for value in each])


@pytest.fixture(scope="session")
def one_of():
    return OneOf

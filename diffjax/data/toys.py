"""Distributions in the plane: pure functions (key, n) -> [n, 2] float32, of about unit scale, jitted.

They are the figures of the literature (two moons, swiss roll, checkerboard, rings, eight Gaussians), scaled so that the
mean lies within 0.25 of the origin and each coordinate's standard deviation between 0.5 and 1. The eight Gaussians'
parameters are public, so that an exact mixture, with its score and its likelihood at every noise level, can be built.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_count, check_key
from diffjax.typing import Key

Toy = Callable[[Key, int], Array]
OCTAGON = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], -1)


def compiled(toy: Callable[..., Array]) -> Callable[..., Array]:
    """`toy`, jitted for each n; a key or a count that is none is refused."""
    run = jax.jit(toy, static_argnames="n")

    @functools.wraps(toy)
    def checked(key: Key, n: int, *args: Any, **options: Any) -> Array:
        check_key(key)
        check_count("n", n, why="the number of points")
        return run(key, n, *args, **options)

    return checked


@compiled
def two_moons(key: Key, n: int, noise: float = 0.08) -> Array:
    """Two interleaved half circles of radius 1, [n, 2]; `noise` is the deviation of the Gaussian blur."""
    k_side, k_angle, k_noise = jax.random.split(key, 3)
    side = jax.random.bernoulli(k_side, 0.5, (n,)).astype(jnp.float32)
    angle = jax.random.uniform(k_angle, (n,), maxval=jnp.pi)
    upper = jnp.stack([jnp.cos(angle) - 0.5, jnp.sin(angle) - 0.25], -1)
    moons = jnp.where(side[:, None] == 1, -upper, upper)  # the lower moon is the upper one turned by half a circle
    return moons + noise * jax.random.normal(k_noise, (n, 2))


@compiled
def swiss_roll(key: Key, n: int, noise: float = 0.03) -> Array:
    """A spiral of one and a half turns, r = phi / (3 pi) for phi in [1.5 pi, 4.5 pi], [n, 2]."""
    k_angle, k_noise = jax.random.split(key)
    phi = jax.random.uniform(k_angle, (n,), minval=1.5 * jnp.pi, maxval=4.5 * jnp.pi)
    spiral = phi[:, None] / (3 * jnp.pi) * jnp.stack([jnp.cos(phi), jnp.sin(phi)], -1)
    return spiral + noise * jax.random.normal(k_noise, (n, 2))


@compiled
def checkerboard(key: Key, n: int) -> Array:
    """Uniform on the black squares of a 4 x 4 board over [-1.5, 1.5]^2, [n, 2]: `checkerboard_squares`."""
    k_row, k_column, k_inside = jax.random.split(key, 3)
    row = jax.random.randint(k_row, (n,), 0, 4)
    column = 2 * jax.random.randint(k_column, (n,), 0, 2) + row % 2
    corner = jnp.stack([column, row], -1) - 2.0
    return 0.75 * (corner + jax.random.uniform(k_inside, (n, 2)))


def checkerboard_squares() -> tuple[np.ndarray, np.ndarray]:
    """(lows [8, 2], highs [8, 2]), float32: `Boxes(*checkerboard_squares())`."""
    lows = [(0.75 * (column - 2), 0.75 * (row - 2)) for row in range(4) for column in range(row % 2, 4, 2)]
    return np.array(lows, np.float32), np.array(lows, np.float32) + np.float32(0.75)


@compiled
def rings(key: Key, n: int, noise: float = 0.03) -> Array:
    """Circles of radius 0.5, 1 and 1.5, each as likely as it is long, [n, 2]."""
    k_ring, k_angle, k_noise = jax.random.split(key, 3)
    radius = jnp.array([0.5, 1.0, 1.5])
    r = jax.random.choice(k_ring, radius, (n,), p=radius / radius.sum())
    angle = jax.random.uniform(k_angle, (n,), maxval=2 * jnp.pi)
    return r[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1) + noise * jax.random.normal(k_noise, (n, 2))


def eight_gaussians_parameters(radius: float = 1.4, std: float = 0.12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(weights [8], means [8, 2], covs [8, 2, 2]), float32: `GaussianMixture(*eight_gaussians_parameters())`."""
    covs = np.tile(std**2 * np.eye(2), (8, 1, 1))
    return np.full(8, 1 / 8, np.float32), (radius * OCTAGON).astype(np.float32), covs.astype(np.float32)


@compiled
def eight_gaussians(key: Key, n: int, radius: float = 1.4, std: float = 0.12) -> Array:
    """A mixture of eight Gaussians on a circle, [n, 2]; its parameters: `eight_gaussians_parameters`."""
    k_component, k_inside = jax.random.split(key)
    component = jax.random.randint(k_component, (n,), 0, 8)
    means = radius * jnp.asarray(OCTAGON, jnp.float32)
    return means[component] + std * jax.random.normal(k_inside, (n, 2))


def stream(toy: Toy, key: Key, batch_size: int, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
    """Batches {"image": [batch_size, 2]} without end, for `train.fit`; the n-th has its own key, so runs resume."""
    check_key(key)
    check_count("batch_size", batch_size)
    check_count("start", start, 0)
    return ({"image": np.asarray(toy(jax.random.fold_in(key, n), batch_size))} for n in itertools.count(start))

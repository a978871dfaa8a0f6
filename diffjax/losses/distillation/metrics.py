"""Distances of two batches, `(a, b) -> [B]`, for the losses that compare a student with its target."""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import flat_mean, flat_sum, safe_sqrt
from diffjax.typing import pytree


def squared(a: Array, b: Array) -> Array:
    """The mean squared difference of an example's entries."""
    return flat_mean((a - b) ** 2)


def absolute(a: Array, b: Array) -> Array:
    """The mean absolute difference."""
    return flat_mean(jnp.abs(a - b))


@pytree
class PseudoHuber:
    """sqrt(|a - b|^2 + c^2) - c, the norm over all D entries; c = `scale` sqrt(D) (Song & Dhariwal 2024).

    c = 0 is the norm itself, with the slope 0 at 0.
    """

    scale: float = 0.00054

    def __call__(self, a: Array, b: Array) -> Array:
        c = self.scale * jnp.sqrt(a[0].size)
        square = flat_sum((a - b) ** 2)
        # c + (sqrt(square + c^2) - c) would lose small distances
        return square / jnp.where(square > 0, safe_sqrt(square + c**2) + c, 1)

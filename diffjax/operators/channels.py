"""Operators on the channels of each pixel: colour to grey, and any other mixture."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.operators.linear import decompose, images
from diffjax.typing import pytree

HIGHEST = jax.lax.Precision.HIGHEST


@pytree
class Channels:
    """y [..., K] = x [..., C] @ weights [C, K], K <= C; made by `channels` or `grey`."""

    weights: Array
    left: Array  # U [K, K]
    values: Array  # [C], padded with zeros
    right: Array  # V [C, C]

    @property
    def s(self) -> Array:
        return self.values

    def __call__(self, x: Array) -> Array:
        x = images(x)
        if x.ndim < 2 or x.shape[-1] != len(self.weights):
            raise ValueError(f"this operator takes images of {len(self.weights)} channels, got {x.shape}")
        return jnp.matmul(x, self.weights, precision=HIGHEST)

    def Vt(self, x: Array) -> Array:
        return jnp.matmul(images(x), self.right, precision=HIGHEST)

    def V(self, z: Array) -> Array:
        return jnp.matmul(z, self.right.T, precision=HIGHEST)

    def Ut(self, y: Array) -> Array:
        w = jnp.matmul(images(y), self.left, precision=HIGHEST)
        return jnp.pad(w, [(0, 0)] * (w.ndim - 1) + [(0, len(self.values) - w.shape[-1])])

    def U(self, w: Array) -> Array:
        return jnp.matmul(w[..., : len(self.left)], self.left.T, precision=HIGHEST)


def channels(weights: Any) -> Channels:
    """The mixture of `weights` [C, K], K <= C; columns may depend on one another.

    Raises:
      ValueError: the weights have another shape, or hold NaN.
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 2 or not 0 < weights.shape[1] <= weights.shape[0]:
        raise ValueError(f"expected weights [C, K] with K <= C, got shape {weights.shape}")
    A, U, s, V = decompose(weights.T)
    return Channels(*(jnp.asarray(a, float) for a in (A.T, U, s, V)))


def grey() -> Channels:
    """Colour to grey: the mean of red, green and blue, one channel (colorization is its inverse problem)."""
    return channels(np.full((3, 1), 1 / 3))

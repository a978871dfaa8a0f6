"""Operators on the channels of each pixel: colour to grey, and any other mixture."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.typing import pytree


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
        if x.shape[-1] != len(self.weights):
            raise ValueError(f"this operator takes images of {len(self.weights)} channels, got {x.shape}")
        return x @ self.weights

    def Vt(self, x: Array) -> Array:
        return x @ self.right

    def V(self, z: Array) -> Array:
        return z @ self.right.T

    def Ut(self, y: Array) -> Array:
        w = y @ self.left
        return jnp.pad(w, [(0, 0)] * (w.ndim - 1) + [(0, len(self.values) - w.shape[-1])])

    def U(self, w: Array) -> Array:
        return w[..., : len(self.left)] @ self.left.T


def channels(weights: Any) -> Channels:
    """The mixture of `weights` [C, K], K <= C."""
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 2 or weights.shape[1] > weights.shape[0]:
        raise ValueError(f"expected weights [C, K] with K <= C, got shape {weights.shape}")
    U, s, Vt = np.linalg.svd(weights.T)
    s = np.concatenate([s, np.zeros(len(weights) - len(s))])
    return Channels(*(jnp.asarray(a, float) for a in (weights, U, s, Vt.T)))


def grey() -> Channels:
    """Colour to grey: the mean of red, green and blue, one channel (colorization is its inverse problem)."""
    return channels(np.full((3, 1), 1 / 3))

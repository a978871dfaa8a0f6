"""Any linear map of the flattened image, and compressed sensing, whose matrix is never formed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.typing import Key, pytree, static


@pytree
class Matrix:
    """y [B, M] = A [M, D] applied to x [B, *shape] flattened, M <= D; made by `matrix`."""

    A: Array
    left: Array  # U [M, M]
    values: Array  # [D], padded with zeros
    right: Array  # V [D, D]
    shape: tuple[int, ...] = static()

    @property
    def s(self) -> Array:
        return self.values

    def __call__(self, x: Array) -> Array:
        if x.shape[1:] != self.shape:
            raise ValueError(f"this operator takes [B, {', '.join(map(str, self.shape))}], got {x.shape}")
        return x.reshape(len(x), -1) @ self.A.T

    def Vt(self, x: Array) -> Array:
        return x.reshape(len(x), -1) @ self.right

    def V(self, z: Array) -> Array:
        return (z @ self.right.T).reshape(-1, *self.shape)

    def Ut(self, y: Array) -> Array:
        return jnp.pad(y @ self.left, [(0, 0), (0, len(self.values) - len(self.left))])

    def U(self, w: Array) -> Array:
        return w[:, : len(self.left)] @ self.left.T


def matrix(A: Any, shape: tuple[int, ...] | None = None) -> Matrix:
    """The operator of a matrix A [M, D], on images of `shape` (default (D,)). Memory and time: D^2 and D^3."""
    A = np.asarray(A, np.float64)
    shape = (A.shape[1],) if shape is None else tuple(shape)
    if A.ndim != 2 or A.shape[0] > A.shape[1] or A.shape[1] != np.prod(shape):
        raise ValueError(f"expected a matrix [M, D] with M <= D = {np.prod(shape)} for images {shape}, got {A.shape}")
    U, s, Vt = np.linalg.svd(A)
    s = np.concatenate([s, np.zeros(A.shape[1] - len(s))])
    return Matrix(*(jnp.asarray(a, float) for a in (A, U, s, Vt.T)), shape=shape)


def random_projection(key: Key, shape: tuple[int, ...], m: int) -> Matrix:
    """m measurements of images of `shape` with weights N(0, 1/m)."""
    return matrix(jax.random.normal(key, (m, int(np.prod(shape)))) / np.sqrt(m), shape)


@pytree
class CompressedSensing:
    """y = mask * C(signs * x), C the orthonormal cosine transform of rows and columns: a random part of it is seen.

    x and y are [B, H, W, C]; y is 0 where nothing was measured. Made by `compressed_sensing`.
    """

    signs: Array  # [H, W, C] of +-1
    mask: Array  # [H, W, C] of 0, 1
    rows: Array  # [H, H] orthonormal
    cols: Array  # [W, W] orthonormal

    @property
    def s(self) -> Array:
        return self.mask

    def __call__(self, x: Array) -> Array:
        return self.mask * self.Vt(x)

    def Vt(self, x: Array) -> Array:
        if x.shape[1:] != self.signs.shape:
            raise ValueError(f"this operator takes [B, {', '.join(map(str, self.signs.shape))}], got {x.shape}")
        return jnp.einsum("hi,bijc,wj->bhwc", self.rows, self.signs * x, self.cols)

    def V(self, z: Array) -> Array:
        return self.signs * jnp.einsum("hi,bhwc,wj->bijc", self.rows, z, self.cols)

    def Ut(self, y: Array) -> Array:
        return self.mask * y

    def U(self, w: Array) -> Array:
        return self.mask * w


def compressed_sensing(key: Key, shape: tuple[int, int, int], ratio: float) -> CompressedSensing:
    """Random measurements of images (H, W, C), `ratio` as many as pixels; the mean of the signed image among them.

    Raises:
      ValueError: the ratio is not in (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"the ratio of measurements to pixels must lie in (0, 1], got {ratio}")
    k_signs, k_mask = jax.random.split(key)
    size = int(np.prod(shape))
    order = jax.random.permutation(k_mask, size)
    mask = jnp.zeros(size).at[order[: max(1, round(ratio * size))]].set(1.0).reshape(shape)
    signs = jax.random.rademacher(k_signs, shape, float)
    return CompressedSensing(signs, mask, _cosine(shape[0]), _cosine(shape[1]))


def _cosine(n: int) -> Array:
    """The orthonormal DCT-II matrix [n, n]."""
    k, i = np.mgrid[:n, :n]
    basis = np.sqrt(2 / n) * np.cos(np.pi * k * (2 * i + 1) / (2 * n))
    basis[0] /= np.sqrt(2)
    return jnp.asarray(basis, float)

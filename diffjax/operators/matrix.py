"""Any linear map of the flattened image, and compressed sensing, whose matrix is never formed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_count, check_key, check_number
from diffjax.operators.linear import decompose, images, sides
from diffjax.typing import Key, pytree, static

HIGHEST = jax.lax.Precision.HIGHEST


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
        return jnp.matmul(self._flat(x), self.A.T, precision=HIGHEST)

    def Vt(self, x: Array) -> Array:
        return jnp.matmul(self._flat(x), self.right, precision=HIGHEST)

    def V(self, z: Array) -> Array:
        return jnp.matmul(z, self.right.T, precision=HIGHEST).reshape(-1, *self.shape)

    def Ut(self, y: Array) -> Array:
        w = jnp.matmul(images(y), self.left, precision=HIGHEST)
        return jnp.pad(w, [(0, 0), (0, len(self.values) - len(self.left))])

    def U(self, w: Array) -> Array:
        return jnp.matmul(w[:, : len(self.left)], self.left.T, precision=HIGHEST)

    def _flat(self, x: Array) -> Array:
        x = images(x)
        if x.shape[1:] != self.shape:
            raise ValueError(f"this operator takes [B, {', '.join(map(str, self.shape))}], got {x.shape}")
        return x.reshape(len(x), -1)


def matrix(A: Any, shape: tuple[int, ...] | None = None, least: float | None = None) -> Matrix:
    """The operator of a matrix A [M, D], on images of `shape` (default (D,)). Memory and time: D^2 and D^3.

    Its rows may depend on one another: singular values below `least` times the largest count as 0 (see `decompose`).

    Raises:
      ValueError: M > D, D is not the number of an image's entries, or A holds NaN.
    """
    A = np.asarray(A, np.float64)
    shape = tuple(A.shape[1:] if shape is None else shape)
    if A.ndim != 2 or A.shape[0] > A.shape[1] or A.shape[1] != np.prod(shape):
        raise ValueError(f"expected a matrix [M, D] with M <= D = {np.prod(shape)} for images {shape}, got {A.shape}")
    return Matrix(*(jnp.asarray(a, float) for a in decompose(A, least)), shape=tuple(map(int, shape)))


def random_projection(key: Key, shape: tuple[int, ...], m: int) -> Matrix:
    """m measurements of images of `shape` with weights N(0, 1/m); 1 <= m <= their number of entries."""
    check_key(key)
    check_count("m", m, 1, int(np.prod(shape)), why="there are not more measurements than pixels")
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
        x = images(x)
        if x.shape[1:] != self.signs.shape:
            raise ValueError(f"this operator takes [B, {', '.join(map(str, self.signs.shape))}], got {x.shape}")
        return jnp.einsum("hi,bijc,wj->bhwc", self.rows, self.signs * x, self.cols, precision=HIGHEST)

    def V(self, z: Array) -> Array:
        return self.signs * jnp.einsum("hi,bhwc,wj->bijc", self.rows, z, self.cols, precision=HIGHEST)

    def Ut(self, y: Array) -> Array:
        return self.mask * images(y)

    def U(self, w: Array) -> Array:
        return self.mask * w


def compressed_sensing(key: Key, shape: tuple[int, int, int], ratio: float) -> CompressedSensing:
    """Random measurements of images (H, W, C), `ratio` as many as pixels; the mean of the signed image among them.

    Raises:
      ValueError: the ratio is not in (0, 1], or the shape is none of an image.
    """
    check_key(key)
    check_number("the ratio of measurements to pixels", ratio, 0, 1, above=True)
    sides(shape)
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

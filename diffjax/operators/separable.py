"""Operators that act on rows and columns apart, y = R x C^T in each channel: pooling, bicubic resizing, blurs.

With R = U_r S_r V_r^T and C = U_c S_c V_c^T the decomposition of the pair is that of the factors: the spectrum is
V_r^T x V_c, [B, H, W, C], and the singular value of entry (i, j) is the product of the i-th and the j-th; where that is
below eps x size x largest it counts as 0.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_count, check_number
from diffjax.operators.linear import decompose, images, sides
from diffjax.typing import pytree


@pytree
class Factor:
    """A matrix [m, n], m <= n, and its full decomposition: U [m, m], s [n] padded with zeros, V [n, n]."""

    matrix: Array
    U: Array
    s: Array
    V: Array


@pytree
class Separable:
    """y [B, h, w, C] = rows x cols^T for x [B, H, W, C]; made by `separable` and the functions below it."""

    rows: Factor
    cols: Factor

    @property
    def s(self) -> Array:
        s = self.rows.s[:, None] * self.cols.s
        return jnp.where(s < jnp.finfo(s.dtype).eps * max(s.shape) * s.max(), 0, s)[..., None]

    def __call__(self, x: Array) -> Array:
        return _both(self.rows.matrix, x, self.cols.matrix)

    def Vt(self, x: Array) -> Array:
        return _both(self.rows.V.T, x, self.cols.V.T)

    def V(self, z: Array) -> Array:
        return _both(self.rows.V, z, self.cols.V)

    def Ut(self, y: Array) -> Array:
        w = _both(self.rows.U.T, y, self.cols.U.T)
        rest = [(0, len(f.V) - len(f.U)) for f in (self.rows, self.cols)]
        return jnp.pad(w, [(0, 0), *rest, (0, 0)])

    def U(self, w: Array) -> Array:
        return _both(self.rows.U, w[:, : len(self.rows.U), : len(self.cols.U)], self.cols.U)


def separable(rows: Any, cols: Any, least: float | None = None) -> Separable:
    """The operator of two matrices [h, H] and [w, W], h <= H and w <= W.

    Singular values below `least` times the largest count as 0 (default eps x size), and the matrices are rebuilt
    without them.

    Raises:
      ValueError: a matrix has another shape or holds NaN.
    """
    return Separable(_factor(rows, least), _factor(cols, least))


def _factor(matrix: Any, least: float | None) -> Factor:
    return Factor(*(jnp.asarray(a, float) for a in decompose(matrix, least)))


def _both(left: Array, x: Array, right: Array) -> Array:
    x = images(x)
    if x.ndim != 4 or x.shape[1:3] != (left.shape[1], right.shape[1]):
        raise ValueError(f"this operator takes [B, {left.shape[1]}, {right.shape[1]}, C], got {x.shape}")
    return jnp.einsum("hi,bijc,wj->bhwc", left, x, right, precision=jax.lax.Precision.HIGHEST)


def average_pool(shape: tuple[int, ...], factor: int) -> Separable:
    """Super-resolution: the mean of each block of factor x factor pixels; `shape` is (H, W, C) or (H, W).

    Raises:
      ValueError: a side cannot be divided by the factor.
    """
    sides = _divided(shape, factor)
    rows, cols = (np.kron(np.eye(n), np.full((1, factor), 1 / factor)) for n in sides)
    return separable(rows, cols)


def bicubic(shape: tuple[int, ...], factor: int) -> Separable:
    """Super-resolution: cubic interpolation (Keys, a = -1/2) to a factor-th of the size, with anti-aliasing.

    Raises:
      ValueError: a side cannot be divided by the factor.
    """
    rows, cols = (
        jax.image.resize(jnp.eye(n * factor), (n, n * factor), "cubic", antialias=True) for n in _divided(shape, factor)
    )
    return separable(rows, cols)


def gaussian_blur(shape: tuple[int, ...], std: float, least: float = 3e-2) -> Separable:
    """A Gaussian blur of `std` pixels, mirrored at the borders; singular values below `least` count as 0 (DDRM).

    Raises:
      ValueError: the standard deviation is not positive, or the shape is none of an image.
    """
    rows, cols = (_blur_matrix(n, std) for n in sides(shape))
    return separable(rows, cols, least)


def _blur_matrix(n: int, std: float) -> np.ndarray:
    check_number("a blur's standard deviation, in pixels,", std, 0, 100 * n, above=True)
    reach = int(np.ceil(4 * std))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / std) ** 2)
    taps /= taps.sum()
    matrix = np.zeros((n, n))
    for offset, tap in zip(range(-reach, reach + 1), taps, strict=True):
        position = np.arange(n) + offset
        mirrored = n - 1 - np.abs((position % (2 * n)) - n + 0.5).astype(int)  # ... 1 0 | 0 1 ... n-1 | n-1 ...
        np.add.at(matrix, (np.arange(n), mirrored), tap)
    return matrix


def _divided(shape: tuple[int, ...], factor: int) -> list[int]:
    size = sides(shape)
    check_count("the factor", factor)
    if any(n % factor for n in size):
        raise ValueError(f"a factor of {factor} does not divide the sides {size}")
    return [n // factor for n in size]

"""Resampling by two with a finite impulse response filter, to any size bilinearly, and patches.

For a symmetric kernel k of even length K, normalized to sum one, along each axis of x (zeros beyond the border):

    down  y[i] = sum_j k[j] x[2 i + j - K/2 + 1]                         (1)
    up    y[m] = 2 sum_i k[m - 2 i + K/2 - 1] x[i]                       (2)

so that up is twice the transpose of down. k = (1, 1) gives the mean of four pixels and nearest neighbours; (1, 3, 3, 1)
is the smooth kernel of StyleGAN2 and NCSN++ (Karras et al. 2020; Song et al. 2021, app. H).

From N to M pixels along an axis, with the first and the last pixels of both on one another (RefineNet's fusion):

    bilinear  y[m] = sum_i max(0, 1 - |p_m - i|) x[i],   p_m = m (N - 1) / (M - 1)                 (3)
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def taps(kernel: Sequence[float]) -> np.ndarray:
    """The kernel normalized to sum one.

    Raises:
      ValueError: its length is odd, or it is not symmetric.
    """
    k = np.asarray(kernel, np.float64)
    if k.ndim != 1 or len(k) % 2 or not np.array_equal(k, k[::-1]):
        raise ValueError(f"a resampling kernel has even length and is symmetric, such as (1, 3, 3, 1); got {kernel}")
    return k / k.sum()


def down(x: Array, kernel: Sequence[float]) -> Array:
    """Filter and halve: [B, H, W, C] -> [B, H/2, W/2, C], eq. (1) along H and W. H and W are even."""
    k = taps(kernel)
    for axis in (1, 2):
        n = x.shape[axis]
        p = _pad(x, axis, len(k) // 2 - 1)
        x = _sum(float(w) * jax.lax.slice_in_dim(p, j, j + n - 1, 2, axis) for j, w in enumerate(k))
    return x


def up(x: Array, kernel: Sequence[float]) -> Array:
    """Double and filter: [B, H, W, C] -> [B, 2 H, 2 W, C], eq. (2) along H and W."""
    k = taps(kernel)
    half = len(k) // 2
    for axis in (1, 2):
        n, reach = x.shape[axis], half // 2
        p = _pad(x, axis, reach)
        phases = []
        for r in range(2):  # m = 2 a + r takes tap j = 2 d + r + K/2 - 1 from i = a - d
            taps_of = {d: 2 * d + r + half - 1 for d in range(-reach, reach + 1)}
            phases.append(
                _sum(
                    float(2 * k[j]) * jax.lax.slice_in_dim(p, reach - d, reach - d + n, 1, axis)
                    for d, j in taps_of.items()
                    if 0 <= j < len(k)
                )
            )
        shape = (*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])
        x = jnp.stack(phases, axis + 1).reshape(shape)
    return x


def blur(x: Array, kernel: Sequence[float], pad: int) -> Array:
    """Filter along H and W after `pad` zeros on every side: [B, H, W, C] -> [B, H + 2 pad - K + 1, ...]."""
    k = taps(kernel)
    for axis in (1, 2):
        p = _pad(x, axis, pad)
        n = p.shape[axis] - len(k) + 1
        x = _sum(float(w) * jax.lax.slice_in_dim(p, j, j + n, 1, axis) for j, w in enumerate(k))
    return x


def bilinear(x: Array, shape: Sequence[int]) -> Array:
    """[B, H, W, C] -> [B, *shape, C], eq. (3) along H and W; x itself where the size is already right."""
    for axis, equation in ((1, "bhwc,mh->bmwc"), (2, "bhwc,mw->bhmc")):
        N, M = x.shape[axis], shape[axis - 1]
        if N != M:
            p = np.linspace(0, N - 1, M)
            hat = np.maximum(0, 1 - np.abs(p[:, None] - np.arange(N)))
            x = jnp.einsum(equation, x, jnp.asarray(hat, x.dtype))
    return x


def nearest(x: Array, shape: Sequence[int]) -> Array:
    """[B, H, W, C] -> [B, *shape, C]: pixel i of M is pixel floor(i N / M) of N, PyTorch's rule."""
    for axis in (1, 2):
        N, M = x.shape[axis], shape[axis - 1]
        if M % N == 0:
            x = jnp.repeat(x, M // N, axis=axis)  # a broadcast; its gradient is a sum
        else:
            x = jnp.take(x, np.arange(M) * N // M, axis=axis)
    return x


def space_to_depth(x: Array, p: int) -> Array:
    """[B, H, W, C] -> [B, H/p, W/p, p p C]."""
    B, H, W, C = x.shape
    return x.reshape(B, H // p, p, W // p, p, C).transpose(0, 1, 3, 2, 4, 5).reshape(B, H // p, W // p, p * p * C)


def depth_to_space(x: Array, p: int) -> Array:
    """[B, H, W, p p C] -> [B, p H, p W, C], the inverse of `space_to_depth`."""
    B, H, W, C = x.shape
    return x.reshape(B, H, W, p, p, C // (p * p)).transpose(0, 1, 3, 2, 4, 5).reshape(B, H * p, W * p, C // (p * p))


def _pad(x: Array, axis: int, n: int) -> Array:
    return jnp.pad(x, [(n, n) if a == axis else (0, 0) for a in range(x.ndim)]) if n else x


def _sum(terms) -> Array:
    first, *rest = terms
    return sum(rest, first)

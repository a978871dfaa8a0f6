"""The sliced 2-Wasserstein distance of two samples.

    SW_2^2 = E_u W_2^2(u . x, u . y),   u uniform on the unit sphere                                            (1)

(Rabin et al., 2011; Bonneel et al., 2015). On the line, W_2 compares quantile functions (Villani, 2003, section 2.2):

    W_2^2 = int_0^1 (F^-1(q) - G^-1(q))^2 dq                                                                    (2)

and the quantile functions of samples are steps, so that (2) is a finite sum, at equal sizes and at unequal ones. In D
dimensions a shift by m gives SW_2 = |m| / sqrt(D).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import safe_sqrt
from diffjax.checks import check_count, check_key, known
from diffjax.typing import Key


def sliced_wasserstein(key: Key, x: Array, y: Array, n_projections: int = 128) -> Array:
    """SW_2 of x [N, D] and y [M, D], a scalar, over `n_projections` random directions.

    Samples of equal sizes are compared in sorted order; others by (2), exactly. Equal samples are at a distance of 0,
    with a gradient of 0. While it is traced a NaN in a sample gives NaN.

    Raises:
      ValueError: the samples are not [N, D] and [M, D], are empty, or hold NaN or infinite values.
    """
    check_key(key)
    check_count("n_projections", n_projections)
    x, y = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (jnp.asarray(x), jnp.asarray(y)))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in x.shape + y.shape:
        raise ValueError(f"expected samples [N, D] and [M, D], not empty, got {x.shape} and {y.shape}")
    bad = [int((~np.isfinite(np.asarray(a))).any(1).sum()) for a in (x, y) if known(a)]
    if any(bad):
        raise ValueError(f"{sum(bad)} of {len(x) + len(y)} points hold NaN or infinite values: no distance is known")
    return compare_slices(key, x, y, *couple(len(x), len(y)), n_projections)


def couple(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps of (2) for n and m sorted samples: i [K], j [K] are matched with mass [K], K <= n + m - 1.

    The ends of the steps are the multiples of 1 / n and of 1 / m; counted in units of 1 / (n m) they are integers.
    """
    ends = np.union1d(m * np.arange(1, n + 1, dtype=np.int64), n * np.arange(1, m + 1, dtype=np.int64))
    starts = np.concatenate([[0], ends[:-1]])
    return (
        (starts // m).astype(np.int32),
        (starts // n).astype(np.int32),
        ((ends - starts) / (n * m)).astype(np.float32),
    )


@functools.partial(jax.jit, static_argnums=6)
def compare_slices(key: Key, x: Array, y: Array, i: Array, j: Array, mass: Array, n_projections: int) -> Array:
    """The mean of (2) over random directions, its root; i, j, mass as `couple` gives them."""
    u = jax.random.normal(key, (x.shape[1], n_projections), x.dtype)
    u = u / jnp.linalg.norm(u, axis=0)
    gap = jnp.sort(x @ u, axis=0)[i] - jnp.sort(y @ u, axis=0)[j]  # [K, n_projections]
    return safe_sqrt((mass @ gap**2).mean())

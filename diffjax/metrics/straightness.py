"""How straight the paths of a flow are (Liu et al. 2023, "Flow straight and fast", the measure S(Z)).

    S = int_0^1 |(Z_1 - Z_0) - dZ/du|^2 du,   u the time, scaled to run from 0 to 1                             (1)

It is 0 exactly where the path is a straight line run through at constant speed; one Euler step then is exact. For a
path that is linear between its nodes, with steps h_i that add up to 1 and moves d_i that add up to Z_1 - Z_0,

    S = sum_i h_i |Z_1 - Z_0 - d_i / h_i|^2                                                                     (2)

which on a finer and finer grid tends to (1) from below.
"""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import flat_sum


def straightness(ts: Array, xs: Array) -> Array:
    """S of each path [B] (Eq. 2), in squared units of x, summed over an example's entries.

    Args:
      ts: the grid, n + 1 times that fall strictly.
      xs: the paths, [n + 1, B, ...]: `sample(..., trajectory=True)` of a deterministic sampler.

    Raises:
      ValueError: the grid and the paths do not fit.
    """
    ts, xs = jnp.asarray(ts), jnp.asarray(xs)
    if ts.ndim != 1 or len(ts) < 2 or xs.shape[:1] != ts.shape or xs.ndim < 2:
        raise ValueError(f"expected ts [n + 1] and xs [n + 1, B, ...], got shapes {ts.shape} and {xs.shape}")
    h = (jnp.diff(ts) / (ts[-1] - ts[0])).reshape(-1, *[1] * (xs.ndim - 1))
    return flat_sum((h * (xs[-1] - xs[0] - jnp.diff(xs, axis=0) / h) ** 2).sum(0))

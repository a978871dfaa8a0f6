"""How straight the paths of a flow are (Liu et al. 2023, "Flow straight and fast", the measure S(Z)).

    S = int_0^1 |(Z_1 - Z_0) - dZ/du|^2 du,   u the time, scaled to run from 0 to 1                             (1)

It is 0 exactly where the path is a straight line run through at constant speed; one Euler step then is exact. For a
path that is linear between its nodes, with steps h_i that add up to 1 and moves d_i that add up to Z_1 - Z_0,

    S = sum_i h_i |Z_1 - Z_0 - d_i / h_i|^2                                                                     (2)

which on a finer and finer grid tends to (1) from below. A time that is repeated has h_i = 0 and, on a path, d_i = 0: as
h |Z - d/h|^2 = |h Z - d|^2 / h it adds nothing; a jump in no time adds infinity.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import flat_sum
from diffjax.checks import known


def straightness(ts: Array, xs: Array) -> Array:
    """S of each path [B] (Eq. 2), in squared units of x, summed over an example's entries.

    Args:
      ts: the grid, n + 1 times that fall; one may be repeated.
      xs: the paths, [n + 1, B, ...]: `sample(..., trajectory=True)` of a deterministic sampler.

    Raises:
      ValueError: the grid and the paths do not fit, or the grid turns round or stands still.
    """
    ts, xs = jnp.asarray(ts), jnp.asarray(xs)
    if ts.ndim != 1 or len(ts) < 2 or xs.shape[:1] != ts.shape or xs.ndim < 2:
        raise ValueError(f"expected ts [n + 1] and xs [n + 1, B, ...], got shapes {ts.shape} and {xs.shape}")
    if known(ts) and not (np.all(np.diff(ts) * np.sign(ts[-1] - ts[0]) >= 0) and ts[0] != ts[-1]):
        raise ValueError(f"the times of a path run one way, from noise to data; got {ts}")
    h = (jnp.diff(ts) / (ts[-1] - ts[0])).reshape(-1, *[1] * (xs.ndim - 1))
    gap = (h * (xs[-1] - xs[0]) - jnp.diff(xs, axis=0)) ** 2
    return flat_sum(jnp.where(h > 0, gap / jnp.where(h > 0, h, 1), jnp.where(gap > 0, jnp.inf, 0)).sum(0))

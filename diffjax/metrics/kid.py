"""The kernel distance (KID): an unbiased squared maximum mean discrepancy of features, with its standard error.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),   k(x, y) = (x . y / d + 1)^3                                  (1)

Gretton et al. (JMLR 13, 2012), equation (3), give the estimate without bias; Binkowski et al. (arXiv:1801.01401) the
cubic kernel. Being unbiased, it scatters about zero, on both sides, when the two sets have the same law, at any sample
size; many small negative values then balance a few larger positive ones. The sets are cut into disjoint blocks, whose
estimates are independent, so that the standard error of their mean is known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from diffjax.checks import check_count
from diffjax.metrics.frechet import check_features


class Estimate(NamedTuple):
    """A mean over independent blocks, and its standard error."""

    value: float
    stderr: float


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The cubic kernel of (1): [N, d], [M, d] -> [N, M]."""
    return (x @ y.T / x.shape[-1] + 1) ** 3


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of (1) from x [N, d] and y [M, d], N, M >= 2: no sample is paired with itself.

    Raises:
      ValueError: as `kid`.
    """
    x, y = check_features(x, "x", least=2), check_features(y, "y", least=2)

    def within(z: np.ndarray) -> float:
        n, k = len(z), kernel(z, z)
        return (k.sum() - np.trace(k)) / (n * (n - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


def kid(a: Any, b: Any, block_size: int = 500, seed: int = 0) -> Estimate:
    """The mean of `mmd2` over disjoint blocks of the features a [N, d] and b [M, d], which `seed` shuffles first.

    There are min(N, M) // block_size blocks; samples that are left over are not used. No covariance is inverted, so
    that N and M may be less than d.

    Raises:
      TypeError: block_size is no integer.
      ValueError: the features are not [N, d] or hold NaN; the dimensions differ; there is not enough for two blocks.
    """
    check_count("block_size", block_size, 0)
    a, b = check_features(a, "a", least=0), check_features(b, "b", least=0)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the sets have different dimensions: {a.shape[1]} and {b.shape[1]}")
    n_blocks = min(len(a), len(b)) // block_size if block_size >= 2 else 0
    if n_blocks < 2:
        fewest = min(len(a), len(b))
        raise ValueError(
            f"{fewest} samples do not give two blocks of {block_size}; choose 2 <= block_size <= {fewest // 2}"
        )
    rng = np.random.default_rng(seed)
    used = n_blocks * block_size
    pairs = zip(*(np.split(x[rng.permutation(len(x))[:used]], n_blocks) for x in (a, b)), strict=True)
    values = np.array([mmd2(x, y) for x, y in pairs])
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(n_blocks)))

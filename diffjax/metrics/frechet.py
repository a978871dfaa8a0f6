"""The Fréchet distance of two sets of features, in float64.

    FD = |m_1 - m_2|^2 + tr S_1 + tr S_2 - 2 tr (S_1^1/2 S_2 S_1^1/2)^1/2                                        (1)

is the squared 2-Wasserstein distance of Gaussians with means m_i and covariances S_i (Dowson and Landau, 1982); with
Inception features it is the FID (Heusel et al., arXiv:1706.08500). The trace of the root in (1) is the sum of the
singular values of S_1^1/2 S_2^1/2, and symmetric eigenvalues give both roots: no general matrix root is needed, nothing
becomes complex, and a singular covariance does no harm.

The estimate is biased upwards by an amount that falls as 1 / N, so values are comparable at equal counts only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Moments = tuple[np.ndarray, np.ndarray]  # mean [d], covariance [d, d]


def check_features(features: Any, name: str = "features", least: int | None = None) -> np.ndarray:
    """`features` [N, d] as float64.

    Raises:
      ValueError: they are not [N, d], hold NaN or infinite values, or are less than `least`: d + 1 by default, below
        which a covariance is singular and a Fréchet distance mostly bias.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or not features.size:
        raise ValueError(f"{name} must be [N, d] and not empty, got the shape {features.shape}")
    n, d = features.shape
    bad = int((~np.isfinite(features)).any(axis=1).sum())
    if bad:
        raise ValueError(f"{bad} of the {n} rows of {name} hold NaN or infinite values")
    if least is None and n <= d:
        raise ValueError(f"{name} has {n} samples of {d} dimensions: more samples than dimensions are needed")
    if n < (least or 0):
        raise ValueError(f"{name} has {n} samples: at least {least} are needed")
    return features


def moments(features: Any) -> Moments:
    """Mean [d] and unbiased covariance [d, d] of features [N, d]; errors as `check_features`."""
    features = check_features(features)
    mean = features.mean(axis=0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(a: Any, b: Any) -> float:
    """Equation (1), a squared distance; `a` and `b` are features [N, d], or moments (mean [d], covariance [d, d]).

    Raises:
      ValueError: as `check_features`; the dimensions differ; a covariance is not symmetric and non-negative.
    """
    (mean_a, cov_a), (mean_b, cov_b) = (check_moments(x) if isinstance(x, tuple) else moments(x) for x in (a, b))
    if mean_a.shape != mean_b.shape:
        raise ValueError(f"the sets have different dimensions: {len(mean_a)} and {len(mean_b)}")
    overlap = np.linalg.svd(symmetric_sqrt(cov_a) @ symmetric_sqrt(cov_b), compute_uv=False).sum()
    distance = np.square(mean_a - mean_b).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * overlap
    return max(float(distance), 0.0)  # rounding may leave -1e-12 between equal sets


def check_moments(given: tuple[Any, Any]) -> Moments:
    """Moments as float64; a ValueError unless they are finite, of fitting shapes, and the covariance symmetric."""
    mean, cov = (np.asarray(x, np.float64) for x in given)
    if mean.ndim != 1 or cov.shape != 2 * mean.shape:
        raise ValueError(f"moments must be a mean [d] and a covariance [d, d], got {mean.shape} and {cov.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(cov).all()):
        raise ValueError("the moments hold NaN or infinite values")
    if not np.allclose(cov, cov.T, atol=1e-6 * np.abs(cov).max(initial=0)):
        raise ValueError("the covariance is not symmetric")
    return mean, (cov + cov.T) / 2


def symmetric_sqrt(cov: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance; eigenvalues that rounding made negative count as zero.

    The covariance may be singular, and be rounded to float32: eigenvalues then err by eps x d x the largest.
    """
    values, vectors = np.linalg.eigh(cov)
    if values[0] < -max(1e-6, 1.2e-7 * len(cov)) * max(values[-1], 0):
        raise ValueError(f"not a covariance: it has the eigenvalue {values[0]:.3g} beside {values[-1]:.3g}")
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T

"""Distances between distributions of samples, and the features they are measured in."""

from diffjax.metrics.features import FeatureFn, batched, fashion_features, fashion_layers
from diffjax.metrics.frechet import frechet_distance, moments
from diffjax.metrics.image import feature_distance, psnr, ssim
from diffjax.metrics.kid import Estimate, kid, mmd2
from diffjax.metrics.lite0 import lite0_features, lite0_layers
from diffjax.metrics.pushforward import pushforward_kl
from diffjax.metrics.report import Report, report
from diffjax.metrics.sliced_wasserstein import sliced_wasserstein
from diffjax.metrics.straightness import straightness

__all__ = [
    "Estimate",
    "FeatureFn",
    "Report",
    "batched",
    "fashion_features",
    "fashion_layers",
    "feature_distance",
    "frechet_distance",
    "kid",
    "lite0_features",
    "lite0_layers",
    "mmd2",
    "moments",
    "psnr",
    "pushforward_kl",
    "report",
    "sliced_wasserstein",
    "ssim",
    "straightness",
]

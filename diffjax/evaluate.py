"""Judging an image model: samples in batches, distances beside their floors, bits per dimension."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax import metrics
from diffjax.arrays import example_keys
from diffjax.data import ImageData, batches, to_float
from diffjax.likelihood import bits_per_dim, log_likelihood
from diffjax.samplers import sample
from diffjax.sde import prior_sample
from diffjax.typing import SDE, Denoiser, Key, Sampler


def generate(
    key: Key,
    denoise: Denoiser,
    sde: SDE,
    sampler: Sampler,
    ts: Array,
    shape: tuple[int, ...],
    batch_size: int = 128,
) -> np.ndarray:
    """Samples [n, ...] of the given shape, `batch_size` at a time; image i is the same for every n and batch size."""
    chunks = [np.asarray(x) for _, x in _draws(key, denoise, sde, sampler, ts, shape, batch_size)]
    return np.concatenate(chunks)[: shape[0]]


def reflow_pairs(
    key: Key,
    denoise: Denoiser,
    sde: SDE,
    sampler: Sampler,
    ts: Array,
    shape: tuple[int, ...],
    batch_size: int = 128,
) -> dict[str, np.ndarray]:
    """Samples and where they came from: {"noise", "image"}, each of the given shape; a batch for `losses.DSM`.

    The noise is eps = x_T / sigma(T). Flow matching on such pairs of a deterministic sampler is a reflow: its ODE has
    the same ends and straighter paths (Liu et al. 2023). The images are those of `generate`.
    """
    draws = _draws(key, denoise, sde, sampler, ts, shape, batch_size)
    pairs = [(np.asarray(x / sde.sigma(sde.T)), np.asarray(x0)) for x, x0 in draws]
    noise, image = (np.concatenate(chunks)[: shape[0]] for chunks in zip(*pairs, strict=True))
    return {"noise": noise, "image": image}


def _draws(key, denoise, sde, sampler, ts, shape, batch_size) -> Iterator[tuple[Array, Array]]:
    """Batches (x at T, x at the end), all of one size, until there are shape[0] examples at least."""
    n = shape[0]
    batch_size = min(batch_size, n)
    whole = -(-n // batch_size) * batch_size  # one compiled shape serves all batches
    k_prior, k_steps = (example_keys(k, whole) for k in jax.random.split(key))
    for i in range(0, n, batch_size):
        part = slice(i, i + batch_size)
        x = prior_sample(k_prior[part], sde, (batch_size, *shape[1:]))
        yield x, sample(k_steps[part], denoise, sde, sampler, ts, x)


def features_for(images: ImageData) -> Callable[[Any], np.ndarray] | None:
    """What distances are measured in: a classifier's features for Fashion-MNIST, the pixels of images up to 8 x 8.

    RGB images are seen by EfficientNet-Lite0 where it has been fetched.
    """
    if images.name == "fashion_mnist":
        return metrics.fashion_features()
    if images.shape[-1] == 3:
        try:
            return metrics.lite0_features(images.shape)
        except FileNotFoundError:
            return None
    return (lambda x: np.asarray(x).reshape(len(x), -1)) if np.prod(images.shape) <= 64 else None


def judge(images: ImageData) -> Callable[[np.ndarray], dict[str, Any]] | None:
    """A function of samples x: Fréchet distance and KID from the training images, beside those of the test images.

    None where there are no features for this data set. It raises as `metrics.report`.
    """
    features = features_for(images)
    if features is None:
        return None
    train, test = (features(to_float(part)) for part in (images.train_images, images.test_images))
    return lambda x: dataclasses.asdict(metrics.report(train, features(x), test))


def distances(images: ImageData, x: np.ndarray) -> dict[str, Any]:
    """What `judge` says of samples x, or nothing."""
    of = judge(images)
    return of(x) if of is not None else {}


def bits(key: Key, denoise: Denoiser, sde: SDE, images: ImageData, n: int, **options: Any) -> dict[str, float]:
    """Bits per dimension of n test images, dequantised, by the probability-flow ODE, and the error of their mean.

    The options are those of `likelihood.estimate`. Nothing is returned for n < 2.
    """
    n = min(n, len(images.test_images))
    if n < 2:
        return {}
    x = next(batches(images.test_images, images.test_labels, n, seed=0, dequantise=True))["image"]
    bpd = np.asarray(bits_per_dim(log_likelihood(key, denoise, sde, jnp.asarray(x), **options), x[0].size))
    return {"bits_per_dim": float(bpd.mean()), "bits_per_dim_stderr": float(bpd.std(ddof=1) / np.sqrt(n))}

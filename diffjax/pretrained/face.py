"""Face recognition: dlib's residual network, whose embeddings lie near one another where the person is the same.

    x       = max-pool(relu(conv7(image)))                   from 150 x 150 pixels to 35 x 35
    plain   x = relu(x + conv3(relu(conv3(x))))                                                    (1)
    halving x = relu(pad(avg-pool(x)) + pad(conv3(relu(conv3 with stride 2(x)))))                  (2)
    result  = W mean(x)                                      over the last 2 x 2 pixels; 128 numbers

Every convolution is followed by an affine map of its channels. In eq. (2) the shortcut has fewer channels than the
other path, and at times a row and a column more: what is missing is filled with zeros, behind. dlib trained the network
with a metric loss on three million faces; two faces nearer than 0.6 (Euclidean) count as one person.

The parameters are those of the npm package @vladmandic/face-api 1.7.15 (MIT), quantised to uint8; `FACE_NET` names the
file. Sources: He et al. (2016), Deep residual learning; King (2009), Dlib-ml, and its dnn_face_recognition_ex.cpp; the
package's src/faceRecognitionNet. As in the package an image is divided by 255, where dlib divides by 256.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.formats.tfjs import load_manifest
from diffjax.parameters import compare
from diffjax.pretrained.layers import affine_conv, avg_pool, fold, max_pool, rgb
from diffjax.typing import PyTree

FACE_NET = ("@vladmandic/face-api", "model/face_recognition_model-weights_manifest.json")  # package, file
SIZE = 150
MEAN = (122.782, 117.001, 104.298)  # of R, G and B, in 0 .. 255
BLOCKS = (  # name, channels, halving or plain
    ("conv32_1", 32, False),
    ("conv32_2", 32, False),
    ("conv32_3", 32, False),
    ("conv64_down", 64, True),
    ("conv64_1", 64, False),
    ("conv64_2", 64, False),
    ("conv64_3", 64, False),
    ("conv128_down", 128, True),
    ("conv128_1", 128, False),
    ("conv128_2", 128, False),
    ("conv256_down", 256, True),
    ("conv256_1", 256, False),
    ("conv256_2", 256, False),
    ("conv256_down_out", 256, True),
)


def load_face_net(path: str | Path) -> Partial:
    """Images [B, H, W, 3] in [-1, 1] -> embeddings [B, 128], differentiable; `path` is that of the manifest.

    Images of any size are resized to 150 x 150 bilinearly, and smoothed first where they are larger, so that no pixel
    is skipped and left without a gradient. The network expects one upright face that fills most of a square image: of
    CelebA's aligned images, 178 x 218, about the middle 120 x 120 (left 29, top 59). Embeddings have a length of about
    1.4 and are not normalized. The result is `Partial(embed, params)`.

    Raises:
      FileNotFoundError: the manifest or the file of weights beside it is missing.
      ValueError: they are truncated, or hold another network (the first difference is named).
    """
    arrays = load_manifest(path)
    compare(path, arrays, layout())
    return Partial(embed, jax.device_put(arrange(arrays)))


def embed(params: PyTree, images: Array) -> Array:
    """[B, H, W, 3] in [-1, 1] -> [B, 128].

    Raises:
      ValueError: the images have another shape.
    """
    return stages(params, images)[-1].mean((1, 2)) @ params["out"]


def stages(params: PyTree, images: Array) -> list[Array]:
    """The maps behind the first convolution, [B, 35, 35, 32], and behind each block. It raises as `embed`."""
    x = rgb(images, params["out"].dtype)
    x = jax.image.resize(x, (len(x), SIZE, SIZE, 3), "linear", antialias=True)
    x = (127.5 * (x + 1) - jnp.asarray(MEAN, x.dtype)) / 255
    found = [max_pool(jax.nn.relu(affine_conv(params["in"], x, 2, "VALID")))]
    for block, (_, _, halving) in zip(params["blocks"], BLOCKS, strict=True):
        found.append(_residual(block, found[-1], halving))
    return found


def _residual(block: PyTree, x: Array, halving: bool) -> Array:
    """Eq. (1) or eq. (2): [B, H, W, I] -> [B, H', W', O]."""
    stride, padding = (2, "VALID") if halving else (1, "SAME")
    y = affine_conv(block["conv2"], jax.nn.relu(affine_conv(block["conv1"], x, stride, padding)))
    if halving:
        x = avg_pool(x)
    larger = np.maximum(x.shape, y.shape)
    x, y = (jnp.pad(z, [(0, n - m) for n, m in zip(larger, z.shape, strict=True)]) for z in (x, y))
    return jax.nn.relu(x + y)


def layout() -> dict[str, jax.ShapeDtypeStruct]:
    """The names and shapes of the arrays in the package."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(name: str, size: int, inputs: int, outputs: int) -> None:
        shapes[f"{name}/conv/filters"] = (size, size, inputs, outputs)
        for last in ("conv/bias", "scale/weights", "scale/biases"):
            shapes[f"{name}/{last}"] = (outputs,)

    convolution("conv32_down", 7, 3, 32)
    inputs = 32
    for name, outputs, _ in BLOCKS:
        convolution(f"{name}/conv1", 3, inputs, outputs)
        convolution(f"{name}/conv2", 3, outputs, outputs)
        inputs = outputs
    shapes["fc"] = (inputs, 128)
    return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}


def arrange(arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The package's arrays as the parameters of `embed`, each affine map folded into its convolution."""

    def convolution(name: str) -> dict[str, np.ndarray]:  # s (w * x + b) + t
        w, b, s, t = (
            arrays[f"{name}/{last}"].astype(np.float64)
            for last in ("conv/filters", "conv/bias", "scale/weights", "scale/biases")
        )
        return fold(w, s, s * b + t)

    blocks = [{part: convolution(f"{name}/{part}") for part in ("conv1", "conv2")} for name, _, _ in BLOCKS]
    return {"in": convolution("conv32_down"), "blocks": blocks, "out": arrays["fc"]}

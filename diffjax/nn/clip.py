"""CLIP (Radford et al. 2021): images and texts as directions in one space, near one another where they belong together.

The image tower is any of our networks that turns images into vectors, the text tower a linear map of a frozen
encoder's sentence vectors (`pretrained.load_minilm`): for a few thousand captions that is enough.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class CLIP(nn.Module):
    """x [B, H, W, C], c_noise [] or [B], text [N, E] -> unit vectors [B, dim] and [N, dim], and the scale of cosines.

    `apply(params, x, c_noise, method="image")` and `apply(params, text, method="words")` are the towers by themselves.

    Attributes:
      tower: images, c_noise -> vectors; for instance `Classifier(num_classes=128)`.
      dim: of the common space, which is that of the tower's vectors.
    """

    tower: nn.Module
    dim: int = 128
    max_scale: float = 100.0

    def setup(self):
        self.project = nn.Dense(self.dim, use_bias=False, name="text")
        self.log_scale = self.param("log_scale", nn.initializers.constant(jnp.log(1 / 0.07)), ())

    def image(self, x: Array, c_noise: Array | float = 0.0, train: bool = False) -> Array:
        return normalised(self.tower(x, c_noise, train=train))  # pyright: ignore[reportCallIssue]

    def words(self, text: Array) -> Array:
        return normalised(self.project(text))

    def __call__(self, x: Array, c_noise: Any, text: Array, train: bool = False) -> tuple[Array, Array, Array]:
        scale = jnp.minimum(jnp.exp(self.log_scale), self.max_scale)
        return self.image(x, c_noise, train), self.words(text), scale


def normalised(y: Array) -> Array:
    """[N, D] -> [N, D], of length one."""
    return y / jnp.sqrt(jnp.sum(y**2, axis=-1, keepdims=True) + 1e-12)

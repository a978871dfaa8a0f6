"""Inpainting: some pixels are known."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.typing import pytree


@pytree
class Mask:
    """y = mask * x; `mask` broadcasts against x [B, H, W, C], 1 where a pixel is KNOWN, 0 where it is to be filled in.

    (diffusers' inpainting pipelines have the opposite sense.) The measurement is shaped like x, 0 where unknown.

    Raises:
      ValueError: a value is neither 0 nor 1.
    """

    mask: Any

    def __post_init__(self):
        if not isinstance(self.mask, Tracer) and not np.isin(np.asarray(self.mask), (0, 1)).all():
            raise ValueError("a mask holds 1 where a pixel is known and 0 elsewhere; threshold other values first")

    @property
    def s(self) -> Array:
        return jnp.asarray(self.mask, float)

    def __call__(self, x: Array) -> Array:
        return x * self.s

    def Vt(self, x: Array) -> Array:
        return x

    def V(self, z: Array) -> Array:
        return z

    def Ut(self, y: Array) -> Array:
        return y * self.s

    def U(self, w: Array) -> Array:
        return w * self.s

"""Inpainting: some pixels are known."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import known
from diffjax.operators.linear import images
from diffjax.typing import pytree


@pytree
class Mask:
    """y = mask * x; `mask` broadcasts against x [B, H, W, C], 1 where a pixel is KNOWN, 0 where it is to be filled in.

    (diffusers' inpainting pipelines have the opposite sense.) The measurement is shaped like x, 0 where unknown: what
    stands there in x does not matter, be it NaN. A mask of 0 alone measures nothing, and is allowed.

    Raises:
      ValueError: a value is neither 0 nor 1; when called, the mask does not broadcast against x.
    """

    mask: Any

    def __post_init__(self):
        if known(self.mask) and not np.isin(np.asarray(self.mask), (0, 1)).all():
            raise ValueError("a mask holds 1 where a pixel is known and 0 elsewhere; threshold other values first")

    @property
    def s(self) -> Array:
        return jnp.asarray(self.mask, float)

    def __call__(self, x: Array) -> Array:
        return self._known(images(x))

    def Vt(self, x: Array) -> Array:
        return images(x)

    def V(self, z: Array) -> Array:
        return z

    def Ut(self, y: Array) -> Array:
        return self._known(images(y))

    def U(self, w: Array) -> Array:
        return self._known(w)

    def _known(self, x: Array) -> Array:
        s = self.s
        if s.ndim > x.ndim or any(m not in (1, n) for m, n in zip(s.shape[::-1], x.shape[::-1], strict=False)):
            raise ValueError(f"a mask of shape {s.shape} does not fit x {x.shape}: make it [H, W, 1] or [B, H, W, 1]")
        return jnp.where(s > 0, x, 0)

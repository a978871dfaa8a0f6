"""Operators that are only differentiable: for DPS, MPGD and reconstruction guidance. Images are [B, H, W, C]."""

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.typing import pytree, static


@pytree
class PhaseRetrieval:
    """y = |Fourier transform| of the image in [0, 1], padded by `pad` zeros on every side (Chung et al. 2023, DPS)."""

    pad: int = static(default=0)

    def __call__(self, x: Array) -> Array:
        around = [(0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0)]
        z = jnp.fft.fft2(jnp.pad(x / 2 + 0.5, around), axes=(1, 2), norm="ortho")
        square = z.real**2 + z.imag**2
        return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)  # a finite slope at 0


@pytree
class HDR:
    """y = clip(factor x, -1, 1): an over-exposed photograph; the slope is 0 where it is clipped."""

    factor: float = 2.0

    def __call__(self, x: Array) -> Array:
        return jnp.clip(self.factor * x, -1, 1)


@pytree
class NonlinearBlur:
    """A blur of linear light, seen through a camera's curve: y = c(blur(c^-1(x))), c(v) = v^(1/gamma) on [0, 1]."""

    blur: object  # an operator that keeps the shape
    gamma: float = 2.2

    def __call__(self, x: Array) -> Array:
        light = jnp.clip(x / 2 + 0.5, 1e-3, 1) ** self.gamma
        return 2 * jnp.clip(self.blur(light), 1e-6, 1) ** (1 / self.gamma) - 1  # type: ignore[operator]


@pytree
class Quantise:
    """y = x rounded to `levels` equal steps on [-1, 1]; the gradient is that of the identity (straight-through)."""

    levels: int = static(default=8)

    def __call__(self, x: Array) -> Array:
        n = self.levels - 1
        rounded = 2 * jnp.round((jnp.clip(x, -1, 1) + 1) / 2 * n) / n - 1
        return x + jax.lax.stop_gradient(rounded - x)

"""Operators that are only differentiable: for DPS, MPGD and reconstruction guidance. Images are [B, H, W, C]."""

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import safe_sqrt
from diffjax.checks import check_count, check_has, check_number
from diffjax.operators.linear import images
from diffjax.typing import pytree, static

DARK = 1e-3  # the least grey level, of white, that `NonlinearBlur` tells from black


@pytree
class PhaseRetrieval:
    """y = |Fourier transform| of the image in [0, 1], padded by `pad` zeros on every side (Chung et al. 2023, DPS).

    The modulus has no slope at 0: it is taken for 0, the middle of those around.
    """

    pad: int = static(default=0)

    def __post_init__(self):
        check_count("pad", self.pad, 0)

    def __call__(self, x: Array) -> Array:
        x = images(x)
        around = [(0, 0), (self.pad, self.pad), (self.pad, self.pad), (0, 0)]
        z = jnp.fft.fft2(jnp.pad(x / 2 + 0.5, around), axes=(1, 2), norm="ortho")
        return safe_sqrt(z.real**2 + z.imag**2)


@pytree
class HDR:
    """y = clip(factor x, -1, 1): an over-exposed photograph; the slope is 0 where it is clipped.

    Raises a ValueError unless the factor is positive.
    """

    factor: float = 2.0

    def __post_init__(self):
        check_number("HDR's factor", self.factor, 0, above=True)

    def __call__(self, x: Array) -> Array:
        return jnp.clip(self.factor * images(x), -1, 1)


@pytree
class NonlinearBlur:
    """A blur of linear light, seen through a camera's curve: y = c(blur(c^-1(x))), c(v) = v^(1/gamma) on [0, 1].

    c has no slope at 0: grey levels below `DARK` = 1e-3 of white count as that, before the blur and after.

    Raises a ValueError unless gamma is positive.
    """

    blur: object  # an operator that keeps the shape
    gamma: float = 2.2

    def __post_init__(self):
        check_has(self.blur, "a blur, such as operators.gaussian_blur(shape, std),", "__call__")
        check_number("gamma", self.gamma, 0, above=True)

    def __call__(self, x: Array) -> Array:
        light = jnp.clip(images(x) / 2 + 0.5, DARK, 1) ** self.gamma
        seen = jnp.clip(self.blur(light), DARK**self.gamma, 1)  # type: ignore[operator]
        return 2 * seen ** (1 / self.gamma) - 1


@pytree
class Quantise:
    """y = x rounded to `levels` equal steps on [-1, 1]; the gradient is that of the identity (straight-through).

    Raises a ValueError for less than two levels.
    """

    levels: int = static(default=8)

    def __post_init__(self):
        check_count("levels", self.levels, 2, why="steps from -1 to 1 have two ends")

    def __call__(self, x: Array) -> Array:
        x = images(x)
        n = self.levels - 1
        rounded = 2 * jnp.round((jnp.clip(x, -1, 1) + 1) / 2 * n) / n - 1
        return x + jax.lax.stop_gradient(rounded - x)

"""What a network sees of an image, as something to measure: guidance by identity, by text and by style.

`Misfit(Measurement(operator, y))` is then the guiding loss of a clean estimate, for any method that takes a loss:

    identity   |f(x_0) - f(reference)|          f a face recognition network, as it is (FaceID guidance)
    text       |f(x_0) - g(caption)|^2 = 2 - 2 cos      with `Unit(f)`, f and g the two towers of a CLIP
    style      |G(x_0) - G(reference)|          `Gram(features)` (Gatys et al. 2016), which knows no places:

    (1) G_l = (1 / (H W C)) sum over pixels of f_l f_l^T       for each feature map f_l [H, W, C]

The guided applications are those of MPGD (He et al. 2024, Section 5.2), with networks of one's own choice.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from diffjax.typing import pytree


@pytree
class Unit:
    """y = f(x) / |f(x)|, [B, D]: `embed` is any function of images."""

    embed: Callable  # [B, H, W, C] -> [B, D]

    def __call__(self, x: Array) -> Array:
        y = self.embed(x)
        return y / jnp.sqrt(jnp.sum(y**2, axis=-1, keepdims=True) + 1e-12)


@pytree
class Gram:
    """Eq. 1 for the map, or for each of the maps, that `features` finds; their entries in a row, [B, sum C^2]."""

    features: Callable  # [B, H, W, C] -> [B, h, w, D], or a sequence of such

    def __call__(self, x: Array) -> Array:
        maps = self.features(x)
        maps = [maps] if hasattr(maps, "ndim") else maps
        grams = [jnp.einsum("bhwc,bhwd->bcd", f, f) / f[0].size for f in maps]
        return jnp.concatenate([g.reshape(len(x), -1) for g in grams], axis=-1)

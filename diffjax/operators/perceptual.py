"""A network's features of an image as a measurement: guidance by identity, by text and by style.

`Misfit(Measurement(operator, y))` is then the guiding loss of a clean estimate, for any method that takes a loss:

    identity   |f(x_0) - f(reference)|          f a face recognition network, as it is (FaceID guidance)
    text       |f(x_0) - g(caption)|^2 = 2 - 2 cos      with `UnitNorm(f)`, f and g the two towers of a CLIP
    style      |G(x_0) - G(reference)|          `Gram(features)` (Gatys et al. 2016), without places:

Features of one view can be matched by grain that means nothing to another network; `Views(f, windows)` takes several at
once (the cutouts of Crowson's CLIP guidance, 2021).

    (1) G_l = (1 / (H W C)) sum over pixels of f_l f_l^T       for each feature map f_l [H, W, C]

The guided applications are those of MPGD (He et al. 2024, Section 5.2), with networks of one's own choice.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import safe_sqrt
from diffjax.checks import check_has, known
from diffjax.typing import pytree


@pytree
class UnitNorm:
    """y = f(x) / |f(x)|, [B, D], of length 1: `embed` is any function of images.

    f(x) = 0 has no direction: y is 0 there, the mean of those around, and its slope 0. So is its cosine with anything.
    """

    embed: Callable  # [B, H, W, C] -> [B, D]

    def __call__(self, x: Array) -> Array:
        return directions(self.embed(x))


def directions(y: Array) -> Array:
    """y [..., D] over its length, 0 where y = 0; over its largest entry first, so that no square underflows."""
    y = jnp.asarray(y)
    largest = jax.lax.stop_gradient(jnp.abs(y).max(-1, keepdims=True))
    y = y / jnp.where(largest > 0, largest, 1)
    size = safe_sqrt(jnp.sum(y**2, axis=-1, keepdims=True))
    return jnp.where(size > 0, y / jnp.where(size > 0, size, 1), 0)


WINDOWS = np.array(  # magnified by, shifted down, right, mirrored; half pixels, so that each pixel enters two
    [
        (1.0, 0, 0, 0), (1.0, 0.5, 0.5, 1), (1.1, -1.5, 0.5, 1), (1.0, -0.5, 1.5, 0),
        (1.15, 0.5, -0.5, 0), (1.05, 1.5, -0.5, 1), (1.1, 0.5, -1.5, 0), (1.2, -0.5, 0.5, 1),
    ],
    np.float32,
)  # fmt: skip


@pytree
class Views:
    """f of K views of an image side by side, [B, K D], in one call on K B images.

    A view magnifies the image about its centre by a factor, moves it down and right by so many pixels, and mirrors it
    or not: `windows` [K, 4], bilinear, black outside.

    Raises:
      ValueError: the windows are not [K, 4], or a magnification is not positive.
    """

    embed: Callable  # [B, H, W, C] -> [B, D]
    windows: Array | np.ndarray = dataclasses.field(default_factory=lambda: WINDOWS)

    def __post_init__(self):
        check_has(self.embed, "a function of images,", "__call__")
        if known(self.windows) and np.ndim(self.windows) == 2 and not np.all(np.asarray(self.windows)[:, 0] > 0):
            raise ValueError("a window's magnification must be positive")

    def __call__(self, x: Array) -> Array:
        windows = jnp.asarray(self.windows)
        if windows.ndim != 2 or windows.shape[1] != 4:
            raise ValueError(f"windows are [K, 4]: magnification, shift down and right, mirrored; got {windows.shape}")
        views = jax.vmap(lambda window: view(x, window))(windows)
        y = self.embed(views.reshape(-1, *x.shape[1:]))
        return y.reshape(len(views), len(x), -1).swapaxes(0, 1).reshape(len(x), -1)


def view(x: Array, window: Array) -> Array:
    """One view of images [B, H, W, C] in [-1, 1]; see `Views`."""
    size, shift, mirrored = window[0], window[1:3], window[3]
    offset = jnp.array(x.shape[1:3]) / 2 * (1 - size) + shift
    # from black, -1, so that what lies outside is black too
    seen = jax.image.scale_and_translate(x + 1, x.shape, (1, 2), jnp.full(2, size), offset, "linear", antialias=False)
    return jnp.where(mirrored > 0, seen[:, :, ::-1], seen) - 1


@pytree
class Gram:
    """Eq. 1 for the map, or for each of the maps, that `features` finds; their entries in a row, [B, sum C^2]."""

    features: Callable  # [B, H, W, C] -> [B, h, w, D], or a sequence of such

    def __call__(self, x: Array) -> Array:
        maps = self.features(x)
        maps = [maps] if hasattr(maps, "ndim") else maps
        if any(f.ndim != 4 for f in maps):
            raise ValueError(f"feature maps are [B, h, w, D], got shapes {[f.shape for f in maps]}")
        grams = [jnp.einsum("bhwc,bhwd->bcd", f, f) / f[0].size for f in maps]
        return jnp.concatenate([g.reshape(len(x), -1) for g in grams], axis=-1)

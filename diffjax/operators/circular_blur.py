"""Convolution with a kernel on a torus: diagonal in the Fourier basis, so that every kernel has an exact inverse."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.operators.linear import images, sides, threshold
from diffjax.typing import pytree

PIXELS = (1, 2)  # the axes of an image's rows and columns


@pytree
class CircularBlur:
    """y = kernel * x with wrap-around borders; `response` [H, W] is the kernel's Fourier transform, see `blur`.

    The spectrum is complex, [B, H, W, C]: the image's unitary Fourier transform. Where the response is 0 its phase is
    taken for 0: any would do, since nothing of that frequency is measured.
    """

    response: Array

    @property
    def s(self) -> Array:
        return jnp.abs(self.response)[..., None]

    @property
    def phase(self) -> Array:
        size = jnp.abs(self.response)
        return jnp.where(size > 0, self.response / jnp.where(size > 0, size, 1), 1)[..., None]

    def __call__(self, x: Array) -> Array:
        return jnp.fft.ifft2(self.response[..., None] * self.Vt(x), axes=PIXELS, norm="ortho").real

    def Vt(self, x: Array) -> Array:
        x = images(x)
        if x.ndim != 4 or x.shape[1:3] != self.response.shape:
            raise ValueError(f"this blur takes [B, {', '.join(map(str, self.response.shape))}, C], got {x.shape}")
        return jnp.fft.fft2(x, axes=PIXELS, norm="ortho")

    def V(self, z: Array) -> Array:
        return jnp.fft.ifft2(z, axes=PIXELS, norm="ortho").real

    def Ut(self, y: Array) -> Array:
        return jnp.where(self.s > 0, jnp.conj(self.phase) * self.Vt(y), 0)

    def U(self, w: Array) -> Array:
        return self.V(jnp.where(self.s > 0, self.phase * w, 0))


def circular_blur(shape: tuple[int, ...], kernel: Any, least: float | None = None) -> CircularBlur:
    """The blur of images (H, W, C) by a kernel [h, w] of odd sides, centred.

    Values of |response| below `least` times the largest become 0 (default eps x the longer side).

    Raises:
      ValueError: the kernel has an even side, is larger than the image or holds NaN; the shape is none of an image.
    """
    kernel, size = np.asarray(kernel, np.float64), sides(shape)
    if kernel.ndim != 2 or not all(k % 2 and k <= n for k, n in zip(kernel.shape, size, strict=True)):
        raise ValueError(f"a kernel has odd sides, no larger than the image {size}; got shape {kernel.shape}")
    if not np.isfinite(kernel).all():
        raise ValueError("the kernel holds NaN or infinite values")
    padded = np.zeros(size)
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    centred = np.roll(padded, [-(k // 2) for k in kernel.shape], axis=(0, 1))
    response = np.fft.fft2(centred)
    seen = np.abs(response) >= threshold(np.abs(response), max(size), least)
    return CircularBlur(jnp.asarray(np.where(seen, response, 0)))

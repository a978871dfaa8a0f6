"""Convolution with a kernel on a torus: diagonal in the Fourier basis, so that every kernel has an exact inverse."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.typing import pytree

PIXELS = (1, 2)  # the axes of an image's rows and columns


@pytree
class CircularBlur:
    """y = kernel * x with wrap-around borders; `response` [H, W] is the kernel's Fourier transform, see `blur`.

    The spectrum is complex, [B, H, W, C]: the image's unitary Fourier transform.
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
        if x.ndim != 4 or x.shape[1:3] != self.response.shape:
            raise ValueError(f"this blur takes [B, {', '.join(map(str, self.response.shape))}, C], got {x.shape}")
        return jnp.fft.fft2(x, axes=PIXELS, norm="ortho")

    def V(self, z: Array) -> Array:
        return jnp.fft.ifft2(z, axes=PIXELS, norm="ortho").real

    def Ut(self, y: Array) -> Array:
        return jnp.conj(self.phase) * self.Vt(y)

    def U(self, w: Array) -> Array:
        return self.V(self.phase * w)


def circular_blur(shape: tuple[int, ...], kernel: Any, least: float = 0.0) -> CircularBlur:
    """The blur of images (H, W, C) by a kernel [h, w] of odd sides, centred; values of |response| < least become 0.

    Raises:
      ValueError: the kernel has an even side, or is larger than the image.
    """
    kernel = np.asarray(kernel, np.float64)
    if kernel.ndim != 2 or not all(k % 2 and k <= n for k, n in zip(kernel.shape, shape[:2], strict=True)):
        raise ValueError(f"a kernel has odd sides, no larger than the image {shape[:2]}; got shape {kernel.shape}")
    padded = np.zeros(shape[:2])
    padded[: kernel.shape[0], : kernel.shape[1]] = kernel
    centred = np.roll(padded, [-(k // 2) for k in kernel.shape], axis=(0, 1))
    response = np.fft.fft2(centred)
    return CircularBlur(jnp.asarray(np.where(np.abs(response) < least, 0, response)))

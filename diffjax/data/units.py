"""The units of pictures: grey levels 0..255 as uint8, and their scaling to [-1, 1], in which networks work.

x -> x / 127.5 - 1                                      grey levels, `to_float`
x -> rint(127.5 (x + 1)), clipped to 0..255             its inverse, `to_uint8`
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

AS_IS = "pass as_is=True if these are no pictures but latents or features, which are taken as they are"


def to_float(images: Any) -> np.ndarray:
    """uint8 in 0..255 -> float32 in [-1, 1], the scaling that `batches` applies.

    Raises:
      TypeError: the images are not uint8.
    """
    images = as_array("images", images)
    if images.dtype != np.uint8:
        raise TypeError(f"to_float scales uint8 images in 0..255, got {images.dtype}{between(images)}")
    return images.astype(np.float32) / np.float32(127.5) - 1


def to_uint8(x: Any) -> np.ndarray:
    """[-1, 1] -> uint8, rounded and clipped: the inverse of `to_float`.

    Raises:
      TypeError: the values are integers (uint8 images are finished already), booleans or complex.
      ValueError: a value is NaN.
    """
    x = as_array("images", x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"to_uint8 scales floats in [-1, 1], got {x.dtype}{between(x)}")
    x = x.astype(np.float32)
    if np.isnan(x).any():
        raise ValueError(f"{int(np.isnan(x).sum())} of {x.size} values are NaN: there is no grey level for them")
    return np.clip(np.rint((x + 1) * 127.5), 0, 255).astype(np.uint8)


def as_array(name: str, value: Any) -> np.ndarray:
    """A NumPy or JAX array, or a list of numbers or strings, as a NumPy array.

    Raises:
      TypeError: it is no array: None, a number of JAX that is being traced, a list of lists of unequal lengths.
    """
    if isinstance(value, Tracer):
        raise TypeError(f"{name} must be an array of known values, not one that JAX is tracing: call this outside jit")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise TypeError(f"{name} must be an array, got {type(value).__name__} ({error})") from error
    if array.dtype == object:
        raise TypeError(f"{name} must be an array of numbers or strings, got {type(value).__name__} of objects")
    return array


def check_images(images: np.ndarray, as_is: bool = False) -> None:
    """Raise unless images are uint8 [N, H, W, C], or floating and in [-1, 1] as far as one can see.

    Floats of at most four channels and more than one pixel count as pictures. They are refused where they can hardly
    lie in [-1, 1]: none is negative (and not all are 0), so that they are in [0, 1] or in 0..255. With `as_is` only
    the dtype is checked, and that there is an axis besides the examples': they may be points [N, D].

    Raises:
      ValueError: the shape is not [N, H, W, C], there is no pixel, or the units are others.
      TypeError: the dtype is another.
    """
    if images.ndim < 2 or 0 in images.shape or (images.ndim != 4 and not as_is):
        axis = "; add the axis of channels by images[..., None]" if images.ndim == 3 else ""
        raise ValueError(f"images must be [N, H, W, C] and not empty, got the shape {images.shape}{axis}")
    real = jnp.issubdtype(images.dtype, jnp.floating)
    if not real and images.dtype != np.uint8:
        raise TypeError(f"images must be uint8 (0..255) or floating, got {images.dtype}{between(images)}")
    if as_is:
        return
    height, width, channels = images.shape[1:]
    if height in (1, 3, 4) and width > 4 and channels > 4 and (height < 4 or not real):
        raise ValueError(
            f"images of shape {images.shape} seem to be [N, C, H, W], but must be [N, H, W, C]: "
            f"write images.transpose(0, 2, 3, 1); or {AS_IS}"
        )
    if not real and channels <= 4 and images.size > 64 and images.max() == 1:
        raise ValueError(f"images of levels 0 and 1 would be all black: write 255 * images; or {AS_IS}")
    if real and channels <= 4 and height * width > 1 and images.min() >= 0 < images.max():
        whole = "0..255: write images.astype(np.uint8)" if images.max() > 20 else "other units: scale them to [-1, 1]"
        units = "[0, 1]: write 2 * images - 1" if images.max() <= 1 else whole
        raise ValueError(f"floating images must be in [-1, 1], but these are{between(images)}, as in {units}; {AS_IS}")


def between(x: np.ndarray) -> str:
    """ " from 0 to 255", for messages; "" where there is no order."""
    numbers = jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.integer)
    return f" from {x.min():.4g} to {x.max():.4g}" if x.size and numbers else ""

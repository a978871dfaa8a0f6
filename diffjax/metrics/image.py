"""Distances between images and their originals, one for each: PSNR, SSIM, and a distance of learned features.

    (1) PSNR = 20 log10(R / rms(x - y)) dB,   R the range of the values (2 for [-1, 1])
    (2) SSIM = mean of (2 m_x m_y + c_1)(2 s_xy + c_2) / ((m_x^2 + m_y^2 + c_1)(s_x^2 + s_y^2 + c_2))
    (3) d(x, y) = sum_l mean over pixels of |f_l(x) - f_l(y)|^2,   f_l of unit length at each pixel

(2) is that of Wang et al. (2004): means, variances and covariance in a Gaussian window of 11 x 11 pixels, standard
deviation 1.5, c_1 = (0.01 R)^2, c_2 = (0.03 R)^2. (3) is LPIPS (Zhang et al. 2018) without its learned weights and on
whatever features are given, so that its values compare only with one another.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import flat_mean, safe_log, safe_sqrt
from diffjax.checks import check_has, check_number, check_pictures

WINDOW = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)


def psnr(x: Array, y: Array, value_range: float = 2.0) -> Array:
    """Peak signal-to-noise ratio of x and y [B, H, W, C] in dB, [B] (Eq. 1).

    Equal images have an infinite one, with a gradient of 0.

    Raises:
      TypeError: the images are integers (differences of uint8 wrap around).
      ValueError: the shapes differ, or values cannot lie in [-1, 1] although `value_range` says so.
    """
    x, y = _checked(x, y, value_range)
    return 20 * jnp.log10(value_range) - 10 / np.log(10) * safe_log(flat_mean((x - y) ** 2))


def ssim(x: Array, y: Array, value_range: float = 2.0) -> Array:
    """Structural similarity of x and y [B, H, W, C], [B], over the windows that lie inside (Eq. 2).

    Flat images compare by their means alone; equal ones give 1.

    Raises:
      TypeError, ValueError: as `psnr`, or a side is less than 11 pixels.
    """
    x, y = _checked(x, y, value_range)
    if min(x.shape[1:3]) < len(WINDOW):
        raise ValueError(f"SSIM's window is {len(WINDOW)} pixels wide, the images are {x.shape[1:3]}")
    a, b = (z.mean((1, 2), keepdims=True) for z in (x, y))
    # variances are those of the differences: the squares of large means would cancel
    dx = x - a
    dy = y - b
    m_x, m_y, xx, yy, xy = map(_windowed, (dx, dy, dx * dx, dy * dy, dx * dy))
    variances, covariance = xx - m_x**2 + yy - m_y**2, xy - m_x * m_y
    m_x, m_y = a + m_x, b + m_y
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    top = (2 * m_x * m_y + c1) * (2 * covariance + c2)
    return flat_mean(top / ((m_x**2 + m_y**2 + c1) * (variances + c2)))


def _windowed(x: Array) -> Array:
    """The window's weighted mean at each place, [B, H - 10, W - 10, C]."""
    taps = jnp.asarray(WINDOW / WINDOW.sum(), x.dtype)
    along = jnp.stack([x[:, i : x.shape[1] - 10 + i] for i in range(11)])
    x = jnp.tensordot(taps, along, 1)
    across = jnp.stack([x[:, :, i : x.shape[2] - 10 + i] for i in range(11)])
    return jnp.tensordot(taps, across, 1)


def feature_distance(features: Callable[[Array], Sequence[Array]], x: Array, y: Array) -> Array:
    """Distance (3) of x and y [B, H, W, C], [B]; `features` maps images to maps [B, h, w, c], one for each layer.

    Where all features of a pixel are 0 they have no direction, and count as 0.

    Raises:
      TypeError, ValueError: as `psnr`, `features` is no function, or finds no maps.
    """
    check_has(features, "features, a function from images to maps,", "__call__")
    x, y = _checked(x, y)

    def direction(f):
        size = safe_sqrt(jnp.sum(f**2, axis=-1, keepdims=True))
        return jnp.where(size > 0, f / jnp.where(size > 0, size, 1), 0)

    layers = list(zip(features(x), features(y), strict=True))
    if not layers or any(a.ndim != 4 for a, _ in layers):
        raise ValueError(f"features must be maps [B, h, w, c], a sequence of them, got {[a.shape for a, _ in layers]}")
    return jax.tree.reduce(jnp.add, [jnp.sum((direction(a) - direction(b)) ** 2, -1).mean((1, 2)) for a, b in layers])


def _checked(x: Array, y: Array, value_range: float = 2.0) -> tuple[Array, Array]:
    """x and y as floats, in float32 or more, once they are found to be comparable."""
    check_number("value_range", value_range, 0, above=True)
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim != 4 or x.shape != y.shape or not x.size:
        raise ValueError(f"expected two batches of images [B, H, W, C] of one shape, got {x.shape} and {y.shape}")
    for image in (x, y):
        if isinstance(value_range, float | int) and value_range == 2:
            check_pictures(image, "images compared over a range of 2")
        elif not jnp.issubdtype(image.dtype, jnp.floating):
            raise TypeError(f"images to compare must be floats, got {image.dtype}: differences of integers wrap around")
    dtype = jnp.promote_types(jnp.promote_types(x.dtype, y.dtype), jnp.float32)
    return x.astype(dtype), y.astype(dtype)

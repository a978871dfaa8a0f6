"""A measurement y = A(x_0) + noise_std n: what every posterior sampler and guidance takes, as one object."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.arrays import flat_sum, normal, safe_sqrt
from diffjax.checks import check_has, check_key, check_number, known, look_like_levels
from diffjax.operators.decoded import Decoded
from diffjax.operators.linear import images
from diffjax.typing import Cond, Key, pytree, static


@pytree
class Measurement:
    """`operator` is any callable x_0 -> y; `noise_std` the standard deviation of the noise in y, on [-1, 1].

    A UserWarning says where y looks like levels 0 ... 255.

    Raises:
      TypeError: `operator` is no function, or y holds integers (uint8 levels, say).
      ValueError: y is not finite, or noise_std is negative or NaN.
    """

    operator: Any
    y: Array  # [B, ...]
    noise_std: Any = 0.0

    def __post_init__(self):
        check_has(self.operator, "an operator, a function of images,", "__call__")
        dtype = getattr(self.y, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            got = type(self.y).__name__ if dtype is None else dtype
            raise TypeError(f"a measurement y is an array of floats, in the units of images in [-1, 1], got {got}")
        if known(self.y) and not np.isfinite(np.asarray(self.y)).all():
            raise ValueError("a measurement y must be finite: what was not measured belongs into the operator, a Mask")
        if look_like_levels(self.y):
            text = "y looks like levels 0 ... 255: images are in [-1, 1] here, as to_float makes them, and so is A(x)"
            warnings.warn(text, stacklevel=2)
        check_number("noise_std, the noise's standard deviation,", self.noise_std, 0)

    def residual(self, x0: Array) -> Array:
        """y - A(x_0), shaped like y.

        Raises:
          ValueError: A(x_0) and y differ in shape, or there is more than one noise_std.
        """
        if jnp.ndim(self.noise_std):
            raise ValueError(f"noise_std is one number for all of y, got shape {jnp.shape(self.noise_std)}")
        predicted = self.operator(x0)
        if predicted.shape != self.y.shape:
            raise ValueError(
                f"the operator maps x {x0.shape} to {predicted.shape}, but the measurement has shape {self.y.shape}: "
                "each example needs its own y of the operator's shape"
            )
        return self.y - predicted


def of_each(holder: Any, n: int) -> Any:
    """An object in which every measurement of one example, y [1, ...], is one of n examples, with the same y."""

    def spread(m: Any) -> Any:
        if not isinstance(m, Measurement) or jnp.shape(m.y)[:1] != (1,):
            return m
        return dataclasses.replace(m, y=jnp.broadcast_to(m.y, (n, *m.y.shape[1:])))

    return jax.tree.map(spread, holder, is_leaf=lambda m: isinstance(m, Measurement))


def of_latents(holder: Any, decode: Callable) -> Any:
    """An object in which every measurement of pictures is one of the latents that `decode` turns into them."""

    def through(m: Any) -> Any:
        return dataclasses.replace(m, operator=Decoded(m.operator, decode)) if isinstance(m, Measurement) else m

    return jax.tree.map(through, holder, is_leaf=lambda m: isinstance(m, Measurement))


def measure(key: Key, operator: Callable, x0: Array, noise_std: float = 0.0) -> Measurement:
    """Simulate: A(x_0) with Gaussian noise, none where a linear operator measures nothing (outside a mask, say)."""
    check_key(key)
    check_has(operator, "an operator, a function of images,", "__call__")
    check_number("noise_std", noise_std, 0)
    y = operator(images(x0))
    noise = normal(key, y)
    if hasattr(operator, "Ut"):
        noise = operator.U(jnp.where(operator.s > 0, operator.Ut(noise), 0))
    return Measurement(operator, y + noise_std * noise, noise_std)


@pytree
class Misfit:
    """The loss |y - A(x_0)|, [B], of DPS and MPGD, or with `squared` its square; of slope 0 where it is 0.

    Raises a TypeError for what is no measurement.
    """

    measurement: Measurement
    squared: bool = static(default=False)

    def __post_init__(self):
        check_has(self.measurement, "a measurement, Measurement(operator, y),", "residual")

    def __call__(self, x0: Array, cond: Cond = None) -> Array:
        square = flat_sum(self.measurement.residual(x0) ** 2)
        return square if self.squared else safe_sqrt(square)


def relative_residual(measurement: Measurement, x: Array) -> Array:
    """rms of y - A(x) over what was measured, over noise_std, []: 1 for the truth; 0 where nothing was measured.

    Raises a ValueError if there is no noise.
    """
    require_noise(measurement, "a relative residual")
    residual, A = measurement.residual(x), measurement.operator
    seen = jnp.broadcast_to(A.s > 0, A.Ut(residual).shape).sum() if hasattr(A, "Ut") else residual.size
    return safe_sqrt(jnp.sum(residual**2) / jnp.maximum(seen, 1)) / measurement.noise_std


def require_noise(measurement: Measurement, method: str) -> None:
    """Raise a ValueError if a method divides by the noise level and there is none; what is traced passes."""
    std = measurement.noise_std
    if not isinstance(std, Tracer) and not np.all(np.asarray(std) > 0):
        raise ValueError(f"{method} divides by the measurement's noise: noise_std must be positive, got {std}")

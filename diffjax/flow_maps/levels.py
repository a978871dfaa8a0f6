"""The noise levels (c_t, c_s) that the network of a flow map is conditioned on."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from diffjax.checks import check_number
from diffjax.precondition import CNoise, scaled_by, scaled_time
from diffjax.typing import SDE, Time, pytree

Levels = Callable[[SDE, Time, Time], tuple[Array, Array]]  # (sde, t, s) -> the noise levels (c_t, c_s) of a network


@pytree
class Both:
    """The noise levels at t and at s, in the network's units."""

    c_noise: CNoise = scaled_by(20.0)  # slow, as losses of flow maps differentiate in time

    def __call__(self, sde: SDE, t: Time, s: Time) -> tuple[Array, Array]:
        return self.c_noise(sde, t), self.c_noise(sde, s)


@pytree
class Duration:
    """The noise level at t, and t - s in its units: c_noise must be linear, as 999 t/T is.

    A duration up to `least` counts as 0, so that one smallest step and the velocity are one output (Frans et al. 2024,
    with 1/128).
    """

    c_noise: CNoise = scaled_time
    least: float = 0.0

    def __post_init__(self):
        check_number("least", self.least, 0)

    def __call__(self, sde: SDE, t: Time, s: Time) -> tuple[Array, Array]:
        d = jnp.asarray(t) - s
        d = jnp.where((self.least == 0) | (d > self.least * (1 + 1e-4)), d, 0 * d)
        return self.c_noise(sde, t), self.c_noise(sde, d)

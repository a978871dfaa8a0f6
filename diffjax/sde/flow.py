"""The straight path of flow matching (Lipman et al. 2023; Liu et al. 2023), with data at t = 0 and noise at t = 1.

    x_t = (1 - t) x_0 + t eps,   dx/dt = eps - x_0

Papers that put the data at t = 1 are read with t -> 1 - t and the velocity's sign changed.
"""

from jax import Array

from diffjax.arrays import as_time
from diffjax.checks import check_interval
from diffjax.typing import Time, pytree


@pytree
class Flow:
    """Linear interpolation of data and noise. Its drift alpha'/alpha is infinite at T = 1, its velocity is not."""

    T: float = 1.0
    t_min: float = 0.0

    def __post_init__(self):
        check_interval(self.T, self.t_min, 1, why="alpha(t) = 1 - t is negative beyond t = 1")

    def alpha(self, t: Time) -> Array:
        return 1 - self.sigma(t)

    def sigma(self, t: Time) -> Array:
        return as_time(t)

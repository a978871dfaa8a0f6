"""The class of all flow maps: calls, velocity, diagonal; and flow maps of functions `(x, t, s, cond) -> x_s`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.arrays import like
from diffjax.precondition import check_process, operands
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_partial, check_takes, pytree


class FlowMap:
    """What all flow maps share: a class below has an `sde` and defines `jump(x, t, s, cond)`."""

    sde: SDE

    def __call__(self, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
        """x at time t carried to time s, shaped like x."""
        check_order(t, s)
        x, t, s = operands(x, t, s)
        return like(x, self.jump(x, t, s, cond), "flow map")

    def jump(self, x: Array, t: Array, s: Array, cond: Cond) -> Array:
        raise NotImplementedError

    def velocity(self, x: Array, t: Time, cond: Cond = None) -> Array:
        """dX/ds at s = t (Eq. 1), shaped like x."""
        x, t = operands(x, t)
        return jax.jvp(lambda s: self.jump(x, t, s, cond), (t,), (jnp.ones_like(t),))[1]

    def diagonal(self, x: Array, t: Time, cond: Cond = None) -> Array:
        """E[x_0 | x_t = x] of the process whose flow has the map's velocity: a Denoiser."""
        x, t = operands(x, t)
        return like(x, gaussian.x0_from_velocity(self.sde, x, t, self.velocity(x, t, cond)))

    def to(self, s: Time = 0.0) -> Denoiser:
        """The map to time s, `(x, t, cond) -> x_s`: a consistency function. Give s = t_min where the map ends there."""
        return Consistency(self, s)


@pytree
class Consistency:
    """A flow map to one time."""

    flow_map: Callable
    s: Time = 0.0

    @property
    def sde(self) -> SDE:
        return self.flow_map.sde  # pyright: ignore[reportFunctionMemberAccess]

    def __call__(self, x: Array, t: Time, cond: Cond = None) -> Array:
        return self.flow_map(x, t, self.s, cond)


@pytree
class Function(FlowMap):
    """`as_flow_map`: any function `(x, t, s, cond) -> x_s`, whose velocity is its derivative."""

    sde: SDE
    function: Callable

    def jump(self, x, t, s, cond):
        return self.function(x, t, s, cond)


def as_flow_map(sde: SDE, flow_map: Callable) -> FlowMap:
    """A flow map with its methods: itself if it has them, else of a function `(x, t, s, cond) -> x_s`.

    Raises:
      ValueError: it does not take two times, or was made for another process.
    """
    check_map(flow_map)
    check_process(flow_map, sde)
    return flow_map if isinstance(flow_map, FlowMap) else Function(sde, as_partial(flow_map))


def check_map(flow_map: Callable) -> None:
    """Raise a ValueError unless it takes two times: a Denoiser is no flow map."""
    check_takes(flow_map, "a flow map, such as `flow_maps.heun_step(sde, denoise)`,", "x", "t", "s", "cond")


def check_no_map(denoise: Callable) -> None:
    """Raise a ValueError for a flow map in a denoiser's place, where it would take the condition for a time."""
    if isinstance(denoise, FlowMap):
        raise ValueError(
            f"{type(denoise).__name__} is a flow map: sample it with `Jump`, or give other samplers its denoiser, "
            "`flow_map.diagonal`, or the map to the data, `flow_map.to(0.0)`"
        )


def check_order(t: Any, s: Any) -> None:
    """Raise a ValueError unless s is a time, no later than t. What is traced cannot be looked at, and passes."""
    if s is None or isinstance(s, dict):
        raise ValueError("a flow map takes (x, t, s, cond): give other samplers `flow_map.diagonal` or `.to(0.0)`")
    if isinstance(t, Tracer) or isinstance(s, Tracer):
        return
    t, s = np.asarray(t), np.asarray(s)
    if not np.all((0 <= s) & (s <= t * (1 + 1e-6))):
        raise ValueError(f"a flow map goes from noise to data, from t to 0 <= s <= t; got t = {t}, s = {s}")

"""Flow maps made of others: guided ones, and the map of a consistency function."""

from typing import Any

from jax import Array

from diffjax.arrays import bcast, like
from diffjax.checks import check_number
from diffjax.conditions import spread
from diffjax.flow_maps.flow_map import FlowMap
from diffjax.precondition import process_of
from diffjax.typing import SDE, Cond, Denoiser, as_partial, pytree


@pytree
class Guided(FlowMap):
    """`guided`: two maps' difference, scaled; so are their velocities."""

    flow_map: FlowMap
    scale: Any
    null: Cond

    @property
    def sde(self) -> SDE:
        return self.flow_map.sde

    def jump(self, x, t, s, cond):
        return self._lerp(x, self.flow_map(x, t, s, spread(self.null, cond, len(x))), self.flow_map(x, t, s, cond))

    def velocity(self, x, t, cond=None):
        return self._lerp(
            x, self.flow_map.velocity(x, t, spread(self.null, cond, len(x))), self.flow_map.velocity(x, t, cond)
        )

    def _lerp(self, x: Array, base: Array, given: Array) -> Array:
        return like(x, base + bcast(self.scale, x) * (given - base))


def guided(flow_map: FlowMap, scale: Any, null: Cond = None) -> Guided:
    """X(null) + scale (X(cond) - X(null)): guidance of a map; as s -> t it is classifier-free guidance of its velocity.

    Over long steps the guided velocity's own map is another: that one is distilled from a guided teacher.

    Args:
      flow_map: one of this module's (`as_flow_map` makes one of a function).
      scale: a number, or one for each example [B]; 1 is the map itself.
    """
    check_number("scale", scale)
    return Guided(_object(flow_map), scale, null)


@pytree
class ToEnd(FlowMap):
    """`to_end`: a consistency function, whatever s."""

    consistency: Denoiser

    @property
    def sde(self) -> SDE | None:
        return process_of(self.consistency)

    def jump(self, x, t, s, cond):
        return self.consistency(x, t, cond)


def to_end(consistency: Denoiser) -> ToEnd:
    """A consistency function as the map it is: to its own end, whatever s. For `Jump(1.0, end)` with that end alone."""
    return ToEnd(as_partial(consistency))


def _object(flow_map: Any) -> FlowMap:
    if not isinstance(flow_map, FlowMap):
        raise TypeError(f"expected a flow map object, got {type(flow_map).__name__}: see `flow_maps.as_flow_map`")
    return flow_map

"""From networks to flow maps: the solution of the probability-flow ODE, carried from time t to any time s <= t at once.

    (1) X(x, t, t) = x,   d/ds X(x, t, s) = v(X(x, t, s), s)                v the velocity dx/dt of the flow
    (2) X(X(x, t, u), u, s) = X(x, t, s)   for s <= u <= t                  semigroup
    (3) d/dt X(x, t, s) + grad X(x, t, s) v(x, t) = 0                       the end does not move along the flow
    (4) X = alpha_s g + sigma_s (x - alpha_t g)/sigma_t                     consistency trajectory (CTM), g(x, t, s)
    (5) X = x - (t - s) u                                                   average velocity u(x, t, s)

(4) is DDIM's step with g in the denoiser's place: in y = x/alpha and r = sigma/alpha Kim et al. (2024) write it as
(r_s/r_t) y + (1 - r_s/r_t) g. At s = 0 it is g, and as s -> t, g becomes the denoiser. (5) is at once MeanFlow's map
(Geng et al. 2025), that of shortcut models (Frans et al. 2024, conditioned on t - s in place of s) and that of Boffi et
al. (2025), X = x + (s - t) phi with phi = u. As s -> t, u becomes v. Both satisfy X(x, t, t) = x by construction.

A flow map is an object, a pytree that carries its SDE:

    flow(x, t, s, cond)          X, for a time t and s of the batch, or of each example
    flow.velocity(x, t, cond)    v of (1), dX/ds at s = t: of (4) and (5) by one evaluation of the network
    flow.diagonal(x, t, cond)    the Denoiser whose flow has this velocity: for (4) g(x, t, t)
    flow.to(s)                   X with s fixed, a Denoiser-shaped consistency function

`ctm`, `average_velocity`, `ddim_step`, `heun_step`, `along`, `guided`, `to_end` make them, and `as_flow_map` one of any
function `(x, t, s, cond)`. A flow map stands in the denoiser's place in `sample` with the sampler `Jump`; other
samplers take its `diagonal`, or `to(0.0)`, with which `Renoise(1.0)` is multistep consistency sampling.

A consistency function maps to the end of the flow only; it is shaped like a Denoiser, and so lives in `precondition`:
`consistency` with the boundary at eps, `edm` with that at 0.

A network of two times is conditioned on a pair of noise levels, c_noise = (c_t, c_s), each [B] (see `nn.embed`). Maps
raise a ValueError for s > t or s < 0, unless times are traced, and where a network does not keep the shape of x.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from diffjax import precondition as denoisers
from diffjax.arrays import bcast, like
from diffjax.checks import check_number
from diffjax.precondition import (
    CNoise,
    check_process,
    check_sde,
    evaluate,
    noise_level,
    operands,
    per_example,
    quarter_log_sigma,
    scaled_by,
    scaled_time,
)
from diffjax.sde import gaussian
from diffjax.times.grids import falling
from diffjax.typing import SDE, Cond, Denoiser, Time, as_partial, check_takes, pytree

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
class ConsistencyTrajectory(FlowMap):
    """`ctm`: Eq. 4."""

    sde: SDE
    network: Callable
    precondition: Callable
    c_noise: CNoise

    def jump(self, x, t, s, cond):
        return gaussian.exponential_step(self.sde, x, t, s, self.g(x, t, s, cond))

    def g(self, x: Array, t: Array, s: Array, cond: Cond) -> Array:
        """g(x, t, s) of Eq. 4."""
        c_s = noise_level(self.c_noise, self.sde, jnp.maximum(s, self.sde.t_min), x)
        return self.precondition(self.sde, Partial(_at_s, self.network, c_s))(x, t, cond)

    def velocity(self, x, t, cond=None):
        return like(x, gaussian.velocity_from_x0(self.sde, x, t, self.diagonal(x, t, cond)))

    def diagonal(self, x, t, cond=None):
        x, t = operands(x, t)
        return self.g(x, t, t, cond)


@pytree
class AverageVelocity(FlowMap):
    """`average_velocity`: Eq. 5."""

    sde: SDE
    network: Callable
    levels: Levels

    def jump(self, x, t, s, cond):
        return x - bcast(t - s, x) * self.u(x, t, s, cond)

    def u(self, x: Array, t: Array, s: Array, cond: Cond) -> Array:
        """u(x, t, s) of Eq. 5."""
        c_noise = tuple(per_example(c, x) for c in self.levels(self.sde, t, s))
        return like(x, evaluate(self.network, "network", x, c_noise, cond))

    def velocity(self, x, t, cond=None):
        x, t = operands(x, t)
        return self.u(x, t, t, cond)


@pytree
class DDIMStep(FlowMap):
    """`ddim_step`: Eq. 4 with g(x, t), whatever s."""

    sde: SDE
    denoiser: Denoiser

    def jump(self, x, t, s, cond):
        return gaussian.exponential_step(self.sde, x, t, s, self.diagonal(x, t, cond))

    def velocity(self, x, t, cond=None):
        return like(x, gaussian.velocity_from_x0(self.sde, x, t, self.diagonal(x, t, cond)))

    def diagonal(self, x, t, cond=None):
        return like(x, self.denoiser(x, t, cond), "denoiser")


@pytree
class HeunStep(DDIMStep):
    """`heun_step`: the mean of the velocities at t and, after a step of Euler's method, at s."""

    def jump(self, x, t, s, cond):
        x0, h = self.diagonal(x, t, cond), bcast(s - t, x)
        d = gaussian.velocity_from_x0(self.sde, x, t, x0)
        later = jnp.where(s > 0, s, t)  # the denoiser is not evaluated at 0
        slope = (d + self.velocity((x + h * d).astype(x.dtype), later, cond)) / 2
        return jnp.where(bcast(s > 0, x), x + h * slope, gaussian.exponential_step(self.sde, x, t, s, x0))


@pytree
class Along(FlowMap):
    """`along`: a solver's step for each interval of a grid."""

    step: FlowMap
    ts: Array

    @property
    def sde(self) -> SDE:
        return self.step.sde

    def jump(self, x, t, s, cond):
        def interval(x, ends):
            a, b = (jnp.clip(end, s, t) for end in ends)
            inside = a > b
            stepped = self.step(x, jnp.where(inside, a, t), jnp.where(inside, b, t), cond)
            return jnp.where(bcast(inside, x), stepped, x).astype(x.dtype), None

        # what lies beyond the grid belongs to its first and last interval
        ends = jnp.concatenate([jnp.array([jnp.inf]), jnp.asarray(self.ts)[1:-1], jnp.array([-jnp.inf])])
        return jax.lax.scan(interval, x, (ends[:-1], ends[1:]))[0]

    def velocity(self, x, t, cond=None):
        return self.step.velocity(x, t, cond)

    def diagonal(self, x, t, cond=None):
        return self.step.diagonal(x, t, cond)


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
        return self._lerp(x, self.flow_map(x, t, s, self.null), self.flow_map(x, t, s, cond))

    def velocity(self, x, t, cond=None):
        return self._lerp(x, self.flow_map.velocity(x, t, self.null), self.flow_map.velocity(x, t, cond))

    def _lerp(self, x: Array, base: Array, given: Array) -> Array:
        return like(x, base + bcast(self.scale, x) * (given - base))


@pytree
class ToEnd(FlowMap):
    """`to_end`: a consistency function, whatever s."""

    consistency: Denoiser

    @property
    def sde(self) -> SDE | None:
        return denoisers.process_of(self.consistency)

    def jump(self, x, t, s, cond):
        return self.consistency(x, t, cond)


@pytree
class Function(FlowMap):
    """`as_flow_map`: any function `(x, t, s, cond) -> x_s`, whose velocity is its derivative."""

    sde: SDE
    function: Callable

    def jump(self, x, t, s, cond):
        return self.function(x, t, s, cond)


def ctm(
    sde: SDE,
    network: Callable,
    precondition: Callable = denoisers.edm,
    c_noise: CNoise = quarter_log_sigma,
) -> ConsistencyTrajectory:
    """X of Eq. 4, with g = `precondition(sde, network at s)` (Kim et al. 2024, EDM's preconditioning).

    Args:
      network: `(x, (c_t, c_s), cond) -> F`.
      precondition: `(sde, network) -> Denoiser`, which gives the network c_t; `edm` fits the default c_noise.
      c_noise: c_s is that of s, or of the SDE's t_min if that is later.
    """
    return ConsistencyTrajectory(*_network(sde, network), as_partial(precondition), as_partial(c_noise))


def average_velocity(sde: SDE, network: Callable, levels: Levels = Both()) -> AverageVelocity:
    """X of Eq. 5, with u the network's output: in the time of the SDE, whichever it is."""
    return AverageVelocity(*_network(sde, network), as_partial(levels))


def ddim_step(sde: SDE, denoise: Denoiser) -> DDIMStep:
    """One DDIM step: Euler's in sigma/alpha, first order (for `EDM` the paper's Euler step).

    Raises:
      ValueError: the denoiser was made for another process (`precondition.check_process`).
    """
    check_sde(sde)
    check_process(denoise, sde)
    return DDIMStep(sde, as_partial(denoise))


def heun_step(sde: SDE, denoise: Denoiser) -> HeunStep:
    """One step of Heun's method in the time of the SDE, second order, and DDIM's into s = 0 (as `Heun`).

    Raises:
      ValueError: the denoiser was made for another process (`precondition.check_process`).
    """
    check_sde(sde)
    check_process(denoise, sde)
    return HeunStep(sde, as_partial(denoise))


def along(sde: SDE, denoise: Denoiser, ts: Array, solver: Callable = heun_step) -> Along:
    """The flow from t to s by one step of `solver` for each interval of the grid ts, or part of it, between t and s.

    Each example has its own t and s; all intervals are evaluated, also those that lie outside.

    Raises:
      ValueError: the grid has no step, rises, or leaves the process's times.
    """
    return Along(as_flow_map(sde, solver(sde, denoise)), falling(ts, sde, strictly=False))


def guided(flow_map: FlowMap, scale: Any, null: Cond = None) -> Guided:
    """X(null) + scale (X(cond) - X(null)): guidance of a map; as s -> t it is classifier-free guidance of its velocity.

    Over long steps the guided velocity's own map is another: that one is distilled from a guided teacher.

    Args:
      flow_map: one of this module's (`as_flow_map` makes one of a function).
      scale: a number, or one for each example [B]; 1 is the map itself.
    """
    check_number("scale", scale)
    return Guided(_object(flow_map), scale, null)


def to_end(consistency: Denoiser) -> ToEnd:
    """A consistency function as the map it is: to its own end, whatever s. For `Jump(1.0, end)` with that end alone."""
    return ToEnd(as_partial(consistency))


def as_flow_map(sde: SDE, flow_map: Callable) -> FlowMap:
    """A flow map with its methods: itself if it has them, else of a function `(x, t, s, cond) -> x_s`.

    Raises:
      ValueError: it does not take two times, or was made for another process.
    """
    check_map(flow_map)
    check_process(flow_map, sde)
    return flow_map if isinstance(flow_map, FlowMap) else Function(sde, as_partial(flow_map))


def diagonal_of(flow_map: Callable, sde: SDE, network: Callable) -> Denoiser:
    """`flow_map(sde, network).diagonal`: `Partial(diagonal_of, ctm)` is a `precondition` for `losses.DSM`."""
    return as_partial(as_flow_map(sde, flow_map(sde, network)).diagonal)


def denoiser_of(flow_map: Callable, sde: SDE, network: Callable) -> Denoiser:
    """`flow_map(sde, network).to(0.0)`: `Partial(denoiser_of, ctm)` is a `precondition` for `Student`."""
    return as_flow_map(sde, flow_map(sde, network)).to(0.0)


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


def _at_s(network, c_s, x: Array, c_t: Array, cond: Cond = None) -> Array:
    return network(x, (c_t, c_s), cond)


def _network(sde: SDE, network: Callable) -> tuple[SDE, Callable]:
    check_sde(sde)
    network = as_partial(network)
    check_takes(network, "a network, with its parameters bound,", "x", "c_noise", "cond")
    return sde, network


def _object(flow_map: Any) -> FlowMap:
    if not isinstance(flow_map, FlowMap):
        raise TypeError(f"expected a flow map object, got {type(flow_map).__name__}: see `flow_maps.as_flow_map`")
    return flow_map

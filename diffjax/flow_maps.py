"""From networks to flow maps: the solution of the probability-flow ODE, carried from time t to any time s <= t at once.

    (1) X(x, t, t) = x,   d/ds X(x, t, s) = v(X(x, t, s), s)                v the velocity dx/dt of the flow
    (2) X(X(x, t, u), u, s) = X(x, t, s)   for s <= u <= t                  semigroup
    (3) d/dt X(x, t, s) + grad X(x, t, s) v(x, t) = 0                       the end does not move along the flow
    (4) X = alpha_s g + sigma_s (x - alpha_t g)/sigma_t                     consistency trajectory (CTM), g(x, t, s)
    (5) X = x - (t - s) u                                                   average velocity u(x, t, s)

(4) is DDIM's step with g in the denoiser's place: in y = x/alpha and r = sigma/alpha Kim et al. (2024) write it as
(r_s/r_t) y + (1 - r_s/r_t) g. At s = 0 it is g, and as s -> t, g becomes the denoiser. (5) is at once MeanFlow's map
(Geng et al. 2025), that of shortcut models (Frans et al. 2024, told t - s in place of s) and that of Boffi et
al. (2025), X = x + (s - t) phi with phi = u. As s -> t, u becomes v. Both satisfy X(x, t, t) = x by construction.

A consistency function maps to the end of the flow only; it is shaped like a Denoiser, and so lives in `precondition`:
`consistency` with the boundary at eps, `edm` with that at 0. `denoiser(flow_map)` is one, and at s = 0 gives multistep
consistency sampling by `Renoise(1.0)`; `to_end` is the way back. A flow map stands in the denoiser's place in `sample`
with the sampler `Jump`.

A network of two times is told a pair of noise levels, c_noise = (c_t, c_s) (see `nn.embed`). Maps raise a ValueError
for s > t or s < 0, unless times are traced, and where a network does not keep the shape of x.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from diffjax.arrays import bcast, like
from diffjax.precondition import CNoise, check_process, edm, quarter_log_sigma, scaled_by, scaled_time
from diffjax.sde import gaussian
from diffjax.times.grids import falling
from diffjax.typing import SDE, Cond, Denoiser, FlowMap, Time, as_partial, check_takes, pytree

Levels = Callable[[SDE, Time, Time], tuple[Array, Array]]  # (sde, t, s) -> what a network is told of the two times


@pytree
class Both:
    """The noise levels at t and at s, in the network's units."""

    c_noise: CNoise = scaled_by(20.0)  # slow, as losses of flow maps differentiate in time

    def __call__(self, sde: SDE, t: Time, s: Time) -> tuple[Array, Array]:
        return self.c_noise(sde, t), self.c_noise(sde, s)


@pytree
class Duration:
    """The noise level at t, and t - s in its units: c_noise must be linear, as 999 t/T is.

    A duration up to `least` is told as 0, so that one smallest step and the velocity are one output (Frans et al. 2024,
    with 1/128).
    """

    c_noise: CNoise = scaled_time
    least: float = 0.0

    def __call__(self, sde: SDE, t: Time, s: Time) -> tuple[Array, Array]:
        d = jnp.asarray(t) - s
        d = jnp.where((self.least == 0) | (d > self.least * (1 + 1e-4)), d, 0 * d)
        return self.c_noise(sde, t), self.c_noise(sde, d)


def ctm(sde: SDE, network: Callable, precondition: Callable = edm, c_noise: CNoise = quarter_log_sigma) -> FlowMap:
    """X of Eq. 4, with g = `precondition(sde, network at s)` (Kim et al. 2024, EDM's preconditioning).

    Args:
      network: `(x, (c_t, c_s), cond) -> F`.
      precondition: `(sde, network) -> Denoiser`, which tells the network c_t; `edm` fits the default c_noise.
      c_noise: c_s is that of s, or of the SDE's t_min if that is later, as log sigma is infinite at 0.
    """
    return Partial(_ctm, sde, as_partial(network), as_partial(precondition), as_partial(c_noise))


def average_velocity(sde: SDE, network: Callable, levels: Levels = Both()) -> FlowMap:
    """X of Eq. 5, with u the network's output: in the time of the SDE, whichever it is."""
    return Partial(_average_velocity, sde, as_partial(network), as_partial(levels))


def step(sde: SDE, denoise: Denoiser) -> FlowMap:
    """One DDIM step: Euler's in sigma/alpha, first order (for `EDM` the paper's Euler step).

    Raises:
      ValueError: the denoiser says that it was made for another process (`precondition.check_process`).
    """
    check_process(denoise, sde)
    return Partial(_ddim, sde, as_partial(denoise))


def heun(sde: SDE, denoise: Denoiser) -> FlowMap:
    """One step of Heun's method in the time of the SDE, second order, and DDIM's into s = 0 (as `Heun`).

    Raises:
      ValueError: the denoiser says that it was made for another process (`precondition.check_process`).
    """
    check_process(denoise, sde)
    return Partial(_heun, sde, as_partial(denoise))


def along(sde: SDE, denoise: Denoiser, ts: Array, solver: Callable = heun) -> FlowMap:
    """The flow from t to s by one step of `solver` for each interval of the grid ts, or part of it, between t and s.

    Each example has its own t and s; all intervals are evaluated, also those that lie outside.

    Raises:
      ValueError: the grid has no step, rises, or leaves the process's times.
    """
    return Partial(_along, as_partial(solver(sde, denoise)), falling(ts, sde, strictly=False))


def guided(flow_map: FlowMap, scale: Any, null: Cond = None) -> FlowMap:
    """X(null) + scale (X(cond) - X(null)): guidance of a map; as s -> t it is classifier-free guidance of its velocity.

    Over long steps the guided velocity's own map is another: that one is distilled from a guided teacher.
    """
    return Partial(_guided, as_partial(flow_map), scale, null)


def denoiser(flow_map: FlowMap, s: Time = 0.0) -> Denoiser:
    """The map to s = 0, `(x, t, cond) -> x_0`: a consistency function; where the map ends at t_min give s = t_min."""
    return Partial(_to, as_partial(flow_map), s)


def to_end(consistency: Denoiser) -> FlowMap:
    """A consistency function as the map it is: to its own end, whatever s. For `Jump(1.0, end)` with that end alone."""
    return Partial(_to_end, as_partial(consistency))


def velocity(flow_map: FlowMap) -> Callable:
    """dX/ds at s = t, `(x, t, cond) -> v` (Eq. 1): of (4) and (5) by one evaluation, of other maps by a derivative."""
    return Partial(_velocity, as_partial(flow_map))


def diagonal(sde: SDE, flow_map: FlowMap) -> Denoiser:
    """The Denoiser whose flow has the map's velocity: for (4) g(x, t, t), for (5) that of u(x, t, t)."""
    return Partial(_diagonal, sde, as_partial(flow_map))


def diagonal_of(flow_map: Callable, sde: SDE, network: Callable) -> Denoiser:
    """`diagonal(sde, flow_map(sde, network))`: `Partial(diagonal_of, ctm)` is a `precondition` for `losses.DSM`."""
    return diagonal(sde, flow_map(sde, network))


def denoiser_of(flow_map: Callable, sde: SDE, network: Callable) -> Denoiser:
    """`denoiser(flow_map(sde, network))`: `Partial(denoiser_of, ctm)` is a `precondition` for `Student`."""
    return denoiser(flow_map(sde, network))


def check_map(flow_map: Callable) -> None:
    """Raise a ValueError unless it takes two times: a Denoiser is no flow map."""
    check_takes(flow_map, "a flow map, such as `flow_maps.heun(sde, denoise)`,", "x", "t", "s", "cond")


def check_order(t: Any, s: Any) -> None:
    """Raise a ValueError unless s is a time, no later than t. What is traced cannot be looked at, and passes."""
    if s is None or isinstance(s, dict):
        raise ValueError("a flow map takes (x, t, s, cond): give samplers of denoisers `flow_maps.denoiser(flow_map)`")
    if isinstance(t, Tracer) or isinstance(s, Tracer):
        return
    t, s = np.asarray(t), np.asarray(s)
    if not np.all((0 <= s) & (s <= t * (1 + 1e-6))):
        raise ValueError(f"a flow map goes from noise to data, from t to 0 <= s <= t; got t = {t}, s = {s}")


def _ctm(sde, network, precondition, c_noise, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
    check_order(t, s)
    return gaussian.exponential_step(sde, x, t, s, _g((sde, network, precondition, c_noise), x, t, s, cond))


def _g(nouns: Any, x: Array, t: Time, s: Time, cond: Cond) -> Array:
    sde, network, precondition, c_noise = nouns
    c_s = c_noise(sde, jnp.maximum(s, sde.t_min))
    return precondition(sde, Partial(_at_s, network, c_s))(x, t, cond)


def _at_s(network, c_s, x: Array, c_t: Array, cond: Cond = None) -> Array:
    return network(x, (c_t, c_s), cond)


def _average_velocity(sde, network, levels, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
    check_order(t, s)
    return x - bcast(jnp.asarray(t) - s, x) * like(x, network(x, levels(sde, t, s), cond))


def _ddim(sde, denoise, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
    check_order(t, s)
    return gaussian.exponential_step(sde, x, t, s, denoise(x, t, cond))


def _heun(sde, denoise, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
    check_order(t, s)
    x0, h = denoise(x, t, cond), bcast(jnp.asarray(s) - t, x)
    d = gaussian.velocity_from_x0(sde, x, t, x0)
    later = jnp.where(jnp.asarray(s) > 0, s, t)  # an end at which the denoiser may be asked
    euler = x + h * d
    slope = (d + gaussian.velocity_from_x0(sde, euler, later, denoise(euler, later, cond))) / 2
    return jnp.where(bcast(jnp.asarray(s) > 0, x), x + h * slope, gaussian.exponential_step(sde, x, t, s, x0))


def _along(solver, ts, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
    check_order(t, s)

    def interval(x, ends):
        a, b = (jnp.clip(end, s, t) for end in ends)
        inside = a > b
        stepped = solver(x, jnp.where(inside, a, t), jnp.where(inside, b, t), cond)
        return jnp.where(bcast(inside, x), stepped, x).astype(x.dtype), None

    # what lies beyond the grid belongs to its first and last interval
    ends = jnp.concatenate([jnp.array([jnp.inf]), jnp.asarray(ts)[1:-1], jnp.array([-jnp.inf])])
    return jax.lax.scan(interval, x, (ends[:-1], ends[1:]))[0]


def _guided(flow_map, scale, null, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
    base = flow_map(x, t, s, null)
    return base + bcast(scale, x) * (flow_map(x, t, s, cond) - base)


def _to(flow_map, s, x: Array, t: Time, cond: Cond = None) -> Array:
    return flow_map(x, t, s, cond)


def _to_end(consistency, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
    check_order(t, s)
    return consistency(x, t, cond)


def _velocity(flow_map, x: Array, t: Time, cond: Cond = None) -> Array:
    t = jnp.asarray(t, jnp.result_type(float, t))
    if nouns := _nouns(_average_velocity, flow_map):
        sde, network, levels = nouns
        return like(x, network(x, levels(sde, t, t), cond))
    if nouns := _nouns(_ctm, flow_map):
        return gaussian.velocity_from_x0(nouns[0], x, t, _g(nouns, x, t, t, cond))
    return jax.jvp(lambda s: flow_map(x, t, s, cond), (t,), (jnp.ones_like(t),))[1]


def _diagonal(sde, flow_map, x: Array, t: Time, cond: Cond = None) -> Array:
    if nouns := _nouns(_ctm, flow_map):
        return _g(nouns, x, t, t, cond)
    return gaussian.x0_from_velocity(sde, x, t, _velocity(flow_map, x, t, cond))


def _nouns(fn: Callable, flow_map: Any) -> Any:  # what the map is made of, if it is fn's
    return flow_map.args if isinstance(flow_map, Partial) and flow_map.func is fn else ()

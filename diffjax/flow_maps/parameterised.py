"""Flow maps of networks of two times: consistency trajectories (Eq. 4 of `flow_maps`), average velocities (Eq. 5)."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from diffjax import precondition as denoisers
from diffjax.arrays import bcast, like
from diffjax.conditions import at_time
from diffjax.flow_maps.flow_map import FlowMap, as_flow_map
from diffjax.flow_maps.levels import Both, Levels
from diffjax.precondition import CNoise, check_sde, evaluate, evaluate_c_noise, operands, per_example, quarter_log_sigma
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, as_partial, check_takes, pytree


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
        c_s = evaluate_c_noise(self.c_noise, self.sde, jnp.maximum(s, self.sde.t_min), x)
        return self.precondition(self.sde, Partial(_at_s, self.network, c_s))(x, t, cond)

    def velocity(self, x, t, cond=None):
        x, t = operands(x, t)
        return like(x, gaussian.velocity_from_x0(self.sde, x, t, self.diagonal(x, t, cond)))

    def diagonal(self, x, t, cond=None):
        x, t = operands(x, t)
        return self.g(x, t, t, cond)


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
        return like(x, evaluate(self.network, "network", x, c_noise, at_time(cond, t)))

    def velocity(self, x, t, cond=None):
        x, t = operands(x, t)
        return self.u(x, t, t, cond)


def average_velocity(sde: SDE, network: Callable, levels: Levels = Both()) -> AverageVelocity:
    """X of Eq. 5, with u the network's output: in the time of the SDE, whichever it is."""
    return AverageVelocity(*_network(sde, network), as_partial(levels))


def diagonal_of(flow_map: Callable, sde: SDE, network: Callable) -> Denoiser:
    """`flow_map(sde, network).diagonal`: `Partial(diagonal_of, ctm)` is a `precondition` for `losses.DSM`."""
    return as_partial(as_flow_map(sde, flow_map(sde, network)).diagonal)


def denoiser_of(flow_map: Callable, sde: SDE, network: Callable) -> Denoiser:
    """`flow_map(sde, network).to(0.0)`: `Partial(denoiser_of, ctm)` is a `precondition` for `Student`."""
    return as_flow_map(sde, flow_map(sde, network)).to(0.0)


def _at_s(network, c_s, x: Array, c_t: Array, cond: Cond = None) -> Array:
    return network(x, (c_t, c_s), cond)


def _network(sde: SDE, network: Callable) -> tuple[SDE, Callable]:
    check_sde(sde)
    network = as_partial(network)
    check_takes(network, "a network, with its parameters bound,", "x", "c_noise", "cond")
    return sde, network

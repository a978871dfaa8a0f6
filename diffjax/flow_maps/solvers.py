"""The steps of a solver as flow maps: DDIM's, Heun's, and several along a grid."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, like
from diffjax.flow_maps.flow_map import FlowMap, as_flow_map
from diffjax.precondition import check_process, check_sde, operands
from diffjax.sde import gaussian
from diffjax.times.grids import falling
from diffjax.typing import SDE, Denoiser, as_partial, pytree


@pytree
class DDIMStep(FlowMap):
    """`ddim_step`: Eq. 4 with g(x, t), whatever s."""

    sde: SDE
    denoiser: Denoiser

    def jump(self, x, t, s, cond):
        return gaussian.exponential_step(self.sde, x, t, s, self.diagonal(x, t, cond))

    def velocity(self, x, t, cond=None):
        x, t = operands(x, t)
        return like(x, gaussian.velocity_from_x0(self.sde, x, t, self.diagonal(x, t, cond)))

    def diagonal(self, x, t, cond=None):
        return like(x, self.denoiser(x, t, cond), "denoiser")


def ddim_step(sde: SDE, denoise: Denoiser) -> DDIMStep:
    """One DDIM step: Euler's in sigma/alpha, first order (for `EDM` the paper's Euler step).

    Raises:
      ValueError: the denoiser was made for another process (`precondition.check_process`).
    """
    check_sde(sde)
    check_process(denoise, sde)
    return DDIMStep(sde, as_partial(denoise))


@pytree
class HeunStep(DDIMStep):
    """`heun_step`: the mean of the velocities at t and, after a step of Euler's method, at s."""

    def jump(self, x, t, s, cond):
        x0, h = self.diagonal(x, t, cond), bcast(s - t, x)
        d = gaussian.velocity_from_x0(self.sde, x, t, x0)
        later = jnp.where(s > 0, s, t)  # the denoiser is not evaluated at 0
        slope = (d + self.velocity((x + h * d).astype(x.dtype), later, cond)) / 2
        return jnp.where(bcast(s > 0, x), x + h * slope, gaussian.exponential_step(self.sde, x, t, s, x0))


def heun_step(sde: SDE, denoise: Denoiser) -> HeunStep:
    """One step of Heun's method in the time of the SDE, second order, and DDIM's into s = 0 (as `Heun`).

    Raises:
      ValueError: the denoiser was made for another process (`precondition.check_process`).
    """
    check_sde(sde)
    check_process(denoise, sde)
    return HeunStep(sde, as_partial(denoise))


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


def along(sde: SDE, denoise: Denoiser, ts: Array, solver: Callable = heun_step) -> Along:
    """The flow from t to s by one step of `solver` for each interval of the grid ts, or part of it, between t and s.

    Each example has its own t and s; all intervals are evaluated, also those that lie outside.

    Raises:
      ValueError: the grid has no step, rises, or leaves the process's times.
    """
    return Along(as_flow_map(sde, solver(sde, denoise)), falling(ts, sde, strictly=False))

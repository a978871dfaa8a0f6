"""Flow maps by self-distillation or from a teacher (Boffi, Albergo & Vanden-Eijnden 2024, 2025), for any SDE's time.

A flow map X(x, t, s) is known by its slope v on the diagonal s = t and any one of three identities of `flow_maps`, each
a residual whose squared norm is a loss:

    (1) Lagrangian (LSD):   d/ds X(x, t, s) - sg(v(X, s))
    (2) Eulerian (ESD):     d/dt X(x, t, s) + sg(grad X(x, t, s) v(x, t))
    (3) progressive (PSD):  (X(x, t, s) - sg(X(X(x, t, u), u, s)))/(t - s),   t > u > s,  uniform or in the middle

v is the student's own, dX/ds at s = t, stopped: then the diagonal is to be learnt at once, by flow matching. Or v is a
teacher's (their map matching, LMD and EMD), and nothing else is needed. (3) is the difference of average velocities,
phi(x, t, s) against its parts' mean weighted by their durations: with u in the middle and times of `times.Dyadic` the
loss of shortcut models (Frans et al. 2024, who clip its target to 4), whose network is conditioned on t - s
(`flow_maps.Duration`). With data at t = 1 the papers write X_{s,t}, v and phi with the opposite signs. The paper of
2024 lets gradients pass where `sg` stands in map matching; here they are stopped, as in that of 2025.

    off = SelfDistillation(sde, times.Sorted(law), lagrangian, net.apply, average_velocity)
    on = DSM(sde, law, net.apply, Partial(flow_maps.diagonal_of, average_velocity), weightings.velocity)
    Sum((on, off), (0.75, 0.25))

Any flow map, of whatever velocity, has the residual 0: without a teacher it is the diagonal that ties it to the data.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, example_keys, flat_mean, fold
from diffjax.conditions import cond_keys
from diffjax.flow_maps import as_flow_map
from diffjax.losses.draws import bound, read, target_params, times
from diffjax.losses.networks import check_functions
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Cond, Context, Denoiser, FlowMap, Key, PyTree, pytree, static


class Maps(NamedTuple):
    """What a residual may be made of; no gradient passes through the last two."""

    student: FlowMap
    frozen: FlowMap
    velocity: Callable  # (x, t, cond) -> v


def lagrangian(maps: Maps, key: Key, x: Array, t: Array, s: Array, cond: Cond) -> Array:
    """Eq. 1: where the map arrives, it moves with the flow."""
    end, slope = jax.jvp(lambda s: maps.student(x, t, s, cond), (s,), (jnp.ones_like(s),))
    return slope - jax.lax.stop_gradient(maps.velocity(jax.lax.stop_gradient(end), s, cond))


def eulerian(maps: Maps, key: Key, x: Array, t: Array, s: Array, cond: Cond) -> Array:
    """Eq. 2: the end does not move as its start moves with the flow; no gradient passes through grad X."""
    slope = jax.jvp(lambda t: maps.student(x, t, s, cond), (t,), (jnp.ones_like(t),))[1]
    v = maps.velocity(x, t, cond).astype(x.dtype)
    return slope + jax.lax.stop_gradient(jax.jvp(lambda x: maps.frozen(x, t, s, cond), (x,), (v,))[1])


def progressive_uniform(maps: Maps, key: Key, x: Array, t: Array, s: Array, cond: Cond) -> Array:
    """Eq. 3 with u uniform between s and t."""
    share = jax.vmap(jax.random.uniform)(example_keys(key, len(x)))
    return _through(maps, x, t, s + share * (t - s), s, cond)


def progressive_midpoint(maps: Maps, key: Key, x: Array, t: Array, s: Array, cond: Cond) -> Array:
    """Eq. 3 with u in the middle of s and t."""
    return _through(maps, x, t, 0.5 * (s + t), s, cond)


def _through(maps: Maps, x: Array, t: Array, u: Array, s: Array, cond: Cond) -> Array:
    goal = jax.lax.stop_gradient(maps.frozen(maps.frozen(x, t, u, cond), u, s, cond))
    return (maps.student(x, t, s, cond) - goal) / bcast(jnp.where(t > s, t - s, 1), x)


@pytree
class SelfDistillation:
    """The squared residual, its mean over an example's entries; `loss(params, key, batch) -> ([B], {"t", "s": [B]})`.

    A batch is as in `DSM`. With `target_ema`, `frozen` and the student's own velocity are those of an average.

    Raises:
      ValueError: the teacher was made for another process, or the target network or the training step is missing in
        the context.
    """

    sde: SDE
    pairs: Callable  # (key, n, step) -> (t [n], s [n]), see `times`
    residual: Callable = static()  # `lagrangian`, `eulerian`, `progressive_uniform` or `progressive_midpoint`
    network: Callable = static()  # (params, x, (c_t, c_s), cond, *, train, rngs) -> F
    flow_map: Callable = static()  # (sde, network) -> FlowMap, see `flow_maps`
    teacher: Denoiser | None = None  # whose velocity it is; None: the student's own
    target_ema: int | None = static(default=None)  # the EMA that is the target network; None: the student itself
    train: bool = static(default=True)

    def __post_init__(self):
        check_distribution(self.pairs, self.sde, 2)
        check_functions(
            self,
            residual="(maps, key, x, t, s, cond) -> [B, ...]",
            network="(params, x, (c_t, c_s), cond) -> F",
            flow_map="(sde, network) -> flow map",
        )
        if self.teacher is not None:
            check_process(self.teacher, self.sde)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = read(key, batch, cond_keys(self.network), context)
        t, s = times(self.pairs, self.sde, draw, 2)
        x = gaussian.perturb(self.sde, draw.x0, t, draw.eps)
        student, frozen = (
            as_flow_map(self.sde, self.flow_map(self.sde, bound(self, p, draw)))
            for p in (params, target_params(self, params, context))
        )
        maps = Maps(student, frozen, frozen.velocity if self.teacher is None else self._teachers_velocity)
        residual = self.residual(maps, fold(key, 3), x, t, s, draw.cond)
        return flat_mean(residual**2), {"t": t, "s": s}

    def _teachers_velocity(self, x: Array, t: Array, cond: Cond) -> Array:
        check_process(self.teacher, self.sde)
        assert self.teacher is not None
        return gaussian.velocity_from_x0(self.sde, x, t, self.teacher(x, t, cond))

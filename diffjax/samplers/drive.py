"""The one driver of all samplers: a `lax.scan` over the steps of a time grid.

A sampler is a noun with `init(x) -> state` and `step(key, denoise, sde, state, t, s, cond) -> state`. The step gets the
denoiser as a function, so that a solver may evaluate it where it likes; `Jump` wants a flow map in its place. The state
is a NamedTuple with a field `x`, and of stochastic samplers also `mean`: x before the step's noise was added.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.arrays import example_keys, fold, like
from diffjax.conditions import check_values
from diffjax.flow_maps import check_map
from diffjax.times.grids import check_times
from diffjax.typing import SDE, Cond, Denoiser, FlowMap, Key, Sampler, as_partial


class State(NamedTuple):
    """The state of a one-step sampler."""

    x: Array  # [B, ...]
    mean: Array  # x before the last step's noise

    @classmethod
    def start(cls, x: Array) -> "State":
        return cls(x, x)


def sample(
    key: Key,
    denoise: Denoiser | FlowMap,
    sde: SDE,
    sampler: Sampler,
    ts: Array,
    x: Array,
    cond: Cond = None,
    *,
    trajectory: bool = False,
) -> Array:
    """Carry x from time ts[0] to ts[-1] by one sampler step for each interval of the grid.

    The function is compiled once for each combination of types and shapes; floats of the SDE, the sampler and the
    denoiser (its parameters, if it is a `Partial`) are arguments. A plain function is accepted as a denoiser too: what
    it closes over becomes a constant, and each fresh lambda compiles anew.

    Args:
      key: one key, or one key for each example [B]; example i of a single key uses it folded with i, so that seeds
        give the same samples however they are batched.
      denoise: `(x, t, cond) -> x_0`; for `Jump` a flow map `(x, t, s, cond) -> x_s`.
      ts: times [n + 1] that do not increase, within [0, sde.T]; see `diffjax.times`. Under `TimeTravel` they may.
      x: the state at ts[0], [B, ...]; `prior_sample` draws it.
      trajectory: return the states at all times of ts, [n + 1, B, ...].

    Returns:
      x at ts[-1], [B, ...], or the trajectory. It ends, as in Score-SDE, with the last step's mean, without its noise;
      `KeepNoise(sampler)` keeps that.

    Raises:
      ValueError: the grid, the shape of x or the number of keys is unfit, or the denoiser changes the shape.
    """
    x = _checked(ts, sde, x, getattr(sampler, "climbs", False))
    keys = example_keys(key, x.shape[0])
    check_values(denoise, x, ts[0], cond)
    return _sample(keys, as_partial(denoise), sde, sampler, ts, x, cond, trajectory)


def encode(
    denoise: Denoiser,
    sde: SDE,
    sampler: Sampler,
    ts: Array,
    x: Array,
    cond: Cond = None,
    *,
    trajectory: bool = False,
) -> Array:
    """Carry data x up the grid, from ts[-1] to ts[0]: the inverse of `sample`, up to the solver's error.

    With `DDIM()` this is DDIM inversion (Song et al. 2021, Section 4.3). The sampler must be deterministic.

    Args:
      ts: the grid that `sample` takes; its last time must be above 0, where there is no noise to be seen.
      x: the state at ts[-1], [B, ...].
      trajectory: return the states from ts[-1] to ts[0], [n + 1, B, ...].

    Returns:
      x at ts[0], [B, ...], or the trajectory.

    Raises:
      ValueError: as `sample`, or the grid ends at 0.
    """
    x = _checked(ts, sde, x)
    if not isinstance(ts, Tracer) and np.asarray(ts)[-1] <= 0:
        raise ValueError("to encode, the grid must end above t = 0: give it a t_min, or leave out its last step")
    keys = example_keys(jax.random.key(0), x.shape[0])  # a deterministic sampler draws nothing
    return _sample(keys, as_partial(denoise), sde, sampler, ts[::-1], x, cond, trajectory)


def _checked(ts: Array, sde: SDE, x: Array, climbs: bool = False) -> Array:
    """x in the precision of the steps' arithmetic, never below float32, once it and the grid are found fit."""
    x = jnp.asarray(x)
    if x.ndim < 1 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be a float array [B, ...], got {x.dtype} of shape {x.shape}")
    check_grid(ts, sde, climbs)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@partial(jax.jit, static_argnames="trajectory")
def _sample(keys, denoise, sde, sampler, ts, x, cond, trajectory):
    def checked(x, *times_and_cond):
        if len(times_and_cond) > 2:
            check_map(denoise)
        return like(x, denoise(x, *times_and_cond), "denoiser")

    def step(state: Any, interval):
        i, t, s = interval
        stepped = sampler.step(fold(keys, i), checked, sde, state, t, s, cond)
        state = jax.tree.map(lambda new, old: new.astype(old.dtype), stepped, state)  # whatever the grid's dtype
        return state, (state.x if trajectory else None)

    intervals = (jnp.arange(len(ts) - 1), ts[:-1], ts[1:])
    state, xs = jax.lax.scan(step, sampler.init(x), intervals)
    last = getattr(state, "mean", state.x)
    return last if xs is None else jnp.concatenate([x[None], xs[:-1], last[None]])


def check_grid(ts: Array, sde: SDE, climbs: bool = False) -> None:
    """Raise a ValueError unless ts is a grid for the SDE. What is traced cannot be looked at, and passes.

    A grid that `climbs` may rise on its way, but not as a whole.
    """
    if np.ndim(ts) != 1 or len(ts) < 2:
        raise ValueError(f"ts must be [n + 1] times for n >= 1 steps, got shape {np.shape(ts)}")
    if not isinstance(ts, Tracer):
        nodes = np.asarray(ts)
        if not np.all(np.diff(nodes[[0, -1]] if climbs else nodes) <= 0):
            raise ValueError(
                "ts must fall from noise (ts[0]) to data (ts[-1]); reverse the grid if it rises. "
                "Only TimeTravel(sampler), outside of all other constraints, goes up and down"
            )
    check_times(ts, sde)

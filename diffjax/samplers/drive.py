"""The one driver of all samplers: a `lax.scan` over the steps of a time grid.

A sampler is an object with `init(x) -> state` and `step(key, denoise, sde, state, t, s, cond) -> state`. The step gets
the denoiser as a function, so that a solver may evaluate it where it likes; `Jump` takes a flow map in its place. The
state is a NamedTuple with a field `x`, and of stochastic samplers also `mean`: x before the step's noise was added.

Where a run ends there may be more to come. At the SDE's t_min or below the mean is returned, which is the denoised
image. Above t_min it is x itself, so that a run in two halves has the distribution of one run.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.arrays import example_keys, fold, like
from diffjax.checks import check_key
from diffjax.conditions import as_cond
from diffjax.flow_maps import check_map, check_no_map
from diffjax.precondition import check_start, evaluate
from diffjax.samplers.arguments import as_grid, as_state, check_model, check_sampler, held
from diffjax.samplers.arguments import check_grid as check_grid
from diffjax.sde import gaussian
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

    A run from T to t and a second one from t to the end have the distribution of one run, with the same key too: into
    the keys of a run that does not start at T its first time is folded. Two runs that start at the same time below T,
    with the same key, draw the same noise.

    Args:
      key: one key, or one key for each example [B]; example i of a single key uses it folded with i, so that seeds
        give the same samples however they are batched.
      denoise: `(x, t, cond) -> x_0`; for `Jump` a flow map `(x, t, s, cond) -> x_s`.
      ts: times [n + 1] that do not increase, within [0, sde.T]; see `diffjax.times`, and `samplers.default_grid` for
        each solver's own. Under `TimeTravel` they may increase.
      x: the state at ts[0], [B, ...]; `prior_sample` draws it.
      trajectory: return the states at all times of ts, [n + 1, B, ...].

    Returns:
      x at ts[-1], [B, ...], or the trajectory. Where the grid ends at sde.t_min or below, it is, as in Score-SDE, the
      last step's mean, without its noise; `KeepNoise(sampler)` keeps that. Any other end has the distribution of x_t.

    Raises:
      ValueError: the grid, the shape of x, the condition or the number of keys is unfit, the denoiser was made for
        another SDE, or changes the shape.
      TypeError: the sampler or the denoiser is none.
    """
    check_key(key)
    check_sampler(sampler)
    x = as_state(x)
    cond = as_cond(cond)
    check_model(denoise, sde, cond, x)
    ts = as_grid(ts, sde, getattr(sampler, "climbs", False))
    check_start(denoise, ts)
    keys = example_keys(key, x.shape[0])
    return _sample(keys, as_partial(denoise), sde, sampler, ts, x, cond, trajectory)


def invert(
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
      ts: the grid that `sample` takes; its last time must be above 0, where x has no noise.
      x: the state at ts[-1], [B, ...].
      trajectory: return the states from ts[-1] to ts[0], [n + 1, B, ...].

    Returns:
      x at ts[0], [B, ...], or the trajectory.

    Raises:
      ValueError: as `sample`, the sampler draws noise, or the grid ends at 0.
    """
    check_sampler(sampler)
    if not is_invertible(sampler):
        raise ValueError(f"to invert, take a deterministic sampler, such as DDIM(); {sampler} draws noise or jumps")
    x = as_state(x)
    cond = as_cond(cond)
    check_model(denoise, sde, cond, x)
    ts = as_grid(ts, sde)
    if not isinstance(ts, Tracer) and np.asarray(ts)[-1] <= 0:
        raise ValueError("to invert, the grid must end above t = 0: give it a t_min, or leave out its last step")
    keys = example_keys(jax.random.key(0), x.shape[0])  # a deterministic sampler draws nothing
    return _sample(keys, as_partial(denoise), sde, sampler, ts[::-1], x, cond, trajectory)


def is_invertible(sampler: Any) -> bool:
    """Whether `sampler` may go up a grid: its `invertible` decides, else the samplers that it holds do."""
    if hasattr(sampler, "invertible"):
        return bool(sampler.invertible)
    return all(is_invertible(part) for part in held(sampler))


@partial(jax.jit, static_argnames="trajectory")
def _sample(keys, denoise, sde, sampler, ts, x, cond, trajectory):
    keys = _keys_from(keys, sde, ts[0])

    def checked(x, t, *rest):
        if len(rest) > 1:  # (s, cond)
            check_map(denoise)
            return like(x, evaluate(denoise, "flow map", x, t, *rest), "flow map")
        check_no_map(denoise)
        alpha, sigma = gaussian.curves(sde, t, x)
        clean = sigma == 0  # there x is alpha x_0, and a network's noise level may be infinite
        u = jnp.where(jnp.reshape(clean, jnp.shape(t)), sde.T / 2, t)
        x0 = like(x, evaluate(denoise, "denoiser", x, u, *rest), "denoiser")
        return jnp.where(clean, x / jnp.where(clean, alpha, 1), x0)

    def step(state: Any, interval):
        i, t, s = interval
        stepped = sampler.step(fold(keys, i), checked, sde, state, t, s, cond)
        state = jax.tree.map(lambda new, old: new.astype(old.dtype), stepped, state)  # whatever the grid's dtype
        return state, (state.x if trajectory else None)

    intervals = (jnp.arange(len(ts) - 1), ts[:-1], ts[1:])
    state, xs = jax.lax.scan(step, sampler.init(x), intervals)
    last = jnp.where(is_end(sde, ts[-1]), getattr(state, "mean", state.x), state.x)
    return last if xs is None else jnp.concatenate([x[None], xs[:-1], last[None]])


def is_end(sde: SDE, t: Array) -> Array:
    """Whether a run that stops at time t is over, []: t is the SDE's t_min (up to rounding) or below."""
    return t <= getattr(sde, "t_min", 0.0) * (1 + 1e-6)


def _keys_from(keys: Key, sde: SDE, t: Array) -> Key:
    """The keys [B] of a run that starts at time t: themselves at T, below it folded with the bits of t."""
    bits = jax.lax.bitcast_convert_type(jnp.asarray(t, jnp.float32), jnp.uint32)
    from_t = jax.vmap(jax.random.fold_in, (0, None))(keys, bits)
    return jnp.where(t >= sde.T * (1 - 1e-6), keys, from_t)

"""What losses share: a batch with its noise and condition, its times, and the network with its parameters.

Every loss reads its batch by `read`, so that one kind of batch serves all: see `diffjax.conditions` for its fields.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import fold, normal
from diffjax.checks import check_key
from diffjax.conditions import check_cond, of_batch
from diffjax.losses.evaluate import gather
from diffjax.losses.networks import bind
from diffjax.times.distributions import Place, draw, importance
from diffjax.typing import NO_CONTEXT, SDE, Cond, Context, Key, PyTree


class Draw(NamedTuple):
    """A batch and what its keys give."""

    x0: Array  # [B, ...]
    eps: Array  # [B, ...]
    cond: Cond
    k_time: Key
    rngs: dict[str, Key]  # one dropout for the student and its target: they differ by nothing else
    context: Context


def read(
    key: Key, batch: PyTree, keys: Collection[str] | None = None, context: Context = NO_CONTEXT, *, rank: int = 1
) -> Draw:
    """A batch: x_0 [B, ...] itself, or a dict with "image" and any further fields; see `diffjax.conditions`.

    x_0 of a half precision is carried to float32. "noise" is the eps [B, ...] of each example; without it eps is drawn.

    Args:
      keys: the entries of the condition that the network takes, `conditions.cond_keys(network)`; None: all.
      rank: how many axes x_0 must have at least.

    Raises:
      TypeError: the batch is neither an array nor a dict.
      ValueError: there is no "image", x_0 is no float array, the noise has another shape, an entry of the condition
        another first axis, or the key is none.
    """
    check_key(key)
    x0, fields = image(batch, rank), batch if isinstance(batch, dict) else {}
    k_time, k_noise, k_dropout = (fold(key, i) for i in range(3))
    eps = jnp.asarray(fields["noise"], x0.dtype) if "noise" in fields else normal(k_noise, x0)
    if eps.shape != x0.shape:
        raise ValueError(f"the noise has shape {eps.shape}, the images {x0.shape}: each image needs its own eps")
    cond = of_batch(fields, keys)
    check_cond(cond, len(x0))
    dropout = k_dropout if k_dropout.ndim == 0 else k_dropout[0]
    return Draw(x0, eps, cond, k_time, {"dropout": dropout}, context)


def image(batch: PyTree, rank: int = 1) -> Array:
    """x_0 [B, ...] of a batch, checked; see `read`."""
    if isinstance(batch, dict):
        if "image" not in batch:
            raise ValueError(f'a batch has the data under "image"; got a dict with {sorted(batch)}')
        batch = batch["image"]
    if isinstance(batch, tuple):
        raise TypeError('a batch of several fields is a dict, {"image": x_0, "label": ...}; got a tuple')
    x0 = jnp.asarray(batch)
    if x0.ndim < rank or not jnp.issubdtype(x0.dtype, jnp.floating):
        hint = ": scale 8-bit images to [-1, 1] by x / 127.5 - 1" if jnp.issubdtype(x0.dtype, jnp.integer) else ""
        raise ValueError(f"the data must be a float array [B, ...], got {x0.dtype}{list(x0.shape)}{hint}")
    return x0.astype(jnp.promote_types(x0.dtype, jnp.float32))


def bound(loss: Any, params: PyTree, draw: Draw) -> Partial:
    """The loss's network with these parameters."""
    return bind(loss.network, params, loss.train, draw.rngs)


def time(distribution: Any, sde: SDE, draw: Draw, *, learns: bool = True) -> tuple[Array, Array]:
    """The time t [B] of each example, and the weight [B] that keeps the loss's expectation over uniform times.

    The distribution of `Context.time_distribution` is used where there is one and the loss `learns` by it.
    """
    if learns and draw.context.time_distribution is not None:
        distribution = draw.context.time_distribution
    t = times(distribution, sde, draw, 1)
    return t, importance(distribution, t)


def times(distribution: Any, sde: SDE, data: Draw, count: int) -> Any:
    """The times of the batch's examples: [B], or a tuple of `count` arrays from a distribution of pairs or stops.

    Raises:
      ValueError: as `times.draw`; or training holds a time distribution that learns, and the loss draws pairs.
    """
    if count > 1 and data.context.time_distribution is not None:
        raise ValueError("training holds a distribution of single times, but this loss draws pairs of times")
    n, place = len(data.x0), None
    if data.context.axis is not None:
        first = gather(jax.random.key_data(jnp.atleast_1d(data.k_time)[:1]), data.context)[0]
        first = jax.random.wrap_key_data(first, impl=jax.random.key_impl(data.k_time))
        size = jax.lax.axis_size(data.context.axis)
        place = Place(first, jax.lax.axis_index(data.context.axis) * n, n * size)
    return draw(distribution, sde, data.k_time, n, data.context.step, count=count, place=place)


def weighted(weight: Any, sde: SDE, t: Array, *further: Any) -> Array:
    """`weight(sde, t, ...)`, [B].

    Raises:
      ValueError: it has another shape.
    """
    w = jnp.asarray(weight(sde, t, *further))
    if w.shape not in ((), t.shape):
        raise ValueError(f"a weight maps (sde, t [B]) to [B]; for t {t.shape} it gave {w.shape}")
    return jnp.broadcast_to(w, t.shape)


def target_params(loss: Any, params: PyTree, context: Context) -> PyTree:
    """The parameters of the target network, stopped: those of the student, or of its EMA number `loss.target_ema`.

    Raises:
      ValueError: that average is not known.
    """
    if loss.target_ema is None:
        return jax.lax.stop_gradient(params)
    if not 0 <= loss.target_ema < len(context.ema):
        raise ValueError(
            f"the target network has average {loss.target_ema} of the parameters, of {len(context.ema)} that there "
            "are: train with that many `ema_decays`, or call the loss with `context=Context(ema=...)`"
        )
    return jax.lax.stop_gradient(jax.tree.map(lambda a, p: a.astype(p.dtype), context.ema[loss.target_ema], params))

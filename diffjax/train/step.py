"""One step of training, as one pure function for every way to run it.

With per-example losses l_i(theta) of a batch of B examples, a step is

    g     = d/dtheta  1/B sum_i l_i(theta)                                                     (1)
    theta = theta + update(g)                                                                  (2)
    ema   = d ema + (1 - d) theta                 for each decay d                             (3)
    p     = p.update(t_i, l_i / p.weight(t_i))    for a time distribution p in the state       (4)

Example i draws its randomness from `fold_in(fold_in(key, step), i)`, where i counts the whole batch. Under `jit` with
sharded arrays the batch is whole by definition; under `pmap` with `axis="batch"` each device adds its offset to i, and
the gradient is averaged over the axis. All give the same parameters, up to the order of floating-point sums.

A loss with a parameter `context` is given the step, the averages before it, the time distribution of the state and the
opponent of two players (`typing.Context`), for schedules and for target networks that are averages.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from diffjax.arrays import example_keys
from diffjax.losses.evaluate import evaluate, takes_context
from diffjax.train.optim import EmaDecay, check_decays, updates
from diffjax.train.state import TrainState
from diffjax.typing import Context, Loss, PyTree

Metrics = dict[str, Array]


def train_step(
    loss: Loss,
    tx: optax.GradientTransformation,
    ema_decays: Sequence[EmaDecay],
    state: TrainState,
    batch: PyTree,
    *,
    axis: str | None = None,
    opponent: PyTree = None,
) -> tuple[TrainState, Metrics]:
    """One step on a batch [B, ...]: the next state, and the means of the loss, of its aux and the gradient's norm.

    Args:
      loss: `(params, keys [B], batch, context) -> (values [B], aux dict of [B])`; a loss may leave `context` out.
      tx: the optimiser; see `optim` for what a step is where it accumulates gradients.
      ema_decays: one for each tree of `state.ema`.
      axis: the name of the mapped axis over whose devices the batch is spread; None where `batch` is the whole batch.
      opponent: the parameters of the other of two players, for `Context.opponent`.

    Raises:
      TypeError: the loss does not return a pair of values and a dict.
      ValueError: the loss does not return one value per example, the decays do not fit `state.ema`, or the state holds
        a time distribution and the loss cannot use one.
    """
    check_decays(ema_decays)
    if len(ema_decays) != len(state.ema):
        raise ValueError(f"{len(ema_decays)} EMA decays, but the state holds {len(state.ema)} averages")
    n = batch_size(batch)
    first = 0 if axis is None else jax.lax.axis_index(axis) * n
    keys = example_keys(jax.random.fold_in(state.key, state.step), n, first)
    context = Context(state.step, state.ema, state.time_distribution, opponent, axis)
    grads, (metrics, seen) = jax.grad(partial(_mean, loss, context), has_aux=True)(state.params, keys, batch)  # (1)
    if axis is not None:
        grads, metrics = jax.lax.pmean((grads, metrics), axis)
    metrics["grad_norm"] = optax.tree.norm(grads)
    update, opt_state = tx.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, update)  # (2)
    count, moved = updates(opt_state, state.step)
    ema = tuple(_average(d, count, moved, params, old) for d, old in zip(ema_decays, state.ema, strict=True))  # (3)
    p = None if state.time_distribution is None else _updated(state.time_distribution, seen, axis)  # (4)
    return TrainState(state.step + 1, params, opt_state, ema, state.key, p), metrics


def train_steps(
    loss: Loss,
    tx: optax.GradientTransformation,
    ema_decays: Sequence[EmaDecay],
    state: TrainState,
    batches: PyTree,
    *,
    axis: str | None = None,
    opponent: PyTree = None,
) -> tuple[TrainState, Metrics]:
    """k steps in one call, on k batches stacked as [k, B, ...]; the metrics are [k], one of each step.

    This saves the host's share of each step. The library's own networks are as fast in the loop as outside it; with
    plain `flax.linen.Conv` keep k = 1 on a CPU, where XLA leaves the gradients of convolutions inside a loop in a slow
    form (jax 0.10.2: 40 times slower; `nn/conv.py` avoids it).
    """
    step = partial(train_step, loss, tx, ema_decays, axis=axis, opponent=opponent)
    if jax.tree.leaves(batches)[0].shape[0] > 1:
        return jax.lax.scan(step, state, batches)
    state, metrics = step(state, jax.tree.map(lambda x: x[0], batches))  # a scan of length 1 would still be a loop
    return state, jax.tree.map(lambda m: m[None], metrics)


def batch_size(batch: PyTree) -> int:
    """B of a batch whose leaves are all [B, ...].

    Raises:
      ValueError: there is no leaf, a leaf has no axis, or the leaves disagree.
    """
    sizes = {jnp.shape(x)[:1] for x in jax.tree.leaves(batch)}
    size = sizes.pop() if len(sizes) == 1 else ()
    if not size:
        shapes = jax.tree.map(jnp.shape, batch)
        raise ValueError(f"every array of a batch needs the same first axis (the examples), got shapes {shapes}")
    return size[0]


def _mean(
    loss: Loss, context: Context, params: PyTree, keys: Array, batch: PyTree
) -> tuple[Array, tuple[Metrics, Metrics]]:
    values, aux = _evaluate(loss, context, params, keys, batch)
    for name, value in {"loss": values, **aux}.items():
        if jnp.shape(value) != keys.shape:
            raise ValueError(
                f"a loss returns one value per example, but {name!r} is {list(jnp.shape(value))} for a batch of "
                f"{keys.shape[0]}: sum over the other axes, and leave the mean over the batch to train_step"
            )
    metrics = {name: value.mean() for name, value in aux.items()} | {"loss": values.mean()}
    return metrics["loss"], (metrics, aux | {"loss": values})


def _evaluate(loss: Loss, context: Context, params: PyTree, keys: Array, batch: PyTree) -> tuple[Array, Metrics]:
    try:
        values, aux = evaluate(loss, params, keys, batch, context)
    except ValueError as error:
        if "single key" in str(error):  # of jax.random
            raise ValueError(
                "in training a loss has B keys, one for each example: draw by `diffjax.arrays.normal(keys, x)`, or map "
                "with `jax.vmap` over the keys"
            ) from error
        raise
    if context.time_distribution is not None and not (takes_context(loss) and "t" in aux):
        raise ValueError(
            f"the state holds a time distribution, but {loss} cannot use it: a loss that can has a parameter "
            '`context`, and its times under "t" in aux'
        )
    return values, aux


def _updated(distribution: Any, seen: Metrics, axis: str | None) -> Any:
    """The distribution after the whole batch's losses, free of its own weights, in the order of the examples."""
    seen = {"t": seen["t"], "loss": seen["loss"] / distribution.weight(seen["t"])}
    if axis is not None:
        seen = jax.lax.all_gather(seen, axis, tiled=True)
    return distribution.update(**seen)


def _average(decay: EmaDecay, count: Array, moved: Any, params: PyTree, old: PyTree) -> PyTree:
    """The EMA after update `count`, in its own types; unchanged by a step that only gathered a gradient."""
    d = decay(count) if callable(decay) else decay
    rate = 1.0 - d if moved is True else jnp.where(moved, 1.0 - d, 0.0)
    return jax.tree.map(lambda a, b: ((1.0 - rate) * b + rate * a.astype(b.dtype)).astype(b.dtype), params, old)

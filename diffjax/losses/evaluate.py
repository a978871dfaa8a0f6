"""How a loss is called: by training, and by the losses that are made of other losses.

    values [B], aux = evaluate(loss, params, key, batch, context)

A loss with a parameter `context` is given the `Context`; a function of three arguments is called without it. Here is
also what the losses need that look at the whole batch where `Context.axis` spreads it over devices.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from diffjax.typing import NO_CONTEXT, Context, Key, Loss, PyTree


def evaluate(
    loss: Loss, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
) -> tuple[Array, dict[str, Array]]:
    """`loss(params, key, batch, context)`, without the context where the loss has no parameter of that name.

    Raises:
      TypeError: the loss is no function, or does not return a pair of values and a dict.
    """
    check_loss(loss)
    result = loss(params, key, batch, context=context) if takes_context(loss) else loss(params, key, batch)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)):
        raise TypeError(
            "a loss returns (values [B], aux), where aux is a dict of further figures [B] and may be empty; "
            f"{_name(loss)} returned {jax.tree.map(lambda a: getattr(a, 'shape', a), result)}"
        )
    return result


def takes_context(loss: Callable) -> bool:
    """Whether a loss has a parameter `context`."""
    try:
        return "context" in inspect.signature(loss).parameters
    except ValueError:
        return False  # a builtin does not say what it takes


def check_loss(loss: Any) -> None:
    """Raise a TypeError unless `loss` can be called and is no class."""
    if isinstance(loss, type):
        raise TypeError(f"expected a loss, got the class {loss.__name__}: did you mean {loss.__name__}(...)?")
    if not callable(loss):
        raise TypeError(f"expected a loss, a function (params, key, batch) -> (values [B], aux dict), got {loss!r}")


def gather(tree: PyTree, context: Context) -> PyTree:
    """The arrays [B, ...] of the whole batch, in the order of its examples, on every device."""
    return tree if context.axis is None else jax.lax.all_gather(tree, context.axis, tiled=True)


def own_share(tree: PyTree, n: int, context: Context) -> PyTree:
    """The n examples of this device out of arrays of the whole batch."""
    if context.axis is None:
        return tree
    first = jax.lax.axis_index(context.axis) * n
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, first, n), tree)


def _name(loss: Any) -> str:
    return getattr(loss, "__name__", type(loss).__name__)

"""Conditions: what a network is conditioned on, as a dict of named entries, and which of them have a batch axis.

    {"label": [B] integers, "text": [B, L, D], "image": [B, H, W, C], "scale": [B], ..., "attend": an `Attend`}

An array with axes has the examples as its first axis. Scalars are shared by all examples, and so is whatever an
`Attend` or a `Shared` holds: attention control has no batch axis. A condition that is no dict follows the same rule.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from diffjax.typing import Cond, pytree


@pytree
class Shared:
    """An entry of a condition that all examples share, whatever its axes: `{"attend": Shared(value)}`."""

    value: Any


def is_shared(entry: Any) -> bool:
    """Whether an entry has no batch axis: a `Shared`, or a callable such as an `Attend`."""
    return isinstance(entry, Shared | Partial) or (callable(entry) and not isinstance(entry, jax.Array))


def batch_axes(cond: Cond) -> Cond:
    """The axes of `jax.vmap` for a condition: 0 for arrays with axes, None for scalars and shared entries."""
    return jax.tree.map(lambda e: 0 if not is_shared(e) and jnp.ndim(e) else None, cond, is_leaf=is_shared)


def one_example(cond: Cond) -> Cond:
    """What `vmap` over `batch_axes` hands over of a condition, as a batch of one: shared entries stay as they are."""
    return jax.tree.map(lambda e: e if is_shared(e) else jnp.asarray(e)[None], cond, is_leaf=is_shared)


def map_examples(fn: Any, *conds: Cond) -> Cond:
    """`fn` of the entries that have a batch axis; the others are those of the first condition."""
    return jax.tree.map(lambda e, *o: e if is_shared(e) or not jnp.ndim(e) else fn(e, *o), *conds, is_leaf=is_shared)


def check_cond(cond: Cond, n: int) -> None:
    """Raise a ValueError unless every array of a condition with axes is of n examples (or shared)."""
    for path, entry in jax.tree_util.tree_leaves_with_path(cond, is_leaf=is_shared):
        shape = () if is_shared(entry) else jnp.shape(entry)
        if shape and shape[0] != n:
            raise ValueError(
                f"the condition{jax.tree_util.keystr(path)} has shape {shape} for {n} examples: its first axis must be "
                "the batch; wrap what all examples share in diffjax.conditions.Shared"
            )


def check_values(denoise: Any, x: Any, t: Any, cond: Cond) -> None:
    """Let what a denoiser is made of look at a condition whose values are known: each part with a `check_cond`.

    Inside a compiled function a label out of range can only become NaN; here, before it, it raises.
    """
    if hasattr(denoise, "check_cond"):
        denoise.check_cond(x, t, cond)
    if isinstance(denoise, functools.partial):
        denoise = (*denoise.args, *denoise.keywords.values())
    if isinstance(denoise, tuple | list):
        for part in denoise:
            check_values(part, x, t, cond)

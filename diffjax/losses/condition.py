"""Condition dropout: one network learns p(x | c) and p(x), as classifier-free guidance needs (Ho & Salimans 2022).

Each example of a batch trades its condition for the null condition with probability p, independently (their
Algorithm 1; p = 0.1 to 0.2 works best there). A student of a guided teacher draws its guidance scale instead.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, example_keys, fold
from diffjax.typing import Cond, Key, PyTree, pytree


@pytree
class DropCondition:
    """`loss` on batches whose conditions are dropped at random.

    A batch is a dict with "cond", any pytree of arrays [B, ...], or with "label" [B], which then stands for
    {"label": label}. `null` is one example's null condition, of the same structure, its leaves broadcasting against
    one row: {"label": 10} for a network of ten classes.

    Raises:
      ValueError: the batch has no condition, or `null` another structure.
    """

    loss: Any
    null: Any
    p: Any = 0.1

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        if not isinstance(batch, dict) or not {"cond", "label"} & set(batch):
            raise ValueError('condition dropout needs a batch with an entry "cond" or "label"')
        cond = batch["cond"] if "cond" in batch else {"label": batch["label"]}
        keys = example_keys(fold(key, 1 << 20), len(batch["image"]))  # apart from what the loss folds in
        dropped = jax.vmap(lambda k: jax.random.bernoulli(k, self.p))(keys)
        return self.loss(params, key, {**batch, "cond": drop(cond, self.null, dropped)})


@pytree
class DrawScale:
    """`loss` on batches with a guidance scale for each example, cond["scale"] uniform on [low, high].

    With `guidance.cfg_of_scale` as the teacher one student learns all scales (Meng et al. 2023).

    Raises:
      ValueError: the batch's condition is no dict.
    """

    loss: Any
    low: Any = 1.0
    high: Any = 8.0

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        batch = batch if isinstance(batch, dict) else {"image": batch}
        cond = batch.get("cond", {"label": batch["label"]} if "label" in batch else {})
        if not isinstance(cond, dict):
            raise ValueError(f"a guidance scale is an entry of a condition that is a dict, got {type(cond).__name__}")
        keys = example_keys(fold(key, (1 << 20) + 1), len(batch["image"]))  # apart from what the loss folds in
        scale = self.low + (self.high - self.low) * jax.vmap(jax.random.uniform)(keys)
        return self.loss(params, key, {**batch, "cond": {**cond, "scale": scale}})


def drop(cond: Cond, null: Cond, dropped: Array) -> Cond:
    """`cond`, with `null` where `dropped` [B] is true. Raises a ValueError where their structures differ."""
    if jax.tree.structure(cond) != jax.tree.structure(null):
        raise ValueError(
            f"the null condition {null} has another structure than the condition {jax.tree.map(jnp.shape, cond)}"
        )
    return jax.tree.map(lambda c, n: jnp.where(bcast(dropped, c), jnp.asarray(n, c.dtype), c), cond, null)

"""Condition dropout: one network learns p(x | c) and p(x), as classifier-free guidance needs (Ho & Salimans 2022).

Each example of a batch trades its condition for the null condition with probability p, independently (their
Algorithm 1; p = 0.1 to 0.2 works best there). A student of a guided teacher draws its guidance scale instead.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import bcast, example_keys, fold
from diffjax.checks import check_key, check_number, known
from diffjax.conditions import check_cond, check_labels, classes_of, kept_names
from diffjax.losses.draws import image
from diffjax.losses.evaluate import check_loss, evaluate
from diffjax.typing import NO_CONTEXT, Cond, Context, Key, PyTree, pytree


@pytree
class DropCondition:
    """`loss` on batches whose conditions are dropped at random.

    A batch is a dict with "cond", any pytree of arrays [B, ...], or with the fields that `null` names. `null` is one
    example's null condition, of the same structure, its leaves broadcasting against one row: {"label": 10} for batches
    with a "label" and a network of ten classes. Fields that it does not name, or that are `conditions.Kept` in it, are
    not dropped.

    Raises:
      TypeError: `null` looks like a probability.
      ValueError: p is no probability, `null` is no label that the network has, the batch has no condition, or `null`
        another structure.
    """

    loss: Any
    null: Any
    p: Any = 0.1

    def __post_init__(self):
        check_loss(self.loss)
        if isinstance(self.null, float) and 0 < self.null < 1:
            raise TypeError(
                f"null is a condition, such as {{'label': 10}}, got {self.null}; the probability is p={self.null}"
            )
        classes = classes_of(self.loss)
        if classes and isinstance(self.null, dict) and known(null := self.null.get("label")):
            check_labels(null, 1, classes, null=True)
            if null != classes:
                raise ValueError(f"the null label of a network of {classes} classes is {classes}, got {null}")
        check_number("p", self.p, 0, 1, why="it is the probability that a condition is dropped")

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        check_key(key)
        n = len(image(batch))
        cond = self._cond(batch)
        check_cond(cond, n)
        keys = example_keys(fold(key, 1 << 20), n)  # apart from what the loss folds in
        dropped = jax.vmap(lambda k: jax.random.bernoulli(k, self.p))(keys)
        return evaluate(self.loss, params, key, {**batch, "cond": drop(cond, self.null, dropped)}, context)

    def _cond(self, batch: PyTree) -> Cond:
        fields = batch if isinstance(batch, dict) else {}
        if fields.get("cond") is not None:
            return fields["cond"]
        names = set(self.null) - kept_names(self.null) if isinstance(self.null, dict) else set()
        if not names:
            raise ValueError('condition dropout needs a batch with a "cond", or a null condition {"label": ...}')
        if names - set(fields):
            raise ValueError(f"condition dropout needs a batch with the fields {sorted(names)}, got {sorted(fields)}")
        return {name: fields[name] for name in self.null if name in names}


@pytree
class DrawScale:
    """`loss` on batches with a guidance scale for each example, cond["scale"] uniform on [low, high].

    With `guidance.cfg_of_scale` as the teacher one student learns all scales (Meng et al. 2023).

    Raises:
      ValueError: low is above high, or the batch's condition is no dict.
    """

    loss: Any
    low: Any = 1.0
    high: Any = 8.0

    def __post_init__(self):
        check_loss(self.loss)
        check_number("low", self.low)
        check_number("high", self.high)
        if known(self.low) and known(self.high) and not np.all(np.asarray(self.low) <= np.asarray(self.high)):
            raise ValueError(f"scales are drawn from low to high >= low, got {self.low} to {self.high}")

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        check_key(key)
        batch = batch if isinstance(batch, dict) else {"image": batch}
        cond = {} if batch.get("cond") is None else batch["cond"]
        if not isinstance(cond, dict):
            raise ValueError(f"a guidance scale is an entry of a condition that is a dict, got {type(cond).__name__}")
        keys = example_keys(fold(key, (1 << 20) + 1), len(image(batch)))  # apart from what the loss folds in
        scale = self.low + (self.high - self.low) * jax.vmap(jax.random.uniform)(keys)
        return evaluate(self.loss, params, key, {**batch, "cond": {**cond, "scale": scale}}, context)


def drop(cond: Cond, null: Cond, dropped: Array) -> Cond:
    """`cond`, with `null` where `dropped` [B] is true; what is `Kept` in `null` stays.

    Raises:
      ValueError: their structures differ, or a leaf of `null` does not broadcast against one example's.
    """
    kept = kept_names(null)
    if kept:
        own = {name: entry for name, entry in cond.items() if name in kept}
        cond, null = ({name: e for name, e in c.items() if name not in kept} for c in (cond, null))
        return drop(cond, null, dropped) | own
    if jax.tree.structure(cond) != jax.tree.structure(null):
        raise ValueError(
            f"the null condition {null} has another structure than the condition {jax.tree.map(jnp.shape, cond)}"
        )

    def choose(c: Any, n: Any) -> Array:
        c = jnp.asarray(c)
        row, own = np.shape(n), c.shape[1:]
        if len(row) > len(own) or any(a not in (1, b) for a, b in zip(row[::-1], own[::-1], strict=False)):
            raise ValueError(f"the null condition has the shape {row} for an example's {own}")
        return jnp.where(bcast(dropped, c), jnp.asarray(n, c.dtype), c)

    return jax.tree.map(choose, cond, null)

"""The state of training: everything that decides the next step, and so everything that a checkpoint holds.

`key` never changes. The step's randomness is `fold_in(key, step)` and that of example i of the step's batch is
`fold_in(fold_in(key, step), i)`: it follows from the position alone, so that a resumed run, a larger number of steps in
one call or another number of devices draws the same noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from diffjax.checks import check_has, check_key
from diffjax.train.optim import EmaDecay, check_decays
from diffjax.typing import Key, PyTree, pytree


@pytree
class TrainState:
    """Parameters, optimiser and averages after `step` steps.

    Attributes:
      step: how many steps were taken, [] int32.
      params: what the loss takes, e.g. the whole dict that Flax's `net.init` returns.
      opt_state: the state of the optax optimiser.
      ema: one average of `params` for each decay, in float32 at least: in bfloat16 it would not move.
      key: the constant base key, [].
      time_distribution: one that learns from the losses (`times.LossSecondMoment`), in place of the loss's own, or
        None.
    """

    step: Array
    params: PyTree
    opt_state: PyTree
    ema: tuple[PyTree, ...]
    key: Key
    time_distribution: Any = None

    @classmethod
    def create(
        cls,
        key: Key,
        params: PyTree,
        tx: optax.GradientTransformation,
        ema_decays: Sequence[EmaDecay] = (),
        time_distribution: Any = None,
    ) -> TrainState:
        """The state before the first step; every average starts at `params`. The caller's arrays are copied.

        Raises:
          TypeError: the parameters are not arrays of floats, `tx` is no optimiser, or the decays are no tuple.
          ValueError: `key` is not one new-style key, there is no parameter, or a decay lies outside [0, 1].
        """
        check_key(key)
        if key.ndim:
            raise ValueError(f"expected one key made by jax.random.key(seed), got {key.dtype}{list(key.shape)}")
        check_params(params)
        check_has(tx, "an optax optimiser, such as train.adam(1e-3),", "init", "update")
        check_decays(ema_decays)
        ema = tuple(_in_full(copy(params)) for _ in ema_decays)
        start, opt_state = jnp.zeros((), jnp.int32), copy(tx.init(params))
        return cls(start, copy(params), opt_state, ema, copy(key), copy(time_distribution))


@pytree
class Players:
    """The states of two players that train in turn (`players.alternate`): one state for the loop and checkpoints."""

    d: TrainState
    g: TrainState

    @property
    def step(self) -> Array:
        """How many steps both have taken."""
        return self.d.step + self.g.step

    @property
    def params(self) -> tuple[PyTree, PyTree]:
        return self.d.params, self.g.params


AnyState = TypeVar("AnyState", TrainState, Players)


def check_params(params: PyTree) -> None:
    """Raise unless `params` is a pytree of one float array or more.

    Raises:
      TypeError: a leaf is no array, or of integers: no gradient is taken with respect to it.
      ValueError: there is no leaf.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError(f"there is no parameter to train in {params!r}: give what `net.init` returned")
    for path, leaf in leaves:
        dtype = getattr(leaf, "dtype", type(leaf))
        if not (hasattr(leaf, "dtype") or isinstance(leaf, float)) or not jnp.issubdtype(dtype, jnp.inexact):
            where = jax.tree_util.keystr(path) or "the parameter"
            raise TypeError(f"parameters are arrays of floats, but {where} is {getattr(dtype, 'name', dtype)}")


def _in_full(tree: PyTree) -> PyTree:
    """Half precisions as float32: an average moves by less than their neighbouring numbers differ."""
    return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), tree)


def is_key(x: Any) -> bool:
    """Whether x holds new-style keys (an array or its shape)."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def copy(tree: PyTree) -> PyTree:
    """A tree of fresh device arrays: no leaf shares its buffer with the original or with another leaf."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)

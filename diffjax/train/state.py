"""The state of training: everything that decides the next step, and so everything that a checkpoint holds.

`key` never changes. The step's randomness is `fold_in(key, step)` and that of example i of the step's batch is
`fold_in(fold_in(key, step), i)`: it follows from the position alone, so that a resumed run, a larger number of steps in
one call or another number of devices draws the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array

from diffjax.typing import Key, PyTree, pytree

EmaDecay = float | Callable[[Array], Array]  # a constant, or a function of the number of updates (`optim.ema_warmup`)


@pytree
class TrainState:
    """Parameters, optimiser and averages after `step` steps.

    Attributes:
      step: how many steps were taken, [] int32.
      params: what the loss takes, e.g. the whole dict that Flax's `net.init` returns.
      opt_state: the state of the optax optimiser.
      ema: one average of `params` for each decay.
      key: the constant base key, [].
      law: a law of times that learns from the losses (`times.LossSecondMoment`), in place of the loss's own; or None.
    """

    step: Array
    params: PyTree
    opt_state: PyTree
    ema: tuple[PyTree, ...]
    key: Key
    law: Any = None

    @classmethod
    def create(
        cls,
        key: Key,
        params: PyTree,
        tx: optax.GradientTransformation,
        ema_decays: Sequence[EmaDecay] = (),
        law: Any = None,
    ) -> TrainState:
        """The state before the first step; every average starts at `params`. The caller's arrays are copied.

        Raises:
          ValueError: `key` is not one new-style key.
        """
        if not is_key(key) or key.ndim:
            raise ValueError(f"expected one key made by jax.random.key(seed), got {key.dtype}{list(key.shape)}")
        ema = tuple(copy(params) for _ in ema_decays)
        return cls(jnp.zeros((), jnp.int32), copy(params), copy(tx.init(params)), ema, copy(key), copy(law))


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


def is_key(x: Any) -> bool:
    """Whether x holds new-style keys (an array or its shape)."""
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def copy(tree: PyTree) -> PyTree:
    """A tree of fresh device arrays: no leaf shares its buffer with the original or with another leaf."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True), tree)

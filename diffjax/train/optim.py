"""Adam as the papers of the field use it: linear warm-up, clipping by the global norm, gradient accumulation.

Two counts differ. A *step* is one call of `train_step`: one batch. An *update* is one move of the parameters. They are
the same unless gradients are accumulated over k batches: then every k-th step is an update, made with the mean of the k
gradients, and it equals one step on the k batches joined. Warm-up, schedules and EMA count updates; the loop, its logs
and its checkpoints count steps. Between updates the parameters and every EMA stand still.

Sources: Kingma and Ba 2015 (Adam); Pascanu et al. 2013 (clipping); Loshchilov and Hutter 2019 (decoupled decay).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from diffjax.checks import check_count, check_number
from diffjax.typing import PyTree

EmaDecay = float | Callable[[Array], Array]  # a constant, or a function of the number of updates (`ema_warmup`)


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    lr: float = 2e-4
    """Peak learning rate of Adam."""
    lr_end: float | None = None
    """Where a cosine carries it by the last step; None: it stays."""
    warmup: int = 5000
    """Updates until the peak."""
    clip: float = 1.0
    """Largest global norm of the gradient."""
    accumulate: int = 1
    """Batches for each update."""
    weight_decay: float = 0.0
    """AdamW's, decoupled from the gradient."""
    ema: tuple[float, ...] = (0.9999,)
    """Decays of the parameters' averages; the first is sampled."""

    def build(self, steps: int) -> optax.GradientTransformation:
        return adam(self._peak(steps), self.warmup, self.clip, self.accumulate, weight_decay=self.weight_decay)

    def rate(self, steps: int, step: int) -> float:
        """The learning rate of step `step` = 1, 2, ... in a run of `steps`."""
        lr, count = self._peak(steps), (step - 1) // self.accumulate
        lr = warmed(lr, self.warmup) if self.warmup else lr
        return float(np.asarray(lr(count))) if callable(lr) else lr

    def _peak(self, steps: int) -> float | optax.Schedule:
        if self.lr_end is None:
            return self.lr
        return optax.cosine_decay_schedule(self.lr, steps // self.accumulate, self.lr_end / self.lr)


def adam(
    lr: float | optax.Schedule,
    warmup: int = 0,
    clip: float | None = None,
    accumulate: int = 1,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> optax.GradientTransformation:
    """Adam (AdamW with `weight_decay`), behind clipping, behind accumulation.

    Args:
      lr: the learning rate, or a schedule of the number of updates made so far.
      warmup: update n = 1, 2, ... uses `lr * min(n / warmup, 1)`.
      clip: largest global norm of the gradient; None for no clipping.
      accumulate: batches for each update.
      betas, eps, weight_decay: as in the papers.

    Raises:
      TypeError: a value is no number, or a count no integer.
      ValueError: a value lies outside its range.
    """
    if not callable(lr):
        check_number("lr", lr, 0)
    check_count("warmup", warmup, 0)
    if clip is not None:
        check_number("clip", clip, 0, above=True, why="None is no clipping")
    check_count("accumulate", accumulate)
    for beta in betas:
        check_number("a beta of Adam", beta, 0, 1)
    check_number("eps", eps, 0)
    check_number("weight_decay", weight_decay, 0)
    rate = warmed(lr, warmup) if warmup else lr
    b1, b2 = betas
    tx = optax.adamw(rate, b1, b2, eps, weight_decay=weight_decay) if weight_decay else optax.adam(rate, b1, b2, eps)
    if clip is not None:
        tx = optax.chain(optax.clip_by_global_norm(clip), tx)
    return optax.MultiSteps(tx, accumulate).gradient_transformation() if accumulate > 1 else tx


def warmed(lr: float | optax.Schedule, warmup: int) -> optax.Schedule:
    """`lr`, scaled by min(n / warmup, 1) at update n = 1, 2, ...; optax counts the updates before this one, n - 1."""
    rate = lr if callable(lr) else lambda count: lr
    return lambda count: rate(count) * jnp.minimum((count + 1) / warmup, 1.0)


def levels_ema(
    levels: Callable[[Array], Array], s0: float = 2.0, mu0: float = 0.9, *, paper: bool = False
) -> Callable[[Array], Array]:
    """The decay of a consistency model's target, mu0^(s0/(N - 1)) with N = levels(k) after k updates.

    N - 1, the number of intervals, is what both codes of Song et al. (2023) have; their App. C has N (`paper`).
    """
    return lambda n: mu0 ** (s0 / (levels(n - 1) - (0 if paper else 1)))


def check_decays(decays: Any) -> None:
    """Raise unless `decays` is a tuple of EMA decays, each in [0, 1] or a function of the number of updates.

    Raises:
      TypeError: it is no tuple or list, or a decay no number.
      ValueError: a decay lies outside [0, 1].
    """
    if not isinstance(decays, tuple | list):
        raise TypeError(f"ema_decays is a tuple with one decay for each average, such as (0.999,); got {decays!r}")
    for decay in decays:
        if not callable(decay):
            check_number("an EMA decay", decay, 0, 1)


def ema_warmup(decay: float) -> Callable[[Array], Array]:
    """The decay min(decay, (1 + n) / (10 + n)) at update n = 1, 2, ...: a short memory while the network is new."""
    check_number("decay", decay, 0, 1)
    return lambda n: jnp.minimum(decay, (1 + n) / (10 + n))


def updates(opt_state: PyTree, step: Array) -> tuple[Any, Any]:
    """How many updates were made up to and with this step, and whether this step made one.

    Args:
      opt_state: the optimiser's state after the step; `optax.MultiSteps` may be anywhere in it, as in a chain.
      step: the number of steps before it.
    """
    found = jax.tree.leaves(opt_state, is_leaf=lambda s: isinstance(s, optax.MultiStepsState))
    found = [s for s in found if isinstance(s, optax.MultiStepsState)]
    if not found:
        return step + 1, True
    count = functools.reduce(jnp.maximum, [s.gradient_step for s in found])  # several: of groups of parameters
    return count, functools.reduce(jnp.logical_or, [s.mini_step == 0 for s in found])

"""Losses made of losses: a weighted sum, a sum balanced by gradients, and a weight that is learnt.

    (1) sum_i w_i l_i
    (2) l_1 + sum_i w_i clip(|grad l_1| / (|grad l_i| + 1e-4)) l_i,  gradients of the last layer
                                                                                          (Esser et al. 2021, Eq. 7)
    (3) exp(-u) l + u,   u(params, t) [B]: at its minimum u = log E[l | t]        (Kendall et al. 2018; Karras 2024)

Parts have keys of their own: what they draw is independent.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from diffjax.arrays import fold
from diffjax.checks import check_number
from diffjax.losses.evaluate import check_loss, evaluate
from diffjax.losses.networks import check_functions
from diffjax.typing import NO_CONTEXT, Context, Key, Loss, PyTree, pytree, static


@pytree
class Sum:
    """Eq. 1; aux holds each part's value, "part0" and so on, before its weight.

    Raises:
      ValueError: there are not as many weights as losses, or none.
    """

    losses: tuple[Loss, ...]
    weights: tuple[Any, ...]

    def __post_init__(self):
        if not isinstance(self.losses, tuple | list) or not isinstance(self.weights, tuple | list):
            raise TypeError("a sum takes a tuple of losses and a tuple of weights: Sum((a, b), (1.0, 0.5))")
        if len(self.losses) != len(self.weights) or not self.losses:
            raise ValueError(f"a sum takes one weight for each loss, got {len(self.weights)} for {len(self.losses)}")
        for loss, weight in zip(self.losses, self.weights, strict=True):
            check_loss(loss)
            check_number("a weight of the sum", weight)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        parts = [evaluate(loss, params, fold(key, i), batch, context)[0] for i, loss in enumerate(self.losses)]
        total = sum(w * part for w, part in zip(self.weights, parts, strict=True))
        return jnp.asarray(total), {f"part{i}": part for i, part in enumerate(parts)}


@pytree
class Balanced:
    """Eq. 2: every other loss weighed so that it moves the last layer as far as the first; aux "part0", "balance1", ...

    Weights are those of the whole batch, so an example's loss depends on its neighbours. `last(params)` picks the
    layer's part of the parameters. VQGAN clips to [0, 1e4], CTM to [0.01, 10]. `weights` are w_2, ..., by default 1.

    Raises:
      ValueError: there are not two losses or more, or not as many weights less one.
    """

    losses: tuple[Loss, ...]
    last: Callable = static()
    limits: tuple[Any, Any] = (0.0, 1e4)
    weights: tuple[Any, ...] | None = None

    def __post_init__(self):
        if not isinstance(self.losses, tuple | list) or len(self.losses) < 2:
            got = len(self.losses) if isinstance(self.losses, tuple | list) else self.losses
            raise ValueError(f"losses are balanced against the first of them: give two or more, got {got}")
        for loss in self.losses:
            check_loss(loss)
        if self.weights is not None and len(self.weights) != len(self.losses) - 1:
            raise ValueError(f"{len(self.losses)} losses take {len(self.losses) - 1} weights, got {len(self.weights)}")
        check_functions(self, last="(params) -> the last layer's parameters")

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        def part(i: int, params: PyTree) -> Array:
            return evaluate(self.losses[i], params, fold(key, i), batch, context)[0]

        def pull(i: int) -> Array:
            slope = jax.grad(lambda p: part(i, p).mean())(jax.lax.stop_gradient(params))
            return optax.tree.norm(self.last(slope if context.axis is None else jax.lax.pmean(slope, context.axis)))

        total, lead = part(0, params), pull(0)
        weights = (1.0,) * len(self.losses) if self.weights is None else (1.0, *self.weights)
        aux = {"part0": total}
        for i in range(1, len(self.losses)):
            aux[f"part{i}"] = part(i, params)
            balance = jax.lax.stop_gradient(jnp.clip(lead / (pull(i) + 1e-4), *self.limits))
            total = total + weights[i] * balance * aux[f"part{i}"]
            aux[f"balance{i}"] = jnp.full_like(total, balance)
        return total, aux


@pytree
class Delayed:
    """A loss that is 0 before step `start`; aux is the loss's own.

    Raises:
      ValueError: start is below 0; or training does not say which step it is at.
    """

    loss: Loss
    start: Any

    def __post_init__(self):
        check_loss(self.loss)
        check_number("start", self.start, 0)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        if context.step is None:
            raise ValueError("a delayed loss needs the step of training: call it with context=Context(step=...)")
        values, aux = evaluate(self.loss, params, key, batch, context)
        return jnp.where(context.step >= self.start, values, 0.0), aux


@pytree
class LearnedWeight:
    """Eq. 3 on parameters {"net": those of `loss`, "log_loss": those of u}; aux has l as "unweighted".

    `log_loss(params, aux) -> u [B]` reads the times in aux, "t" and, of a flow map's loss, "s".
    """

    loss: Loss
    log_loss: Callable = static()

    def __post_init__(self):
        check_loss(self.loss)
        check_functions(self, log_loss="(params, aux) -> u [B]")

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        ema = tuple(average["net"] for average in context.ema)  # a target network has the parts that the loss has
        context = dataclasses.replace(context, ema=ema)
        values, aux = evaluate(self.loss, params["net"], key, batch, context)
        u = self.log_loss(params["log_loss"], aux)
        return jnp.exp(-u) * values + u, {**aux, "unweighted": values}

"""Losses made of losses: a weighted sum, a sum balanced by gradients, and a weight that is learnt.

    (1) sum_i w_i l_i
    (2) l_1 + min(|grad l_1| / (|grad l_2| + 1e-4), limit) l_2,  gradients of the last layer (Esser et al. 2021, Eq. 7)
    (3) exp(-u) l + u,   u(params, t) [B]: at its minimum u = log E[l | t]        (Kendall et al. 2018; Karras 2024)

Parts have keys of their own: what they draw is independent.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from diffjax.arrays import fold
from diffjax.typing import Key, Loss, PyTree, pytree, static


@pytree
class Sum:
    """Eq. 1; aux holds each part's value, "part0" and so on, before its weight.

    Raises:
      ValueError: there are not as many weights as losses, or none.
    """

    losses: tuple[Loss, ...]
    weights: tuple[Any, ...]

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        if len(self.losses) != len(self.weights) or not self.losses:
            raise ValueError(f"a sum takes one weight for each loss, got {len(self.weights)} for {len(self.losses)}")
        parts = [loss(params, fold(key, i), batch)[0] for i, loss in enumerate(self.losses)]
        total = sum(w * part for w, part in zip(self.weights, parts, strict=True))
        return jnp.asarray(total), {f"part{i}": part for i, part in enumerate(parts)}


@pytree
class Balanced:
    """Eq. 2: `second` weighed so that it moves the last layer as far as `first` does; aux "part0", "part1", "balance".

    The weight is one for the batch, so an example's loss depends on its neighbours, and under `pmap` on the number of
    devices. `last(params)` picks the layer's part of the parameters.
    """

    first: Loss
    second: Loss
    last: Callable = static()
    limit: Any = 1e4

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        def part(i: int, loss: Loss, params: PyTree) -> Array:
            return loss(params, fold(key, i), batch)[0]

        def pull(i: int, loss: Loss) -> Array:
            return optax.tree.norm(
                self.last(jax.grad(lambda p: part(i, loss, p).mean())(jax.lax.stop_gradient(params)))
            )

        a, b = part(0, self.first, params), part(1, self.second, params)
        balance = jnp.minimum(pull(0, self.first) / (pull(1, self.second) + 1e-4), self.limit)
        return a + jax.lax.stop_gradient(balance) * b, {"part0": a, "part1": b, "balance": jnp.full_like(a, balance)}


@pytree
class LearnedWeight:
    """Eq. 3 on parameters {"net": those of `loss`, "log_loss": those of u}; aux has l as "unweighted".

    `log_loss(params, aux) -> u [B]` reads the times in aux, "t" and, of a flow map's loss, "s".
    """

    loss: Loss
    log_loss: Callable = static()

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        values, aux = self.loss(params["net"], key, batch)
        u = self.log_loss(params["log_loss"], aux)
        return jnp.exp(-u) * values + u, {**aux, "unweighted": values}

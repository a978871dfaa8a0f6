"""A time distribution that follows the loss: `LossSecondMoment` (Nichol & Dhariwal 2021, Section 3.3)."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import example_keys
from diffjax.checks import check_count, check_number
from diffjax.times.grids import check_times
from diffjax.typing import SDE, Key, pytree


@pytree
class LossSecondMoment:
    """Integer times in proportion to the root of the loss's second moment (Nichol & Dhariwal 2021, Eq. 18).

        p_t = (1 - u) sqrt(E L_t^2) / sum_s sqrt(E L_s^2) + u / T,   E L_t^2: the mean over the last H losses at time t

    It is uniform on 1, ..., T until every time has H losses. A loss drawn so must be multiplied by `weight(t)` to keep
    its expectation; `DSM`, `VLB` and `Hybrid` do. `update` returns the distribution with the new losses. In the state
    of training, `TrainState.create(key, params, tx, decays, distribution)`, every step updates it.
    """

    history: Array  # [T, H] the last H losses at each time, in a ring
    count: Array  # [T] how many losses were seen at each time
    uniform_prob: float = 0.001  # u

    per_example: ClassVar[int] = 1

    def __post_init__(self):
        check_number("uniform_prob", self.uniform_prob, 0, 1, above=True, why="it is the probability u of Eq. 18")

    def on(self, sde: SDE) -> "LossSecondMoment":
        check_times(len(self.count), sde)
        return self

    @classmethod
    def create(cls, n: int, length: int = 10, uniform_prob: float = 0.001) -> "LossSecondMoment":
        """The distribution on 1, ..., n before any loss."""
        check_count("n", n)
        check_count("length", length)
        return cls(jnp.zeros((n, length)), jnp.zeros(n, jnp.int32), uniform_prob)

    def probabilities(self) -> Array:
        """p_t, [T]."""
        T, length = self.history.shape
        root = jnp.sqrt((self.history**2).mean(axis=1))
        learned = (1 - self.uniform_prob) * root / jnp.maximum(root.sum(), 1e-30) + self.uniform_prob / T
        return jnp.where((self.count >= length).all(), learned, 1 / T)

    def __call__(self, key: Key, n: int) -> Array:
        cumulative = jnp.cumsum(self.probabilities())
        i = jnp.searchsorted(
            cumulative, cumulative[-1] * jax.vmap(jax.random.uniform)(example_keys(key, n)), side="right"
        )
        return jnp.minimum(i, len(cumulative) - 1) + 1.0

    def weight(self, t: Array) -> Array:
        """1 / (T p_t), shaped like t."""
        return 1 / (len(self.count) * self.probabilities()[t.astype(int) - 1])

    def update(self, t: Array, loss: Array) -> "LossSecondMoment":
        """The distribution after the losses [B], not yet weighted, at times t [B], in the order of the batch."""
        T, length = self.history.shape
        i = t.astype(int) - 1
        order = jnp.argsort(i, stable=True)
        first, end = (jnp.searchsorted(i[order], i, side=side) for side in ("left", "right"))
        # [B] earlier ones at the same time, and all
        rank = jnp.argsort(order) - first
        total = end - first
        row = jnp.where(total - rank <= length, i, T)  # of more than H at one time the first drop out
        loss = jax.lax.stop_gradient(loss).astype(self.history.dtype)
        history = self.history.at[row, (self.count[i] + rank) % length].set(loss, mode="drop")
        return LossSecondMoment(history, self.count.at[i].add(1), self.uniform_prob)

"""Times to train at.

A law draws training times, `law(key, n) -> t [n]`, where `key` is one key or n keys. Where a law is defined by noise
levels, times are found by inverting logsnr(t), so it serves every SDE.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import example_keys
from diffjax.sde.gaussian import logsnr, time_of_logsnr
from diffjax.typing import SDE, Key, Time, pytree


@pytree
class Fixed:
    """Every example at the time t: a loss at one noise level."""

    t: Time

    def __call__(self, key: Key, n: int) -> Array:
        return jnp.full(n, self.t)


@pytree
class OneOf:
    """One of the times ts [L] for each example, all equally likely: NCSN's training levels, `OneOf(grid[:-1])`."""

    ts: Array

    def __call__(self, key: Key, n: int) -> Array:
        index = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(self.ts)))(example_keys(key, n))
        return jnp.asarray(self.ts)[index]


@pytree
class Uniform:
    """t uniform on [t_min, t_max], independently for each example."""

    t_min: float = 1e-5
    t_max: float = 1.0

    def __call__(self, key: Key, n: int) -> Array:
        return self.t_min + (self.t_max - self.t_min) * _uniforms(key, n)


@pytree
class Integers:
    """t uniform on the integers 1, ..., n: the times of a `BetaTable` of n steps (Ho et al. 2020, Algorithm 1)."""

    n: float = 1000.0

    def __call__(self, key: Key, n: int) -> Array:
        return jnp.minimum(jnp.floor(self.n * _uniforms(key, n)) + 1, self.n)


@pytree
class LowDiscrepancy:
    """One uniform draw for the batch, the others spaced evenly behind it (Kingma et al. 2021, App. I.1).

    Each t is uniform on [t_min, t_max]; the batch's mean loss has less variance. With n keys the first one is used.
    """

    t_min: float = 1e-5
    t_max: float = 1.0

    def __call__(self, key: Key, n: int) -> Array:
        u = jax.random.uniform(key if key.ndim == 0 else key[0])
        return self.t_min + (self.t_max - self.t_min) * ((u + jnp.arange(n) / n) % 1)


@pytree
class ImportanceSampled:
    """p(t) proportional to g^2/sigma^2 on [t_min, t_max], which is: logsnr(t) uniform, for every SDE.

    Drawn so, the simple loss has the likelihood-weighted loss as its expectation, but for the factor `z()`
    (Song et al. 2021, "Maximum likelihood training of score-based diffusion models", Section 5.1).
    """

    sde: SDE
    t_min: float = 1e-5
    t_max: float = 1.0

    def __call__(self, key: Key, n: int) -> Array:
        high, low = logsnr(self.sde, jnp.array([self.t_min, self.t_max]))
        return time_of_logsnr(self.sde, high + (low - high) * _uniforms(key, n), self.t_min, self.t_max)

    def z(self) -> Array:
        """The integral of g^2/sigma^2 over [t_min, t_max]."""
        high, low = logsnr(self.sde, jnp.array([self.t_min, self.t_max]))
        return high - low


@pytree
class LogNormal:
    """log(sigma/alpha) ~ N(mean, std^2), clipped to the SDE's times (Karras et al. 2022, Table 1)."""

    sde: SDE
    mean: float = -1.2
    std: float = 1.2

    def __call__(self, key: Key, n: int) -> Array:
        return time_of_logsnr(self.sde, -2 * (self.mean + self.std * _normals(key, n)))


@pytree
class LogitNormal:
    """log(u / (1 - u)) ~ N(mean, std^2), t = t_min + (t_max - t_min) u (Esser et al. 2024, Section 3.1).

    A mean below 0 favours the data's end, above 0 the noise's; with a small std the ends are hardly ever drawn.
    """

    mean: float = 0.0
    std: float = 1.0
    t_min: float = 1e-5
    t_max: float = 1.0

    def __call__(self, key: Key, n: int) -> Array:
        return self.t_min + (self.t_max - self.t_min) * jax.nn.sigmoid(self.mean + self.std * _normals(key, n))


@pytree
class LossSecondMoment:
    """Integer times in proportion to the root of the loss's second moment (Nichol & Dhariwal 2021, Eq. 18).

        p_t = (1 - u) sqrt(E L_t^2) / sum_s sqrt(E L_s^2) + u / T,   E L_t^2: the mean over the last H losses at time t

    It is uniform on 1, ..., T until every time has H losses. A loss drawn so must be multiplied by `weight(t)` to keep
    its expectation; `DSM`, `VLB` and `Hybrid` do. `update` returns the law that has seen the losses too. In the state
    of training, `TrainState.create(key, params, tx, decays, law)`, every step updates it.
    """

    history: Array  # [T, H] the last H losses at each time, in a ring
    count: Array  # [T] how many losses were seen at each time
    uniform_prob: float = 0.001  # u

    @classmethod
    def create(cls, n: int, length: int = 10, uniform_prob: float = 0.001) -> "LossSecondMoment":
        """The law on 1, ..., n that has seen nothing."""
        if n < 1:
            raise ValueError(f"a law needs at least 1 time, got n = {n}")
        return cls(jnp.zeros((n, length)), jnp.zeros(n, jnp.int32), uniform_prob)

    def probabilities(self) -> Array:
        """p_t, [T]."""
        T, length = self.history.shape
        root = jnp.sqrt((self.history**2).mean(axis=1))
        learned = (1 - self.uniform_prob) * root / jnp.maximum(root.sum(), 1e-30) + self.uniform_prob / T
        return jnp.where((self.count >= length).all(), learned, 1 / T)

    def __call__(self, key: Key, n: int) -> Array:
        cumulative = jnp.cumsum(self.probabilities())
        i = jnp.searchsorted(cumulative, cumulative[-1] * _uniforms(key, n), side="right")
        return jnp.minimum(i, len(cumulative) - 1) + 1.0

    def weight(self, t: Array) -> Array:
        """1 / (T p_t), shaped like t."""
        return 1 / (len(self.count) * self.probabilities()[t.astype(int) - 1])

    def update(self, t: Array, loss: Array) -> "LossSecondMoment":
        """The law after the losses [B], not yet weighted, at times t [B], in the order of the batch."""
        T, length = self.history.shape
        i = t.astype(int) - 1
        order = jnp.argsort(i, stable=True)
        first, end = (jnp.searchsorted(i[order], i, side=side) for side in ("left", "right"))
        rank, total = jnp.argsort(order) - first, end - first  # [B] earlier ones at the same time, and all
        row = jnp.where(total - rank <= length, i, T)  # of more than H at one time the first drop out
        loss = jax.lax.stop_gradient(loss).astype(self.history.dtype)
        history = self.history.at[row, (self.count[i] + rank) % length].set(loss, mode="drop")
        return LossSecondMoment(history, self.count.at[i].add(1), self.uniform_prob)


def importance(law: Any, t: Array) -> Array:
    """The weight that keeps a loss's expectation over the law's own uniform times, [B]: 1 where the law has none."""
    return law.weight(t) if hasattr(law, "weight") else jnp.ones_like(t)


def _uniforms(key: Key, n: int) -> Array:
    return jax.vmap(jax.random.uniform)(example_keys(key, n))


def _normals(key: Key, n: int) -> Array:
    return jax.vmap(jax.random.normal)(example_keys(key, n))

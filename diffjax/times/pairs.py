"""Pairs of times to train few-step models at: t, and an earlier s <= t that its map is compared with or goes to.

A distribution of pairs is called `(key, n, step) -> (t [n], s [n])`, where `key` is one key or n keys, and `step` the
number of training steps taken, for those that change as training goes on (None where it is not known: they raise a
ValueError). Losses draw from it by `draw(distribution, sde, key, n, step, count=2)`, from `Stops` with `count=3`: see
`distributions`. Noise levels are r = sigma/alpha; their times are found by inverting logsnr(t), so that it serves every
SDE.

    (1) N(k) = ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1        `Rising` (Song et al. 2023, App. C)
    (2) N(k) = min(s0 2^floor(k/K'), s1) + 1,  K' = floor(K / (log2 floor(s1/s0) + 1))    `Doubling` (Song & Dhariwal)
    (3) r_i^(1/rho) = r_min^(1/rho) + i/(N - 1) (r_max^(1/rho) - r_min^(1/rho)),  i = 0, ..., N - 1
    (4) p(i) proportional to erf((log r_(i+1) - m)/(sqrt 2 d)) - erf((log r_i - m)/(sqrt 2 d))      (S & D 2024)
    (5) r_s = r_t max(1 - q^-(stage + 1) (1 + k sigmoid(-b r_t)), 0)                      (Geng et al. 2025, ECT)
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import erf, erfinv

from diffjax.arrays import example_keys
from diffjax.checks import check_number, known
from diffjax.sde.gaussian import ENDLESS, check_sde, noise_to_signal, time_of_logsnr
from diffjax.times.distributions import Place, check_own, on
from diffjax.times.grids import check_times, falling, level_ends
from diffjax.typing import SDE, Key, pytree


@pytree
class Rising:
    """The number of noise levels N(k) of Eq. 1: from s0 to s1 + 1 in K steps, and constant from there.

    Raises:
      ValueError: not 1 <= s0 <= s1, or K <= 0; so has `Doubling`.
    """

    s0: Any = 2.0
    s1: Any = 150.0
    K: Any = 800_000.0

    def __post_init__(self):
        _check_levels(self)

    def __call__(self, k: Array) -> Array:
        share = jnp.minimum(jnp.asarray(k, jnp.result_type(float)) / self.K, 1)
        return jnp.ceil(jnp.sqrt(share * ((self.s1 + 1) ** 2 - self.s0**2) + self.s0**2) - 1) + 1


@pytree
class Doubling:
    """The number of noise levels N(k) of Eq. 2: s0 intervals at first, twice as many every K' steps, up to s1."""

    s0: Any = 10.0
    s1: Any = 1280.0
    K: Any = 400_000.0

    def __post_init__(self):
        _check_levels(self)

    def __call__(self, k: Array) -> Array:
        every = jnp.maximum(jnp.floor(self.K / (jnp.log2(jnp.floor(self.s1 / self.s0)) + 1)), 1)
        return jnp.minimum(self.s0 * 2 ** jnp.floor(jnp.asarray(k) / every), self.s1) + 1


@pytree
class Neighbours:
    """Neighbouring times of a falling grid ts [N + 1], all equally likely: consistency distillation's.

    Raises:
      ValueError: the grid does not fall.
    """

    ts: Array

    per_example: ClassVar[int] = 2

    def __post_init__(self):
        falling(self.ts)

    def on(self, sde: SDE) -> "Neighbours":
        check_times(self.ts, sde)
        return self

    def __call__(self, key: Key, n: int, step: Array | None = None) -> tuple[Array, Array]:
        ts = falling(self.ts)
        i = _index(_uniforms(key, n, 1)[0], len(ts) - 1)
        return ts[i], ts[i + 1]


@pytree
class KarrasNeighbours:
    """Neighbouring levels of Eq. 3, from the SDE's t_min to T, whose number N(k) changes as training goes on.

    All intervals are equally likely (consistency training), or follow Eq. 4 with normal = (m, d), iCT's (-1.1, 2).
    """

    sde: SDE
    levels: Callable  # k -> N(k), `Rising` or `Doubling`
    normal: tuple[Any, Any] | None = None
    rho: Any = 7.0

    per_example: ClassVar[int] = 2

    def __post_init__(self):
        check_sde(self.sde)
        check_number("rho", self.rho, 0, above=True)

    def on(self, sde: SDE) -> "KarrasNeighbours":
        check_own(self, sde)
        return self

    def __call__(self, key: Key, n: int, step: Array | None = None) -> tuple[Array, Array]:
        N = self.levels(_given(step))
        u = _uniforms(key, n, 1)[0]
        i = _index(u, N - 1) if self.normal is None else self.interval(u, N)
        return self.time(i + 1, N), self.time(i, N)

    def interval(self, u: Array, N: Array) -> Array:
        """The interval in which a log-normal level, cut to [r_min, r_max], lies at its quantile u: Eq. 4, no table."""
        (low, high), (m, d) = self._ends(), self.normal or (0.0, 1.0)
        a, b = (erf((self.rho * jnp.log(end) - m) / (jnp.sqrt(2.0) * d)) for end in (low, high))
        level = jnp.exp(m + jnp.sqrt(2.0) * d * erfinv(a + u * (b - a)))
        return jnp.clip(jnp.floor((level ** (1 / self.rho) - low) / (high - low) * (N - 1)), 0, N - 2)

    def time(self, i: Array, N: Array) -> Array:
        """The time of level i, the ends exact."""
        low, high = self._ends()
        t = time_of_logsnr(self.sde, -2 * self.rho * jnp.log(low + i / (N - 1) * (high - low)))
        return jnp.where(i <= 0, self.sde.t_min, jnp.where(i >= N - 1, self.sde.T, t))

    def _ends(self) -> Array:
        """r^(1/rho) at t_min and T; an end without a level counts as in `grids`."""
        noisy, clean = level_ends(self.sde, None, self.sde.t_min)
        return jnp.stack([clean, noisy]) ** (1 / self.rho)


@pytree
class Tightening:
    """ECT's pairs (Eq. 5): t by a time distribution, and s from 0 towards t, nearer every `every` training steps.

    Raises:
      ValueError: `every` is not above 0.
    """

    sde: SDE
    distribution: Callable  # (key, n) -> t [n]; the paper's is LogNormal(sde, -1.1, 2.0)
    every: Any
    q: Any = 2.0
    k: Any = 8.0
    b: Any = 1.0

    per_example: ClassVar[int] = 2

    def __post_init__(self):
        check_sde(self.sde)
        check_number("every", self.every, 0, above=True, why="pairs come nearer every so many steps")
        for name in ("q", "k", "b"):
            check_number(name, getattr(self, name), 0)

    def on(self, sde: SDE) -> "Tightening":
        check_own(self, sde)
        return dataclasses.replace(self, distribution=on(self.distribution, sde))

    def __call__(self, key: Key, n: int, step: Array | None = None) -> tuple[Array, Array]:
        t = self.distribution(key, n)
        r = noise_to_signal(self.sde, t)
        r = jnp.where(jnp.isfinite(r), r, math.exp(ENDLESS / 2))  # alpha(T) = 0
        stage = jnp.floor(_given(step) / self.every)
        share = jnp.maximum(1 - self.q ** -(stage + 1) * (1 + self.k * jax.nn.sigmoid(-self.b * r)), 0)
        s = time_of_logsnr(self.sde, -2 * jnp.log(jnp.where(share > 0, share, 1) * r))
        return t, jnp.where(share > 0, jnp.minimum(s, t), 0 * t)


@pytree
class Sorted:
    """Two draws of a time distribution, the later one as t; and s = t with probability `same` (MeanFlow: 0.75).

    Raises:
      ValueError: `same` is no probability.
    """

    distribution: Callable  # (key, n) -> t [n]
    same: Any = 0.0

    per_example: ClassVar[int] = 2

    def __post_init__(self):
        check_number("same", self.same, 0, 1, why="it is a probability")

    def on(self, sde: SDE) -> "Sorted":
        return dataclasses.replace(self, distribution=on(self.distribution, sde))

    @property
    def joint(self) -> bool:
        return getattr(self.distribution, "joint", False)

    def __call__(
        self, key: Key, n: int, step: Array | None = None, *, place: Place | None = None
    ) -> tuple[Array, Array]:
        keys = jax.vmap(lambda k: jax.random.split(k, 3), out_axes=1)(example_keys(key, n))
        a, b = self._combs(key, n, place) if self.joint else (self.distribution(keys[i], n) for i in range(2))
        t = jnp.maximum(a, b)
        return t, jnp.where(_uniforms(keys[2], n, 1)[0] < self.same, t, jnp.minimum(a, b))

    def _combs(self, key: Key, n: int, place: Place | None) -> tuple[Array, Array]:
        """Two independent combs; the second is shuffled, for two combs have one distance at all examples."""
        key, first, total = place or Place(key if key.ndim == 0 else key[0], 0, n)
        k_a, k_b, k_order = jax.random.split(key, 3)
        b = jax.random.permutation(k_order, self.distribution(k_b, total))
        return self.distribution(k_a, n, place=Place(k_a, first, total)), jax.lax.dynamic_slice_in_dim(b, first, n)


@pytree
class Dyadic:
    """Steps of length T/2^j between neighbours of their own grid, j = 0, ..., log2(n) - 1 (Frans et al. 2024).

    Halves of the shortest one have the length T/n.

    Raises:
      ValueError: n is no power of two, 2 or more.
    """

    n: Any = 128.0
    T: Any = None  # the SDE's

    per_example: ClassVar[int] = 2

    def __post_init__(self):
        check_number("n", self.n, why="dyadic steps divide T by a power of two, 2 or more")
        if known(self.n) and not (self.n >= 2 and np.log2(self.n) % 1 == 0):
            raise ValueError(f"dyadic steps divide T by a power of two, 2 or more; got n = {self.n}")

    def on(self, sde: SDE) -> "Dyadic":
        if self.T is not None:
            check_times(self.T, sde)
        return dataclasses.replace(self, T=sde.T if self.T is None else self.T)

    def __call__(self, key: Key, n: int, step: Array | None = None) -> tuple[Array, Array]:
        u, w = _uniforms(key, n, 2)
        count = 2.0 ** _index(u, jnp.log2(self.n))
        i = _index(w, count)
        T = 1.0 if self.T is None else self.T
        return T * (i + 1) / count, T * i / count


@pytree
class Stops:
    """Three times t > u >= s of a falling grid ts [N + 1]: CTM's (Kim et al. 2024), all on the grid.

    u lies up to `most` intervals below t, the teacher's steps, and s anywhere from there to the grid's end.

    Raises:
      ValueError: the grid does not fall, or `most` is below 1: u would be t itself.
    """

    ts: Array
    most: Any = 17

    per_example: ClassVar[int] = 3

    def __post_init__(self):
        falling(self.ts)
        check_number("most", self.most, 1, why="the teacher takes one step or more")

    def on(self, sde: SDE) -> "Stops":
        check_times(self.ts, sde)
        return self

    def __call__(self, key: Key, n: int, step: Array | None = None) -> tuple[Array, Array, Array]:
        ts = falling(self.ts)
        N, (a, b, c) = len(ts) - 1, _uniforms(key, n, 3)
        i = _index(a, N)
        j = i + 1 + _index(b, jnp.minimum(self.most, N - i))
        k = j + _index(c, N - j + 1)
        return ts[i], ts[j], ts[k]


def _check_levels(levels: Any) -> None:
    for name in ("s0", "s1", "K"):
        check_number(name, getattr(levels, name), why="1 <= s0 <= s1 and K > 0")
    if known((levels.s0, levels.s1, levels.K)) and not (1 <= levels.s0 <= levels.s1 and levels.K > 0):
        raise ValueError(f"levels rise from s0 to s1 in K steps: 1 <= s0 <= s1 and K > 0, got {levels}")


def _given(step: Array | None) -> Array:
    if step is None:
        raise ValueError("this time distribution follows a schedule and needs the training step: see `typing.Context`")
    return jnp.asarray(step)


def _index(u: Array, n: Any) -> Array:
    """floor(n u) for u in [0, 1): an index below n, an integer where n is one."""
    return jnp.minimum(jnp.floor(n * u), n - 1).astype(jnp.result_type(n))


def _uniforms(key: Key, n: int, m: int) -> Array:
    """[m, n], each column from its example's key."""
    return jax.vmap(lambda k: jax.random.uniform(k, (m,)), out_axes=1)(example_keys(key, n))

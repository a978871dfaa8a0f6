"""Distributions of training times, and `draw`, by which every loss draws from one.

A time distribution is any pytree or function `distribution(key, n) -> t [n]`, where `key` is one key or n keys (one for
each example). Those of pairs and of stops, in `pairs`, are `distribution(key, n, step) -> (t [n], s [n])`.

A loss has an SDE, and its times must be those of that SDE. So a loss never calls a distribution itself:

    check_distribution(distribution, sde)      when a loss is made: raises where the two cannot belong together
    draw(distribution, sde, key, n)            when it is evaluated: times in [0, sde.T]
    draw(distribution, sde, key, n, step, count=2)                         pairs (t, s); `count=3`: stops (t, u, s)

Both let a distribution adapt to the SDE by its method `on(sde)`, where it has one: a distribution with the same call,
and with the ends that were left open, None, taken from the SDE. t_max is T, and t_min is 1e-5 T (Song et al. 2021 have
1e-5 on T = 1). Called without an SDE, open ends are those of a process with T = 1. Where a distribution is defined by
noise levels, times are found by inverting logsnr(t), so it serves every SDE.

A distribution whose n times depend on one another has `joint = True` and takes the keyword `place`, a `Place`: which
examples of the whole batch the n are, so that a batch cut over devices has the times of the whole one.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import example_keys
from diffjax.checks import check_has, check_key, check_number, known
from diffjax.sde.beta_table import BetaTable
from diffjax.sde.gaussian import check_sde, same_process, time_of_logsnr
from diffjax.times.grids import check_times, level_ends
from diffjax.typing import SDE, Key, Time, check_takes, pytree


class Place(NamedTuple):
    """Where n examples stand in the whole batch: they are number `first`, first + 1, ... of `total`."""

    key: Key  # [] the batch's key, the same on all devices
    first: int | Array
    total: int


def draw(
    distribution: Any, sde: SDE, key: Key, n: int, step: Any = None, *, count: int = 1, place: Place | None = None
) -> Any:
    """Times for n examples, in [0, sde.T]: t [n], or `count` arrays [n] of a distribution of pairs or stops.

    Args:
      key: one key, or n keys (one for each example).
      step: how many training steps were taken, for distributions that change as training goes on.
      count: how many times an example needs: 1; 2, pairs (t, s); 3, stops (t, u, s).

    Raises:
      TypeError: `distribution` is a class, or cannot be called.
      ValueError: it draws another number of times, its times are none of the SDE's (where they are concrete), or the
        key is none.
    """
    check_key(key)
    distribution = on(distribution, sde, count)
    args = (key, n) if count == 1 else (key, n, step)
    times = distribution(*args, place=place) if getattr(distribution, "joint", False) else distribution(*args)
    drawn = times if isinstance(times, tuple) else (times,)
    if len(drawn) != count or any(jnp.shape(t) != (n,) for t in drawn):
        shapes = ", ".join(str(jnp.shape(t)) for t in drawn)
        raise ValueError(f"expected {_WANTED[count]} of shape ({n},), got the shapes {shapes} from {distribution}")
    for t in drawn:
        check_times(t, sde)
    return times


def check_distribution(distribution: Any, sde: SDE, count: int = 1) -> None:
    """Raise what `draw` would for this distribution and SDE, as far as it can be seen without drawing."""
    on(distribution, sde, count)


def on(distribution: Any, sde: SDE, count: int = 1) -> Any:
    """The distribution with its open ends taken from the SDE, checked; see `check_distribution`."""
    check_sde(sde)
    check_has(distribution, "a time distribution, such as dj.times.Uniform(),", "__call__")
    check_takes(distribution, f"a distribution of {_WANTED[count]}", *("key", "n", "step")[: 2 if count == 1 else 3])
    own = getattr(distribution, "per_example", count)
    if own != count:
        raise ValueError(f"expected a distribution of {_WANTED[count]}, got one of {_WANTED[own]}: {distribution}")
    return distribution.on(sde) if hasattr(distribution, "on") else distribution


_WANTED = {1: "single times t", 2: "pairs (t, s), such as `times.Sorted(distribution)`,", 3: "stops (t, u, s)"}


@pytree
class Fixed:
    """Every example at the time t: a loss at one noise level."""

    t: Time

    per_example: ClassVar[int] = 1

    def __post_init__(self):
        check_number("t", self.t, 0)

    def on(self, sde: SDE) -> "Fixed":
        check_times(self.t, sde)
        return self

    def __call__(self, key: Key, n: int) -> Array:
        return jnp.full(n, self.t, jnp.result_type(float, self.t))


@pytree
class OneOf:
    """One of the times ts [L] for each example, all equally likely: NCSN's training levels, `OneOf(grid[:-1])`."""

    ts: Array

    per_example: ClassVar[int] = 1

    def __post_init__(self):
        check_number("ts", self.ts, 0)
        if known(self.ts) and (np.ndim(self.ts) != 1 or len(self.ts) == 0):
            raise ValueError(f"OneOf needs a vector of one time or more, got ts = {self.ts}")

    def on(self, sde: SDE) -> "OneOf":
        check_times(self.ts, sde)
        return self

    def __call__(self, key: Key, n: int) -> Array:
        index = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(self.ts)))(example_keys(key, n))
        return jnp.asarray(self.ts)[index]


@pytree
class Uniform:
    """t uniform on [t_min, t_max], independently for each example; by default on (0, T].

    Raises:
      ValueError: not 0 <= t_min <= t_max; so have all distributions with these fields.
    """

    t_min: float | None = None
    t_max: float | None = None

    per_example: ClassVar[int] = 1

    def __post_init__(self):
        _check_ends(self)

    def on(self, sde: SDE) -> "Uniform":
        return _with_ends(self, sde)

    def __call__(self, key: Key, n: int) -> Array:
        t_min, t_max = _ends(self)
        return _between(t_min, t_max, _uniforms(key, n))


@pytree
class Integers:
    """t uniform on the integers 1, ..., n: the times of a `BetaTable` of n steps (Ho et al. 2020, Algorithm 1).

    n is the SDE's T by default.
    """

    n: float | None = None

    per_example: ClassVar[int] = 1

    def __post_init__(self):
        if self.n is not None:
            check_number("n", self.n, 1)

    def on(self, sde: SDE) -> "Integers":
        if self.n is not None:
            check_times(self.n, sde)
            return self
        if known(sde.T) and not isinstance(sde, BetaTable) and not (sde.T >= 2 and sde.T % 1 == 0):
            raise ValueError(f"Integers() draws 1, ..., T, the times of a BetaTable; got {sde}, where T = {sde.T}")
        return Integers(sde.T)

    def __call__(self, key: Key, n: int) -> Array:
        if self.n is None:
            raise ValueError("Integers() takes its n from an SDE: draw by times.draw, or give n")
        return jnp.minimum(jnp.floor(self.n * _uniforms(key, n)) + 1, self.n)


@pytree
class LowDiscrepancy:
    """One uniform draw for the batch, the others spaced evenly behind it (Kingma et al. 2021, App. I.1).

    Each t is uniform on [t_min, t_max]; the batch's mean loss has less variance. With n keys the first one is used,
    and with a `Place` the whole batch's key and size.
    """

    t_min: float | None = None
    t_max: float | None = None

    per_example: ClassVar[int] = 1
    joint: ClassVar[bool] = True

    def __post_init__(self):
        _check_ends(self)

    def on(self, sde: SDE) -> "LowDiscrepancy":
        return _with_ends(self, sde)

    def __call__(self, key: Key, n: int, *, place: Place | None = None) -> Array:
        key, first, total = place or Place(key if key.ndim == 0 else key[0], 0, n)
        t_min, t_max = _ends(self)
        return _between(t_min, t_max, (jax.random.uniform(key) + (first + jnp.arange(n)) / total) % 1)


@pytree
class UniformLogSNR:
    """logsnr(t) uniform between its values at t_min and t_max: p(t) proportional to g^2/sigma^2, for every SDE.

    Drawn so, the simple loss has the likelihood-weighted loss as its expectation, but for the factor `z()`
    (Song et al. 2021, "Maximum likelihood training of score-based diffusion models", Section 5.1, where it is called
    importance sampling). It takes the SDE that the loss has. An end whose logsnr is infinite counts as in `grids`.
    """

    sde: SDE
    t_min: float | None = None
    t_max: float | None = None

    per_example: ClassVar[int] = 1

    def __post_init__(self):
        check_sde(self.sde)
        _check_ends(self)

    def on(self, sde: SDE) -> "UniformLogSNR":
        check_own(self, sde)
        _with_ends(self, sde)  # its own ends are those of its SDE
        return self

    def __call__(self, key: Key, n: int) -> Array:
        (t_min, t_max), (high, low) = _ends(self, self.sde), self._logsnrs()
        return time_of_logsnr(self.sde, high + (low - high) * _uniforms(key, n), t_min, t_max)

    def z(self) -> Array:
        """The integral of g^2/sigma^2 over [t_min, t_max]."""
        high, low = self._logsnrs()
        return high - low

    def _logsnrs(self) -> Array:
        t_min, t_max = _ends(self, self.sde)
        noisy, clean = level_ends(self.sde, t_max, t_min)
        return -2 * jnp.log(jnp.stack([clean, noisy]))


@pytree
class LogNormal:
    """log(sigma/alpha) ~ N(mean, std^2), clipped to the SDE's times (Karras et al. 2022, Table 1).

    It takes the SDE that the loss has.
    """

    sde: SDE
    mean: float = -1.2
    std: float = 1.2

    per_example: ClassVar[int] = 1

    def __post_init__(self):
        check_sde(self.sde)
        check_number("mean", self.mean)
        check_number("std", self.std, 0)

    def on(self, sde: SDE) -> "LogNormal":
        check_own(self, sde)
        return self

    def __call__(self, key: Key, n: int) -> Array:
        return time_of_logsnr(self.sde, -2 * (self.mean + self.std * _normals(key, n)))


@pytree
class LogitNormal:
    """log(u / (1 - u)) ~ N(mean, std^2), t = t_min + (t_max - t_min) u (Esser et al. 2024, Section 3.1).

    A mean below 0 favours the data's end, above 0 the noise's; with a small std the ends are hardly ever drawn.
    """

    mean: float = 0.0
    std: float = 1.0
    t_min: float | None = None
    t_max: float | None = None

    per_example: ClassVar[int] = 1

    def __post_init__(self):
        check_number("mean", self.mean)
        check_number("std", self.std, 0)
        _check_ends(self)

    def on(self, sde: SDE) -> "LogitNormal":
        return _with_ends(self, sde)

    def __call__(self, key: Key, n: int) -> Array:
        t_min, t_max = _ends(self)
        return _between(t_min, t_max, jax.nn.sigmoid(self.mean + self.std * _normals(key, n)))


def importance(distribution: Any, t: Array) -> Array:
    """The weight that keeps a loss's expectation over uniform times, [B]: 1 where the distribution has none."""
    return distribution.weight(t) if hasattr(distribution, "weight") else jnp.ones_like(t)


def _ends(distribution: Any, sde: SDE | None = None) -> tuple[Time, Time]:
    """t_min and t_max, the open ones those of the SDE, or of T = 1."""
    T = 1.0 if sde is None else sde.T
    t_min, t_max = distribution.t_min, distribution.t_max
    return 1e-5 * T if t_min is None else t_min, T if t_max is None else t_max


def _with_ends(distribution: Any, sde: SDE) -> Any:
    ends = _ends(distribution, sde)
    for end in ends:
        check_times(end, sde)
    return dataclasses.replace(distribution, t_min=ends[0], t_max=ends[1])


def _check_ends(distribution: Any) -> None:
    t_min, t_max = distribution.t_min, distribution.t_max
    for name, end in (("t_min", t_min), ("t_max", t_max)):
        if end is not None:
            check_number(name, end, 0)
    if known(t_min) and known(t_max) and not np.all(np.asarray(t_min) <= np.asarray(t_max)):
        raise ValueError(f"times are drawn from t_min to t_max >= t_min, got {t_min} to {t_max}")


def check_own(distribution: Any, sde: SDE) -> None:
    """Raise a ValueError unless the distribution's own SDE is the one that a loss has."""
    if not same_process(distribution.sde, sde):
        raise ValueError(f"{distribution} has the noise levels of another SDE than the loss's, {sde}: give it that one")


def _between(low: Time, high: Time, u: Array) -> Array:
    return low + (high - low) * u


def _uniforms(key: Key, n: int) -> Array:
    return jax.vmap(jax.random.uniform)(example_keys(key, n))


def _normals(key: Key, n: int) -> Array:
    return jax.vmap(jax.random.normal)(example_keys(key, n))

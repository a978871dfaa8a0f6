"""Grids of times to sample at: equal in time or in noise level, the integer grids of the official codes, RePaint's.

A grid is an array ts [n + 1] that falls from noise to data; n is the number of steps. `tail` and `repaint` make grids
of grids.

`karras`, `uniform_logsnr` and `geometric` are defined by noise levels, sigma(t)/alpha(t), and their times are found by
inverting logsnr(t), so they serve every SDE. Not every end has a level: it is infinite where alpha(T) = 0 (`Flow`,
`Cosine`) and 0 where sigma(t_min) = 0 (`Flow`, `BetaTable`). There the levels in between are those of a grid from 50
(`NOISIEST`) to 0.01 (`CLEANEST`, about one grey level of 8-bit images in [-1, 1]), while the end itself stays T, or
t_min. The same holds for T, unless it is given as t_max, where alpha(T) is less than a thousandth of alpha(t_min).

The integer grids are those of the official codes at every n, in their float64 arithmetic; a paper's index is t - 1.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_count, check_has, check_number, known
from diffjax.sde.gaussian import check_pytree_sde, check_rises, noise_to_signal, time_of_logsnr
from diffjax.typing import SDE, Time

NOISIEST, CLEANEST = 50.0, 0.01  # sigma/alpha that stand for infinity and 0


def falling(ts: Any, sde: SDE | None = None, strictly: bool = True) -> Array:
    """ts as an array; unless `strictly` it may have steps of length 0.

    Raises:
      ValueError: it has no step, does not fall, or has times that the SDE has not. A traced grid passes.
    """
    nodes = np.asarray(ts) if known(ts) else np.array([1.0, 0.0])
    order = np.less if strictly else np.less_equal
    if nodes.ndim != 1 or len(nodes) < 2 or not order(nodes[1:], nodes[:-1]).all():
        raise ValueError(f"a grid falls from noise to data, in one step or more; got ts = {ts}")
    if sde is not None:
        check_times(ts, sde)
    return jnp.asarray(ts)


def check_times(ts: Any, sde: SDE) -> None:
    """Raise a ValueError unless all times are numbers in [0, sde.T]; traced ones pass."""
    if not (known(ts) and known(sde.T)):
        return
    ts, T = np.asarray(ts, np.float64), np.asarray(sde.T, np.float64)
    if ts.size and not (ts.min() >= 0 and np.all(ts.max() <= T * (1 + 1e-6))):
        raise ValueError(f"times must lie in [0, T = {T}], got {ts.min()} to {ts.max()}")


def uniform(sde: SDE, n: int, t_min: Any = None) -> Array:
    """n equal steps from T to t_min (default: the SDE's).

    Raises:
      TypeError: `sde` is no SDE, or n no integer.
      ValueError: n is below 1, or not 0 <= t_min < T; so have the other grids.
    """
    t_max, t_min = _ends(sde, n, None, t_min)
    return jnp.linspace(t_max, t_min, n + 1)


def quadratic(sde: SDE, n: int, t_min: Any = None) -> Array:
    """n steps from T to t_min, equal in sqrt(t): finer near the data (Song et al. 2021, DDIM, App. D)."""
    t_max, t_min = _ends(sde, n, None, t_min)
    return _pinned(jnp.linspace(jnp.sqrt(t_max), jnp.sqrt(t_min), n + 1) ** 2, t_max, t_min)


def trailing(sde: SDE, n: int) -> Array:
    """Integer times of a table: T first, then every (T/n)-th down to 0 (Lin et al. 2024, Table 2; diffusers)."""
    T = _integer_steps(sde, n)
    return _to_zero(np.round(np.arange(T, 0, -T / n))[:n])  # rounding can add a node at 0


def leading(sde: SDE, n: int, offset: int = 0) -> Array:
    """Integer times of a table: 1 + offset last before 0, then every (T // n)-th up; it may start well below T.

    diffusers' "leading", with its `steps_offset`, which Stable Diffusion sets to 1.
    """
    T = _integer_steps(sde, n)
    stride = T // n
    check_count("offset", offset, 0, T - 1 - (n - 1) * stride, why="the first time would lie beyond T")
    return _to_zero(np.arange(n)[::-1] * stride + 1 + offset)


def strided(sde: SDE, n: int) -> Array:
    """DDIM's own integer grid: every (T // n)-th time up from 1; more than n steps where n does not divide T.

    It is `leading` where n divides T, and goes on up to T where it does not: range(0, T, T // n) in DDIM's code.
    """
    T = _integer_steps(sde, n)
    return _to_zero(np.arange(0, T, T // n)[::-1] + 1)


def leading_quadratic(sde: SDE, n: int) -> Array:
    """DDIM's integer grid for CIFAR-10: linspace(0, sqrt(0.8 T), n)^2, rounded down, as indices; then 0.

    At large n its first indices coincide, as in the official code: such steps go nowhere. At n = 1 it is index 0 alone.
    """
    T = _integer_steps(sde, n)
    return _to_zero(np.floor(np.linspace(0, np.sqrt(0.8 * T), n) ** 2)[::-1] + 1)


def karras(
    sde: SDE, n: int, rho: float = 7.0, t_min: Time | None = None, *, t_max: Time | None = None, to_zero: bool = True
) -> Array:
    """Noise levels sigma/alpha equal in their (1/rho)-th power (Karras et al. 2022, Eq. 5).

    `to_zero` (the paper's): n levels from t_max (default: T) to t_min, and the last step goes to 0. Otherwise n steps
    end at t_min.
    """
    check_number("rho", rho, 0, above=True)
    return _by_levels(sde, n, t_max, t_min, lambda r: r ** (1 / rho), lambda r: r**rho, to_zero)


def uniform_logsnr(sde: SDE, n: int, t_max: Time | None = None, t_min: Time | None = None) -> Array:
    """n steps from t_max to t_min, equal in logsnr (Lu et al. 2022)."""
    return _by_levels(sde, n, t_max, t_min, jnp.log, jnp.exp, to_zero=False)


def geometric(sde: SDE, n: int, t_max: Time | None = None, t_min: Time | None = None) -> Array:
    """n noise levels sigma/alpha in geometric progression from t_max to t_min, then 0 (Song & Ermon 2019, Section 4.1).

    `karras` with rho to infinity. NCSN's sigma_1 ... sigma_L are `geometric(EDM(T=sigma_1, t_min=sigma_L), L)`.
    """
    return _by_levels(sde, n, t_max, t_min, jnp.log, jnp.exp, to_zero=True)


def uniform_angle(sde: SDE, n: int) -> Array:
    """n steps from T to 0, equal in the angle atan(sigma/alpha): `uniform` for `Cosine` (Salimans & Ho 2022)."""
    t_max, t_min = _ends(sde, n, None, 0.0)
    check_pytree_sde(sde)
    first, last = (jnp.arctan2(sde.sigma(t), sde.alpha(t)) for t in (t_max, t_min))
    angles = jnp.linspace(first, last, n + 1)
    return _distinct(_pinned(time_of_logsnr(sde, -2 * jnp.log(jnp.tan(angles.at[0].set(0.5)))), t_max, t_min))


def tail(ts: Array, strength: float) -> Array:
    """The last int(n strength) of a grid's n steps, where SDEdit starts: 1 is all, 0 none (diffusers' `strength`).

    Raises:
      TypeError: the strength is no number, or not known yet, inside of `jax.jit`.
      ValueError: it is not in [0, 1], or leaves no step and is not 0.
    """
    if np.ndim(ts) != 1:
        raise ValueError(f"tail takes a grid [n + 1] and the strength, got a grid of shape {list(np.shape(ts))}")
    if np.ndim(strength) or not known(strength):
        raise TypeError(
            "the strength decides how many steps there are: it is one number, known before a program is compiled (its "
            f"argument is static), got {strength!r}"
        )
    check_number("the strength", strength, 0, 1)
    ts = jnp.asarray(ts)
    n = len(ts) - 1
    kept = int(n * strength + 1e-6)
    if strength > 0 and not kept:
        raise ValueError(f"a strength of {strength:g} leaves none of {n} steps: raise it, or take more steps")
    return ts[n - kept :]


def repaint(ts: Array, j: int = 10, r: int = 10, window: tuple[float, float] | None = None) -> Array:
    """RePaint's way down the grid ts [n + 1]: after j steps back up over them, r - 1 times.

    Lugmayr et al. 2022, Appendix B; for `TimeTravel`. Counted from the data, the climbs start at the nodes 1, 1 + j,
    1 + 2j, ..., and so never from the data themselves; with j = 1 it is the paper's Algorithm 1. A climb costs no
    evaluation of the network, and there are n + (r - 1) j c steps down for c climbing nodes: 2410 with the paper's
    n = 250, j = 10, r = 10.

    Args:
      j: jump length, the number of steps.
      r: how often the steps of a jump are taken; 1 is the grid itself.
      window: (low, high): climb only to times that lie in it (MPGD's code: 200 to 700 of 1000).

    Raises:
      ValueError: j or r is less than 1, or the grid is too short for a single jump.
    """
    check_count("the jump length j", j)
    check_count("the number of times r", r)
    ts = jnp.asarray(ts)
    n = len(ts) - 1
    if n <= j:
        raise ValueError(f"a grid of {n} steps is too short for jumps of {j}")
    inside = np.ones(n + 1, bool) if window is None else (window[0] <= np.asarray(ts)) & (np.asarray(ts) <= window[1])
    path = [n]  # node k from the data is ts[n - k]
    for k in range(n - 1, -1, -1):
        path.append(k)
        if 1 <= k <= n - j and k % j == 1 % j and inside[n - k - j]:
            path += [*range(k + 1, k + j + 1), *range(k + j - 1, k - 1, -1)] * (r - 1)
    return ts[n - np.array(path)]


def level_ends(sde: SDE, t_max: Time | None, t_min: Time) -> tuple[Array, Array]:
    """sigma/alpha at t_max (None: T) and t_min, with finite ones for ends that have no level; see above."""
    T = sde.T if t_max is None else t_max
    high, low = noise_to_signal(sde, T), noise_to_signal(sde, t_min)
    noise_only = sde.alpha(T) <= (1e-3 if t_max is None else 1e-12) * sde.alpha(t_min)
    data_only = sde.sigma(t_min) <= 1e-9 * sde.sigma(T)
    return (
        jnp.where(noise_only, jnp.maximum(NOISIEST, 10 * low), high),
        jnp.where(data_only, jnp.minimum(CLEANEST, 0.1 * high), low),
    )


def _by_levels(sde: SDE, n: int, t_max: Any, t_min: Any, power: Any, back: Any, to_zero: bool) -> Array:
    """Times whose levels are equally spaced in `power`: n levels and then 0, or n + 1 levels down to t_min."""
    check_pytree_sde(sde)
    T, t_min = _ends(sde, n, t_max, t_min)
    ends = level_ends(sde, t_max, t_min)
    has_level = noise_to_signal(sde, t_min) == ends[1]

    def nodes(count: int) -> Array:
        levels = -2 * jnp.log(back(jnp.linspace(power(ends[0]), power(ends[1]), count)))
        padded = jnp.pad(levels, (0, -count % 128), mode="edge")  # one compilation for all grids of up to 127 steps
        return time_of_logsnr(sde, padded, t_min, T)[:count]

    ts = _pinned(nodes(n + 1), T, t_min)
    if to_zero:
        # where t_min has a level, the last one is t_min exactly; at n = 1 the first one takes precedence
        above = nodes(n)
        above = above.at[-1].set(jnp.where(has_level, t_min, above[-1])).at[0].set(T)
        ts = jnp.where(has_level & (jnp.asarray(t_min) == 0), ts, jnp.append(above, 0.0))  # no time is below 0
    return _distinct(ts)


def _distinct(ts: Array) -> Array:
    if known(ts) and not np.all(np.diff(ts) < 0):
        raise ValueError(f"{len(ts) - 1} steps are too many for times of {ts.dtype}: neighbours coincide; take fewer")
    return ts


def _ends(sde: SDE, n: int, t_max: Any, t_min: Any) -> tuple[Any, Any]:
    """t_max and t_min, by default the SDE's; the arguments that all grids share are checked."""
    check_has(sde, "an SDE, such as dj.VP(),", "alpha", "sigma", "T", *(["t_min"] if t_min is None else []))
    check_count("the number of steps n", n)
    check_rises(sde)
    t_max = sde.T if t_max is None else t_max
    t_min = sde.t_min if t_min is None else t_min
    for name, end in (("t_max", t_max), ("t_min", t_min)):
        check_number(name, end, 0)
        check_times(end, sde)
    if known(t_max) and known(t_min) and not np.all(np.asarray(t_min) < np.asarray(t_max)):
        raise ValueError(f"a grid falls from t_max to t_min, got {t_max} and {t_min}")
    return t_max, t_min


def _integer_steps(sde: SDE, n: int) -> int:
    """T of a table, as an integer, if it has as many as n steps."""
    check_has(sde, "a table, such as dj.BetaTable.linear(1000),", "T")
    check_count("the number of steps n", n)
    T = float(sde.T)
    if T % 1 != 0 or n > T:
        raise ValueError(f"an integer grid on {T:g} times has 1 to {int(T)} steps, got n = {n}")
    return int(T)


def _to_zero(times: np.ndarray) -> Array:
    return jnp.asarray(np.append(times, 0.0))


def _pinned(ts: Array, t_max: Any, t_min: Any) -> Array:
    """The grid with its two ends exact."""
    return ts.at[0].set(t_max).at[-1].set(t_min)

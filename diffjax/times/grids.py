"""Times to sample at.

A grid is an array ts [n + 1] that falls from noise to data; n is the number of steps. Where a grid is defined by noise
levels, times are found by inverting logsnr(t), so it serves every SDE. `tail` and `repaint` make grids of grids.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import known
from diffjax.sde.gaussian import logsnr, time_of_logsnr
from diffjax.typing import SDE, Time


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


def _steps(n: int) -> int:
    if n < 1:
        raise ValueError(f"a grid needs at least 1 step, got n = {n}")
    return n


def _end(sde: SDE, t_min: Time | None) -> Time:
    return sde.t_min if t_min is None else t_min


def uniform(sde: SDE, n: int, t_min: Time | None = None) -> Array:
    """n equal steps from T to t_min (default: the SDE's)."""
    return jnp.linspace(sde.T, _end(sde, t_min), _steps(n) + 1)


def quadratic(sde: SDE, n: int, t_min: Time | None = None) -> Array:
    """n steps from T to t_min, equal in sqrt(t): finer near the data (Song et al. 2021, DDIM, App. D)."""
    return jnp.linspace(jnp.sqrt(sde.T), jnp.sqrt(_end(sde, t_min)), _steps(n) + 1) ** 2


def _integer_steps(sde: SDE, n: int) -> int:
    if not 1 <= n <= int(sde.T):
        raise ValueError(f"an integer grid on {int(sde.T)} times has 1 to {int(sde.T)} steps, got n = {n}")
    return n


def trailing(sde: SDE, n: int) -> Array:
    """Integer times of a table: T first, then every (T/n)-th down to 0 (Lin et al. 2024, Table 2)."""
    return jnp.round(jnp.arange(_integer_steps(sde, n), -1, -1) * (sde.T / n))


def leading(sde: SDE, n: int) -> Array:
    """Integer times of a table: 1 last before 0, then every (T // n)-th up; it may start well below T."""
    stride = int(sde.T) // _integer_steps(sde, n)
    return jnp.append(jnp.arange(n - 1, -1, -1) * stride + 1.0, 0.0)


def leading_quadratic(sde: SDE, n: int) -> Array:
    """DDIM's integer grid for CIFAR-10: linspace(0, sqrt(0.8 T), n)^2, rounded down, as labels; then 0."""
    labels = jnp.floor(jnp.linspace(jnp.sqrt(0.8 * sde.T), 0, _integer_steps(sde, n)) ** 2)
    return jnp.append(labels + 1.0, 0.0)


def karras(sde: SDE, n: int, rho: float = 7.0, t_min: Time | None = None, *, to_zero: bool = True) -> Array:
    """Noise levels sigma/alpha equal in their (1/rho)-th power (Karras et al. 2022, Eq. 5).

    `to_zero` (the paper's): n levels from T to t_min, and the last step goes to 0. Otherwise n steps end at t_min.
    """
    t_min = _end(sde, t_min)
    first, last = jnp.exp(-0.5 * logsnr(sde, jnp.array([sde.T, t_min])))
    ramp = jnp.linspace(0, 1, _steps(n) + (not to_zero))
    levels = (first ** (1 / rho) + ramp * (last ** (1 / rho) - first ** (1 / rho))) ** rho
    ts = _pinned(sde, -2 * jnp.log(levels), sde.T, t_min)
    return jnp.append(ts, 0.0) if to_zero else ts


def uniform_logsnr(sde: SDE, n: int, t_max: Time | None = None, t_min: Time | None = None) -> Array:
    """n steps from t_max to t_min, equal in logsnr (Lu et al. 2022). Give t_max < T where alpha(T) = 0."""
    t_max = sde.T if t_max is None else t_max
    t_min = _end(sde, t_min)
    ends = logsnr(sde, jnp.array([t_max, t_min]))
    return _pinned(sde, jnp.linspace(ends[0], ends[1], _steps(n) + 1), t_max, t_min)


def uniform_angle(sde: SDE, n: int) -> Array:
    """n steps from T to 0, equal in the angle atan(sigma/alpha): `uniform` for `Cosine` (Salimans & Ho 2022)."""
    angles = jnp.linspace(jnp.arctan2(sde.sigma(sde.T), sde.alpha(sde.T)), 0.0, _steps(n) + 1)
    t = time_of_logsnr(sde, -2 * jnp.log(jnp.tan(angles[1:-1])))
    return jnp.concatenate([jnp.full(1, sde.T), t, jnp.zeros(1)])


def geometric(sde: SDE, n: int, t_max: Time | None = None, t_min: Time | None = None) -> Array:
    """n noise levels sigma/alpha in geometric progression from t_max to t_min, then 0 (Song & Ermon 2019, Section 4.1).

    `karras` with rho to infinity. NCSN's sigma_1 ... sigma_L are `geometric(EDM(T=sigma_1, t_min=sigma_L), L)`. Give
    t_max < T where alpha(T) = 0.
    """
    t_max = sde.T if t_max is None else t_max
    t_min = _end(sde, t_min)
    ends = logsnr(sde, jnp.array([t_max, t_min]))
    return jnp.append(_pinned(sde, jnp.linspace(ends[0], ends[1], _steps(n)), t_max, t_min), 0.0)


def tail(ts: Array, strength: float) -> Array:
    """The last int(n strength) of a grid's n steps, where SDEdit starts: 1 is all, 0 none (diffusers' `strength`).

    Raises:
      ValueError: the strength is not in [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength must lie in [0, 1], got {strength}")
    n = len(ts) - 1
    return ts[n - int(n * strength + 1e-6) :]


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
    n = len(ts) - 1
    if j < 1 or r < 1:
        raise ValueError(f"RePaint needs a jump length j and a number of times r of at least 1, got {j} and {r}")
    if n <= j:
        raise ValueError(f"a grid of {n} steps is too short for jumps of {j}")
    inside = np.ones(n + 1, bool) if window is None else (window[0] <= np.asarray(ts)) & (np.asarray(ts) <= window[1])
    path = [n]  # node k from the data is ts[n - k]
    for k in range(n - 1, -1, -1):
        path.append(k)
        if 1 <= k <= n - j and k % j == 1 % j and inside[n - k - j]:
            path += [*range(k + 1, k + j + 1), *range(k + j - 1, k - 1, -1)] * (r - 1)
    return jnp.asarray(ts)[n - np.array(path)]


def _pinned(sde: SDE, logsnrs: Array, t_max: Any, t_min: Any) -> Array:
    """Times of the given logsnrs, with the two ends exact."""
    ts = time_of_logsnr(sde, logsnrs, t_min, t_max).at[0].set(t_max)
    return ts.at[-1].set(t_min) if len(ts) > 1 else ts

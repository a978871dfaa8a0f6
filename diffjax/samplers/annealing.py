"""How to choose noise levels and steps for annealed Langevin dynamics, from the data (Song & Ermon 2020, "NCSNv2").

    T1  sigma_1 = the largest Euclidean distance between two training images                      (Technique 1)
    T2  gamma = sigma_{i-1}/sigma_i:  Phi(sqrt(2D)(gamma-1) + 3 gamma) - Phi(sqrt(2D)(gamma-1) - 3 gamma) = 0.5
    T4  given T steps a level, eps brings the variance ratio r as close to 1 as possible; r is the variance that T steps
        leave of samples which come from the level above, relative to sigma_i^2                   (Proposition 3)

        r = (1-u)^{2T} (gamma^2 - q) + q,   u = eps/sigma_L^2,   q = 2u / (1 - (1-u)^2) = 1/(1 - u/2)

T3 (a network of unit scale, divided by sigma) is `precondition.from_score`, T5 (an average of the parameters) lies in
`train`. The steps are those of `AnnealedLangevin`, x + alpha score + sqrt(2 alpha) z; with `halved=True` double eps.

r is a mean of gamma^2 and of the stationary variance q, both above 1, so that r = 1 has no solution: T4 is a minimum.
For CIFAR-10 (D = 3072, sigma from 50 to 0.01, T = 5) these equations give, beside what was published:

    gamma 1.039796, L = 220     published L = 232, gamma 1.037559, for which T2's left side is 0.56697
    eps 6.1840e-6 for L = 232   published 6.2e-6, which is that rounded to two digits; r = 1.0554745 and 1.0554746
    eps 6.4641e-6 for L = 220

These numbers are found once, before training, on the host in float64.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

Blocks = Callable[[], Iterable[Any]]


def max_pairwise_distance(data: Any, block: int = 1024) -> float:
    """The largest Euclidean distance between two examples (T1), exact, for data that need not fit in memory.

    Args:
      data: an array [N, ...] that slices, `np.memmap` included, or a function of no arguments that gives an iterable
        of blocks [n, ...] anew at each call. The distance is in the units of the data: give what the network takes.
      block: how many examples of an array are read at a time, and how many are compared with a block at a time.

    Two blocks are held at a time, in float64, and one distance for each example. The data are read three times, and
    twice for each `block` candidates: examples so far from the middle that they may belong to the farthest pair.
    Where all examples are candidates (as the 1797 digits of scikit-learn are), that is a matmul of all pairs, N^2 D.

    Raises:
      ValueError: there are fewer than two examples, or none at the second reading; entries that are no finite numbers.
      TypeError: `data` is neither an array nor a function.
    """
    if not callable(data) and np.ndim(data) < 2:
        raise TypeError("give an array [N, ...], or a function that returns an iterable of blocks [n, ...]")
    if block < 1:
        raise ValueError(f"a block holds at least 1 example, got block = {block}")
    blocks: Any = data if callable(data) else functools.partial(_slices, data, block)
    first = _farthest(blocks, np.zeros(1))
    second = _farthest(blocks, first)
    best = float(np.linalg.norm(first - second))
    centre = (first + second) / 2
    radii = np.concatenate([np.linalg.norm(rows - centre, axis=1) for _, rows in _read(blocks)])
    if len(radii) < 2:
        raise ValueError(f"a distance needs at least two examples, got {len(radii)}")
    # |a - b| <= |a - c| + |c - b|: what is nearer to c than best - max radius is in no pair farther apart than best
    far = np.flatnonzero(radii >= (best - radii.max()) - 1e-9 * best)
    for start in range(0, len(far), block):
        group = np.concatenate([rows for _, rows in _read(blocks, far[start : start + block])]) - centre
        for _, rows in _read(blocks, far[start:]):
            best = max(best, _largest(group, rows - centre))
    return best


def _slices(data: Any, block: int) -> Iterator[Any]:
    return (data[i : i + block] for i in range(0, len(data), block))


def _read(blocks: Blocks, index: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """(number of its first example, rows [n, D] in float64) of each block, or of its examples in the sorted `index`."""
    start = 0
    for raw in blocks():
        raw = np.asarray(raw)  # of np.memmap a view
        size = len(raw)
        if index is not None:
            raw = raw[index[slice(*np.searchsorted(index, (start, start + size)))] - start]
        if len(raw):
            yield start, np.asarray(raw, np.float64).reshape(len(raw), -1)
        start += size
    if start == 0:
        raise ValueError("there are no data: the function must give the blocks anew at each call")


def _farthest(blocks: Blocks, point: np.ndarray) -> np.ndarray:
    """The example that lies farthest from `point`."""
    best, where = -1.0, point
    for start, rows in _read(blocks):
        distance = np.linalg.norm(rows - point, axis=1)
        if not np.isfinite(distance).all():
            raise ValueError(f"example {start + int(np.argmin(np.isfinite(distance)))} holds NaN or infinite entries")
        if distance.max() > best:
            best, where = distance.max(), rows[distance.argmax()].copy()
    return where


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance between a row of a and a row of b: the pair is found by a matmul, then measured directly."""
    square = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    i, j = np.unravel_index(square.argmax(), square.shape)
    return float(np.linalg.norm(a[i] - b[j]))


def overlap(gamma: float, dim: int) -> float:
    """T2's left side: the probability that a sample's radius lies within 3 deviations of the next level's radii."""
    shift = math.sqrt(2 * dim) * (gamma - 1)
    return 0.5 * (math.erfc((-shift - 3 * gamma) / math.sqrt(2)) - math.erfc((-shift + 3 * gamma) / math.sqrt(2)))


def level_ratio(dim: int, probability: float = 0.5) -> float:
    """gamma of neighbouring levels in `dim` dimensions (T2).

    Raises:
      ValueError: dim < 5, where the levels overlap at any ratio, or the probability is not between 0 and 0.99.
    """
    if dim < 5:
        raise ValueError(f"T2 has a solution from 5 dimensions on, got dim = {dim}; in fewer any ratio will do")
    if not 0 < probability < 0.99:
        raise ValueError(f"the probability must lie between 0 and 0.99, got {probability}")
    high = 2.0
    while overlap(high, dim) > probability:
        high *= 2
    return _root(lambda gamma: probability - overlap(gamma, dim), 1.0, high)


def n_levels(dim: int, sigma_max: float, sigma_min: float, probability: float = 0.5) -> int:
    """L, the least number of levels from sigma_max to sigma_min whose ratio is not above `level_ratio(dim)`.

    Raises:
      ValueError: not 0 < sigma_min < sigma_max, or as `level_ratio` does.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"expected 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    return 1 + math.ceil(math.log(sigma_max / sigma_min) / math.log(level_ratio(dim, probability)))


def variance_ratio(eps: float, n_steps: int, gamma: float, sigma_L: float) -> float:
    """r of T4: the samples' variance after `n_steps` steps at a level, begun at gamma^2, over the level's own."""
    u = eps / sigma_L**2
    q = 1 / (1 - u / 2)
    return (1 - u) ** (2 * n_steps) * (gamma**2 - q) + q


def step_size(n_steps: int, gamma: float, sigma_L: float) -> float:
    """eps that makes `variance_ratio` least, hence nearest to 1 (T4).

    dr/du = -2T (1-u)^{2T-1} (gamma^2 - q) + (1 - (1-u)^{2T}) q^2/2 increases in u from below 0 up to where q = gamma^2
    or u = 1, and is positive there: one root, by bisection. Beyond it r is above its value there.

    Raises:
      ValueError: n_steps < 1, gamma <= 1 or sigma_L <= 0.
    """
    if n_steps < 1 or gamma <= 1 or sigma_L <= 0:
        raise ValueError(f"expected n_steps >= 1, gamma > 1, sigma_L > 0, got {n_steps}, {gamma}, {sigma_L}")

    def slope(u: float) -> float:
        q, kept = 1 / (1 - u / 2), (1 - u) ** (2 * n_steps - 1)
        return -2 * n_steps * kept * (gamma**2 - q) + (1 - kept * (1 - u)) * q**2 / 2

    return _root(slope, 0.0, min(1.0, 2 * (1 - gamma**-2))) * sigma_L**2


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where f, negative at `low` and positive at `high`, changes its sign: bisection down to neighbouring floats."""
    while low < (mid := 0.5 * (low + high)) < high:
        low, high = (mid, high) if f(mid) < 0 else (low, mid)
    return 0.5 * (low + high)

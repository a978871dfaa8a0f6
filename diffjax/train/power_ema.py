"""Averages of the parameters with power-function profiles, and any other such average after training.

Sources: Karras et al. 2024, "Analyzing and improving the training dynamics of diffusion models", Section 3 and App. C.
The average at update t weighs the parameters of update tau by the profile p, whose relative width is sigma_rel:

    p_{gamma,t}(tau) = (gamma + 1) tau^gamma / t^(gamma + 1)   for 0 <= tau <= t                                (1)
    ema(t) = beta(t) ema(t - 1) + (1 - beta(t)) theta(t),   beta(t) = (1 - 1/t)^(gamma + 1)                     (2)
    sigma_rel = (gamma + 1)^(1/2) (gamma + 2)^-1 (gamma + 3)^-1/2                                               (3)

(2) gives update tau exactly the integral of (1) from tau - 1 to tau. It forgets how the average began, as beta(1) = 0.

From stored averages ("snapshots") with profiles p_i, another average is sum_i w_i ema_i, where w makes sum_i w_i p_i
the nearest to the wanted profile q in the square norm. With A_ij = <p_i, p_j> and b_i = <p_i, q>,

    min_w  w^T A w - 2 b^T w   with   sum_i w_i = 1                                                             (4)
    <p_i, p_j> = (gamma_i + 1)(gamma_j + 1) / (gamma_i + gamma_j + 1) (t_min / t_max)^gamma_max / t_max         (5)

where t_max is the later of the two times and gamma_max its exponent. The paper solves A w = b, whose weights sum to 1
only nearly; the constraint keeps what is common to all snapshots as it is. Everything here is NumPy in float64, for A
is nearly singular where snapshots lie close to one another.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.train.checkpoint import Checkpoints
from diffjax.train.optim import updates
from diffjax.train.state import TrainState
from diffjax.typing import PyTree


class Snapshot(NamedTuple):
    """An average with the profile (1) of `gamma` at update `step`."""

    step: int
    gamma: float
    params: PyTree


def power_ema(gamma: float) -> Callable[[Array], Array]:
    """The decay (2) at update n = 1, 2, ..., for `ema_decays`; `power_ema(gamma_of_sigma_rel(0.05))` is usual."""
    # 1 - 1/n itself would lose the digits of 1/n; n is 0 only while the first gradients gather, when no average moves
    return lambda n: jnp.exp((gamma + 1) * jnp.log1p(-1 / jnp.maximum(n, 1)))


def sigma_rel_of_gamma(gamma: float) -> float:
    """The width of a profile as a fraction of the training time (Eq. 3)."""
    return float(np.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2))


def gamma_of_sigma_rel(sigma_rel: float) -> float:
    """The exponent gamma >= 0 of a profile of that width: Eq. 3 solved for gamma.

    Raises:
      ValueError: sigma_rel lies outside (0, 12^-1/2]; the widest, gamma = 0, weighs all updates alike.
    """
    widest = 12**-0.5
    if not 0 < sigma_rel <= widest:
        raise ValueError(f"sigma_rel must lie in (0, {widest:.4f}], got {sigma_rel}")
    s = float(sigma_rel) ** -2  # (gamma + 2)^2 (gamma + 3) - s (gamma + 1) = 0
    return max(float(np.roots([1.0, 7.0, 16.0 - s, 12.0 - s]).real.max()), 0.0)


def inner(t_i: Any, gamma_i: Any, t_j: Any, gamma_j: Any) -> np.ndarray:
    """<p_i, p_j> (Eq. 5), for numbers or float64 arrays that broadcast."""
    last, first = np.maximum(t_i, t_j), np.minimum(t_i, t_j)
    gamma_max = np.where(t_i >= t_j, gamma_i, gamma_j)
    scale = (gamma_i + 1) * (gamma_j + 1) / (gamma_i + gamma_j + 1)
    return scale * (first / last) ** gamma_max / last


def solve_weights(steps: Sequence[float], gammas: Sequence[float], sigma_rel: float, step: float) -> np.ndarray:
    """The weights w [n] of (4) for snapshots at `steps` [n] with exponents `gammas` [n]; their sum is 1.

    Raises:
      ValueError: there is no snapshot, a time is not positive, `step` lies after the last snapshot, or sigma_rel is
        out of range.
    """
    t, g = np.asarray(steps, np.float64), np.asarray(gammas, np.float64)
    if t.ndim != 1 or not t.size or g.shape != t.shape:
        raise ValueError(f"expected the times and exponents of at least one snapshot, got {t.shape} and {g.shape}")
    if not (t.min() > 0 and 0 < step <= t.max()):
        raise ValueError(f"need 0 < step <= {t.max():g}, the last snapshot, and snapshots after 0: got step {step}")
    A = inner(t[:, None], g[:, None], t, g)
    b = inner(t, g, step, gamma_of_sigma_rel(sigma_rel))
    unit = 1 / np.sqrt(np.diag(A))  # profiles of unit norm
    right = unit[:, None] * np.stack([b, np.ones_like(b)], 1)
    free, common = unit[:, None].T * np.linalg.lstsq(unit[:, None] * A * unit, right)[0].T
    return free + common * (1 - free.sum()) / common.sum()  # Lagrange's condition: A w = b + multiplier


def reconstruct(snapshots: Iterable[Snapshot], sigma_rel: float, step: int | None = None) -> PyTree:
    """The average of width `sigma_rel` at update `step` (default: the last snapshot's): NumPy arrays.

    Raises as `solve_weights`.
    """
    snapshots = list(snapshots)
    last = max((s.step for s in snapshots), default=0)
    w = solve_weights([s.step for s in snapshots], [s.gamma for s in snapshots], sigma_rel, step or last)

    def combine(*leaves):
        total = sum(w_i * np.asarray(x, np.float64) for w_i, x in zip(w, leaves, strict=True))
        return np.asarray(total).astype(leaves[0].dtype)

    return jax.tree.map(combine, *[s.params for s in snapshots])


def read_snapshots(saved: Checkpoints, like: TrainState, gammas: Sequence[float | None]) -> Iterator[Snapshot]:
    """The averages of a run's checkpoints, in the host's memory.

    Keep enough of them, by `LoopConfig(keep_every=...)`: with averages of width 0.05 and 0.10 at n equal intervals, one
    of 0.075 or 0.15 is met to 3 % of its distance from the last parameters for n = 4, 0.3 % for 8, 0.05 % for 16.

    Args:
      saved: `Checkpoints(workdir / "checkpoints")`.
      like: a state of the run, or its shapes; see `Checkpoints.restore`.
      gammas: the exponent of each average of the state, None for one that is no `power_ema`.

    Raises:
      ValueError: there is not one entry of `gammas` for each average.
      CheckpointError: as `Checkpoints.restore`.
    """
    if len(gammas) != len(like.ema):
        raise ValueError(f"{len(gammas)} exponents, but the state holds {len(like.ema)} averages")
    for step in saved.steps():
        state = saved.restore(like, step)
        count, _ = updates(state.opt_state, state.step - 1)  # profiles count updates, checkpoints steps
        for gamma, ema in zip(gammas, state.ema, strict=True):
            if gamma is not None:
                yield Snapshot(int(count), gamma, jax.tree.map(np.asarray, ema))

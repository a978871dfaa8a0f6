"""What the multistep solvers share: a history of evaluations, and the weights of polynomials through them.

In a clock c(t), let tau = (c - c_t) / (c_s - c_t), so that a step from t to s goes from tau = 0 to 1, and earlier
evaluations F_j lie at tau_j < 0. The polynomial through the points (tau_j, F_j), integrated against a measure mu:

    (1) int_0^1 F dmu = sum_j w_j F_j,   sum_j w_j tau_j^k = int_0^1 tau^k dmu = m_k   for k = 0, ..., p - 1

Each solver is a choice of the clock, of F (x_0 or eps), and of the measure by which the ODE's exact solution weighs F.
A node that is not there yet, lies at infinity (alpha = 0) or at tau = 0 is left out with all older ones, so that every
solver begins with DDIM's step, and so are all but the first where the step's own length in c is 0 or infinite: the step
into t = 0 and the one out of alpha = 0 are DDIM's too.

The first step's error is of second order in its length and stays, whatever the later steps' order. At T, where x says
little of x_0, it is small; a run that starts below T (SDEdit, `times.tail`, `TimeTravel`) has order 2 (UniPC 3). With
`warm` the first p - 2 steps are DPM-Solver-3's (local error of fourth order), which the claimed order needs.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.sde import gaussian
from diffjax.typing import SDE, Time

POINTS = (np.polynomial.legendre.leggauss(16)[0] + 1) / 2
POINT_WEIGHTS = np.polynomial.legendre.leggauss(16)[1] / 2

REACH = 3.0


class History(NamedTuple):
    """The state of a multistep solver: x, and the last k evaluations, newest first."""

    x: Array  # [B, ...]
    mean: Array  # x before the last step's noise
    F: Array  # [k, B, ...]
    times: Array  # [k]
    count: Array  # [] how many evaluations there were

    @classmethod
    def start(cls, x: Array, k: int) -> "History":
        return cls(x, x, jnp.zeros((k, *x.shape), x.dtype), jnp.ones(k, x.dtype), jnp.zeros((), jnp.int32))

    def push(self, F: Array, t: Time) -> "History":
        """The history with F at time t as its newest entry; the oldest one goes."""
        return self._replace(
            F=jnp.concatenate([F[None], self.F[:-1]]),
            times=jnp.concatenate([jnp.asarray(t, self.times.dtype)[None], self.times[:-1]]),
            count=self.count + 1,
        )


def half_logsnr(sde: SDE, t: Time) -> Array:
    """lambda = log(alpha/sigma): the clock of DPM-Solver."""
    return 0.5 * gaussian.logsnr(sde, t)


def step_length(sde: SDE, t: Time, s: Time) -> Array:
    """h = lambda_s - lambda_t; 0 for a step of length 0, also at T where alpha = 0 and at t = 0."""
    return jnp.where(t == s, 0, half_logsnr(sde, s) - half_logsnr(sde, t))


def differences(F: Array) -> Array:
    """F_j - F_0, [k - 1, B, ...]."""
    return F[1:] - F[:1]


def nodes(clock: Callable, times: Array, s: Time) -> Array:
    """tau [k] of the history's times [k] for a step from times[0] to s; 0 for those that `weights` shall leave out.

    Left out is also the j-th node behind if the step is more than `REACH` times as long as the mean of the last j ones:
    a polynomial that reaches so far multiplies the evaluations' errors (on `times.uniform` the last steps do).
    """
    c, end = clock(times), clock(s)
    regular = jnp.isfinite(c[0]) & jnp.isfinite(end) & (end != c[0]) & (times[0] != s)
    fit = regular & jnp.isfinite(c) & ~jnp.append(True, times[1:] == times[:-1])
    length = jnp.where(regular, end, 1) - jnp.where(regular, c[0], 0)
    tau = jnp.where(fit, jnp.where(fit, c, 0) - jnp.where(regular, c[0], 0), 0) / length
    behind = tau < 0
    return jnp.where(behind & (-REACH * tau < jnp.cumsum(behind)), 0, tau)


def weights(tau: Array, count: Array, moments: Array) -> Array:
    """w_j of Eq. 1, [k], for nodes tau [k] with tau_0 = 0, of which the first `count` exist, and moments m [k]."""
    k = len(tau)
    fit = (jnp.arange(k) < count) & jnp.isfinite(tau) & ((tau != 0) | (jnp.arange(k) == 0)) & jnp.isfinite(moments)
    fit = jnp.cumprod(fit).astype(bool)
    powers = jnp.where(fit, tau, 0) ** jnp.arange(k)[:, None]  # row k: tau_j^k, with 0^0 = 1
    matrix = jnp.where(fit & fit[:, None], powers, jnp.eye(k, dtype=powers.dtype))
    return jnp.linalg.solve(matrix, jnp.where(fit, moments, 0))


def exponential_moments(h: Array, k: int) -> Array:
    """m_j = int_0^1 h e^(-h (1 - tau)) tau^j dtau for j < k: the measure of x_0 in the clock lambda, h its step.

    By parts m_j = 1 - j m_(j-1) / h, which loses log10(1/h) digits at every j: where |h| < 1, by Gauss's rule.
    """
    small = jnp.abs(h) < 1
    tau, w = (jnp.asarray(v, h.dtype) for v in (POINTS, POINT_WEIGHTS))
    near, far = jnp.where(small, h, 0), jnp.where(small, 1, h)
    density = w * near * jnp.exp(-near * (1 - tau))
    by_parts = [-jnp.expm1(-h)]
    for j in range(1, k):
        by_parts.append(1 - j / far * by_parts[-1])
    by_gauss = [-jnp.expm1(-h), *((density * tau**j).sum() for j in range(1, k))]
    return jnp.where(small, jnp.stack(by_gauss), jnp.stack(by_parts))

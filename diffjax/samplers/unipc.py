"""UniPC (Zhao et al. 2023, Algorithms 5 and 6): a multistep predictor, and a corrector that costs nothing.

In lambda = log(alpha/sigma), with h = lambda_s - lambda_t, for the prediction of x_0:

    (1) x_s = sigma_s/sigma_t x_t + alpha_s int_0^1 h e^(-h (1 - tau)) x_0(tau) dtau

The predictor (UniP) integrates the polynomial through the last p predictions. The evaluation at the new point serves
twice: it is the next step's first, and before that, with the p predictions behind it, it corrects x (UniC, order
p + 1). All conditions on the weights are solved exactly (the paper's UniPC_v), so that its free function B(h) cancels;
the codes' B_1 and B_2 differ where they set a weight to 1/2. The last x is not corrected, which would cost another
evaluation.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast
from diffjax.checks import check_count
from diffjax.samplers.dpm_solver import single_step
from diffjax.samplers.multistep import (
    History,
    differences,
    exponential_moments,
    half_logsnr,
    nodes,
    step_length,
    weights,
)
from diffjax.sde import gaussian
from diffjax.typing import SDE, Time, pytree, static


class Corrected(NamedTuple):
    """x as predicted, what it was predicted from, and the evaluations behind it."""

    x: Array  # [B, ...]
    mean: Array
    before: Array  # [B, ...] corrected, at the time of the newest evaluation
    history: History


@pytree
class UniPC:
    """`order` 1 to 4 of the predictor (one more with the corrector), one evaluation a step, deterministic.

    Order + 1 holds for runs from T; started mid-way it is 3 at most. With `warm` it is 4 at most, from any start: the
    first `order` - 2 steps are DPM-Solver-3's, with two evaluations more. Elsewhere: diffusers'
    UniPCMultistepScheduler, UniPC-`order`.

    Raises:
      ValueError: there is no such order.
    """

    order: int = static(default=3)
    warm: bool = static(default=False)

    def __post_init__(self):
        check_count("order", self.order, 1, 4)

    def init(self, x: Array) -> Corrected:
        return Corrected(x, x, x, History.start(x, self.order))

    def step(self, key, denoise, sde, state, t, s, cond):
        history = state.history
        x0 = denoise(state.x, t, cond)
        times, F = jnp.append(history.times, t), jnp.concatenate([history.F, x0[None]])
        order = jnp.array([0, self.order, *range(1, self.order)])  # the newest of the history, the new one, the others
        corrected = _integrate(sde, state.before, times[order], F[order], history.count + 1, t)
        singles = max(self.order - 2, 0) if self.warm else 0  # so many first steps, which need no correction
        x = jnp.where(history.count > singles, corrected, state.x)
        history = history.push(x0, t)
        predicted = _integrate(sde, x, history.times, history.F, history.count, s)
        if singles:
            single = partial(single_step, 3, denoise, sde, x, t, s, cond, x0)
            predicted = jax.lax.cond(history.count <= singles, single, lambda: predicted)
        return Corrected(predicted, predicted, x, history)


def _integrate(sde: SDE, x: Array, times: Array, F: Array, count: Array, s: Time) -> Array:
    """Eq. 1 from x at times[0] to s, x_0 the polynomial through the first `count` of (times [k], F [k, B, ...])."""
    h = step_length(sde, times[0], s)
    w = weights(nodes(partial(half_logsnr, sde), times, s), count, exponential_moments(h, len(times)))[1:]
    correction = bcast(sde.alpha(s), x) * jnp.tensordot(w, differences(F), 1)
    return gaussian.exponential_step(sde, x, times[0], s, F[0]) + correction

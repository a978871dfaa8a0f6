"""Consistency models: f(x_t, t) is the end of the trajectory through x_t, equal along it (Song et al. 2023).

    (1) w d(f(x_t, t), f_target(x_s, s)),   s < t,   x_t = alpha_t x_0 + sigma_t eps,   no gradient through f_target
    (2) consistency distillation (CD):  x_s = the teacher's step from x_t to s
    (3) consistency training (CT):      x_s = alpha_s x_0 + sigma_s eps, with the same eps

In (3) the pair's mean slope given x_t is the velocity, so that as s -> t the two have one gradient. The papers are
choices of pairs, distance, weight and target; f is a boundary's `precondition`:

           pairs                                           metric            weight  target   f
    CD     Neighbours(karras(sde, 17, to_zero=False))      squared           even    EMA      consistency
    CT     KarrasNeighbours(sde, Rising())                 squared           even    EMA      consistency
    iCT    KarrasNeighbours(sde, Doubling(), (-1.1, 2.0))  PseudoHuber()     rate    student  consistency
    ECT    Tightening(sde, LogNormal(sde, -1.1, 2), n)     PseudoHuber(0.0)  rate    student  edm

CD's teacher is `flow_maps.heun_step`; the papers' best metric is LPIPS, any function of two batches is accepted.
CT's target follows the student with the decay of `train.levels_ema(Rising())`. iCT's (Song & Dhariwal 2024) and ECT's
(Geng et al. 2025) is the student itself. With s = 0 the target is x_0, as the boundary condition at 0 says.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast
from diffjax.conditions import cond_keys
from diffjax.flow_maps import check_map
from diffjax.losses import weightings
from diffjax.losses.distillation import metrics
from diffjax.losses.draws import bound, read, target_params, times, weighted
from diffjax.losses.networks import check_functions
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Context, FlowMap, Key, PyTree, Time, pytree, static


def even(sde: SDE, t: Time, s: Time) -> Array:
    """1: all pairs count the same."""
    return jnp.ones_like(t)


def rate(sde: SDE, t: Time, s: Time) -> Array:
    """1/(r_t - r_s) at r = sigma/alpha: the distance as a rate of change (Song & Dhariwal 2024).

    It is 0 where alpha_t = 0, as r_t is infinite, and where t = s, as both ends are one.
    """
    alpha_t, alpha_s = sde.alpha(t), sde.alpha(s)
    rise = sde.sigma(t) * alpha_s - sde.sigma(s) * alpha_t
    return jnp.where(rise > 0, alpha_t * alpha_s / jnp.where(rise > 0, rise, 1), 0)


def error_in_v(sde: SDE, t: Time, s: Time) -> Array:
    """`weightings.v` at t: a network that predicts v errs as much near the data, where x_0 hardly shows it."""
    return weightings.v(sde, t)


@pytree
class Consistency:
    """`loss(params, key, batch) -> ([B], {"t": [B], "s": [B]})`, Eq. 1; a batch is as in `DSM`.

    Raises:
      ValueError: the teacher was made for another process, or the target network or the training step is missing in
        the context.
    """

    sde: SDE
    pairs: Callable  # (key, n, step) -> (t [n], s [n]), see `times`
    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    precondition: Callable = static()  # (sde, network) -> f, `precondition.consistency` or `edm`
    teacher: FlowMap | None = None  # `flow_maps.heun_step(sde, denoise)`, say; None: Eq. 3
    metric: Callable = metrics.squared  # (a, b) -> [B]
    weight: Callable = static(default=even)  # (sde, t, s) -> w [B]
    target_ema: int | None = static(default=None)  # the EMA that is the target network; None: the student itself
    train: bool = static(default=True)

    def __post_init__(self):
        check_distribution(self.pairs, self.sde, 2)
        check_functions(
            self,
            network="(params, x, c_noise, cond) -> F",
            precondition="(sde, network) -> denoiser",
            metric="(a, b) -> [B]",
            weight="(sde, t, s) -> [B]",
        )
        if self.teacher is not None:
            check_map(self.teacher)
            check_process(self.teacher, self.sde)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = read(key, batch, cond_keys(self.network), context)
        t, s = times(self.pairs, self.sde, draw, 2)
        x_t = gaussian.perturb(self.sde, draw.x0, t, draw.eps)
        if self.teacher is None:
            x_s = gaussian.perturb(self.sde, draw.x0, s, draw.eps)  # Eq. 3
        else:
            check_process(self.teacher, self.sde)
            x_s = self.teacher(x_t, t, s, draw.cond)  # Eq. 2

        def f(params: Any, x: Array, t: Time) -> Array:
            return self.precondition(self.sde, bound(self, params, draw))(x, t, draw.cond)

        later = jnp.where(s > 0, s, t)  # a time at which the network can be evaluated
        goal = jnp.where(bcast(s > 0, x_s), f(target_params(self, params, context), x_s, later), x_s)
        distance = self.metric(f(params, x_t, t), jax.lax.stop_gradient(goal))
        return weighted(self.weight, self.sde, t, s) * distance, {"t": t, "s": s}

"""Terms by which a teacher's score moves a student's samples x: of ADD, and distribution matching (DMD).

With the sample noised again, x_t = alpha_t x + sigma_t eps, and no gradient through x_t or a teacher,

    (1) c(t) d(x, x_real(x_t, t)),   c(t) = alpha_t                         score distillation (Sauer et al. 2023, ADD)
    (2) 1/2 |x - sg(x - g)|^2,   g = w (x_fake(x_t, t) - x_real(x_t, t)),   w = 1/mean |x - x_real|       (DMD, DMD2)

x_real is the teacher's denoiser, x_fake one for the student's own samples. By Tweedie's formula g is w sigma^2/alpha
(score_fake - score_real) at x_t, so that for w = alpha^2/sigma^2 the mean slope of (2) is that of KL(q_t | p_t) between
the noised densities, whose minimum 0 is at q = p. (1) has no x_fake: it draws x to where the teacher denoises, not to
the data's distribution, and is meant beside a discriminator. x_fake is trained on samples by denoising,
`OnSamples(student, DSM)`, more often than the student: DMD2 (Yin et al. 2024) takes 5 steps to 1 (`train.alternate`).

All distances are means over an example's entries.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, flat_mean, fold, normal
from diffjax.conditions import cond_keys
from diffjax.losses import weightings
from diffjax.losses.distillation import metrics
from diffjax.losses.distillation.adversarial import opponent_of
from diffjax.losses.distillation.students import Student, check_single
from diffjax.losses.draws import Draw, read, times, weighted
from diffjax.losses.evaluate import check_loss, evaluate
from diffjax.losses.networks import bind, check_functions
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Cond, Context, Denoiser, Key, Loss, PyTree, Time, pytree, static


def alpha(sde: SDE, t: Time) -> Array:
    """c(t) = alpha_t: noisier samples count less."""
    return sde.alpha(t)


def nearness(sde: SDE, t: Time, x: Array, real: Array) -> Array:
    """1/mean |x - x_real| of each example: g has the size of the teacher's correction at every t (Yin et al. 2024)."""
    distance = metrics.absolute(x, real)
    return 1 / jnp.where(distance > 0, distance, 1)


def kl(sde: SDE, t: Time, x: Array, real: Array) -> Array:
    """alpha^2/sigma^2, 0 at sigma = 0: the slope is that of the Kullback-Leibler divergence of the noised densities."""
    return weightings.ratio(sde.alpha(t), sde.sigma(t)) ** 2


@pytree
class ScoreDistillation:
    """Eq. 1, a term of `GeneratorLoss`; the opponent is not used.

    Raises:
      ValueError: the teacher was made for another process, or the student makes pairs.
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n], see `times`
    teacher: Denoiser
    weight: Callable = static(default=alpha)  # (sde, t) -> c [B]
    metric: Callable = metrics.squared  # (a, b) -> [B]

    def __post_init__(self):
        _check(self, weight="(sde, t) -> [B]", metric="(a, b) -> [B]")

    def __call__(self, opponent: PyTree, key: Key, x: Array, cond: Cond, context: Context = NO_CONTEXT) -> Array:
        x_t, t = _noised(self, key, x, context)
        return weighted(self.weight, self.sde, t) * self.metric(x, jax.lax.stop_gradient(self.teacher(x_t, t, cond)))


@pytree
class DistributionMatching:
    """Eq. 2, a term of `GeneratorLoss`; its slope in x is g/D, its value |g|^2/(2 D) says little.

    `network` takes the opponent's parameters, the whole tree: where that holds a discriminator too, it picks its own.

    Raises:
      ValueError: the teacher was made for another process, or the student makes pairs.
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n], see `times`
    teacher: Denoiser
    network: Callable = static()  # (opponent, x, c_noise, cond) -> F, the fake score's
    precondition: Callable = static()  # (sde, network) -> Denoiser
    weight: Callable = static(default=nearness)  # (sde, t, x, x_real) -> w [B]

    def __post_init__(self):
        _check(
            self,
            network="(opponent, x, c_noise, cond) -> F",
            precondition="(sde, network) -> denoiser",
            weight="(sde, t, x, x_real) -> [B]",
        )

    def __call__(self, opponent: PyTree, key: Key, x: Array, cond: Cond, context: Context = NO_CONTEXT) -> Array:
        x_t, t = _noised(self, key, x, context)
        real = self.teacher(x_t, t, cond)
        fake = self.precondition(self.sde, bind(self.network, opponent, False, {}))(x_t, t, cond)
        still = jax.lax.stop_gradient(x)
        g = jax.lax.stop_gradient(bcast(weighted(self.weight, self.sde, t, still, real), x) * (fake - real))
        return 0.5 * flat_mean((x - (still - g)) ** 2)


@pytree
class OnSamples:
    """A loss on the student's samples in place of data: for `DSM` that of the fake score.

    `loss(params, key, batch)` is as that of the inner loss; the batch is the student's.

    Raises:
      ValueError: the context has no opponent, the student's parameters.
    """

    student: Student
    loss: Loss

    def __post_init__(self):
        check_loss(self.loss)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        student = opponent_of(self, context)
        draw = read(key, batch, cond_keys(self.student.network), context)
        samples = jax.lax.stop_gradient(self.student(student, draw))
        fields = {name: value for name, value in batch.items() if name != "noise"} if isinstance(batch, dict) else {}
        return evaluate(self.loss, params, fold(key, 3), fields | {"image": samples}, context)


def _check(term: Any, **functions: str) -> None:
    check_distribution(term.time_distribution, term.sde)
    check_process(term.teacher, term.sde)
    check_functions(term, teacher="(x, t, cond) -> x_0", **functions)


def _noised(term: Any, key: Key, x: Array, context: Context) -> tuple[Array, Array]:
    check_single(x, type(term).__name__)
    t = times(term.time_distribution, term.sde, Draw(x, x, None, fold(key, 0), {}, context), 1)
    return gaussian.perturb(term.sde, jax.lax.stop_gradient(x), t, normal(fold(key, 1), x)), t

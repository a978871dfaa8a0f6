"""Langevin dynamics at a fixed time, as a corrector (Song et al. 2021, Algorithms 4 and 5).

    x <- x + e score + sqrt(2 e) z,   e = 2 (snr |z| / |score|)^2

The convention is (e, sqrt(2 e)), and the norms are each example's own. The original code averages the norms over the
batch, so that a sample depends on its neighbours (`batch_mean=True`). It also multiplies e by the alpha_i = 1 - beta_i
of its 1000-step table, which ties the step to that table and is missing for sub-VP; it is within 2 % of 1, and 1 here.
"""

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, flat_norm, fold, normal, safe_sqrt
from diffjax.checks import check_count, check_number
from diffjax.samplers.arguments import check_scalars
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree, static


@pytree
class Langevin:
    """`n_steps` Langevin steps at time t, one evaluation each; the step to s is not taken.

    In many dimensions the noise then makes snr^2 of the variance too much: on N(0, sigma^2) the stationary variance is
    sigma^2 (1 + snr^2). In few dimensions (D < 64) single steps can be very large; choose a small snr. Elsewhere:
    Score-SDE's LangevinCorrector, the corrector of diffusers' ScoreSdeVeScheduler.

    Raises:
      ValueError: snr or n_steps is below 0.
    """

    snr: float = 0.16
    n_steps: int = static(default=1)
    batch_mean: bool = static(default=False)
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        check_number("snr", self.snr, 0)
        check_count("n_steps", self.n_steps, 0)

    def init(self, x: Array) -> State:
        check_scalars(self, "snr")
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        for i in range(self.n_steps):
            x = state.x
            z = normal(fold(key, i), x)
            score = gaussian.score_from_x0(sde, x, t, denoise(x, t, cond))
            e = bcast(2 * (self.snr * self._ratio(z, score)) ** 2, x)
            mean = x + e * score
            state = state._replace(x=mean + safe_sqrt(2 * e) * z, mean=mean)
        return state

    def _ratio(self, z: Array, score: Array) -> Array:
        """|z| / |score|, [B] or []; 0 where the score vanishes."""
        z_norm, score_norm = flat_norm(z), flat_norm(score)
        if self.batch_mean:
            z_norm, score_norm = z_norm.mean(), score_norm.mean()
        return jnp.where(score_norm == 0, 0, z_norm / jnp.where(score_norm == 0, 1, score_norm))

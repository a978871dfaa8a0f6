"""Ancestral sampling: draw x_s from q(x_s | x_t, x_0) at the predicted x_0 (Ho et al. 2020, Algorithm 2, Eq. 6-7).

    mean = alpha_s x_0 + (a sigma_s^2 / sigma_t) eps,   b^2 ("beta") and v = (sigma_s b / sigma_t)^2 ("beta tilde")
    log variance = c log b^2 + (1 - c) log v                                         (Nichol & Dhariwal 2021, Eq. 15)

c = 0 is DDPM's fixed-small variance (exact for one data point) and Score-SDE's ancestral sampler for VE, c = 1 is
fixed-large (exact for N(0, I) data) and Score-SDE's for VP.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, normal
from diffjax.checks import check_number
from diffjax.samplers.arguments import check_sizes
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class Ancestral:
    """DDPM's sampler: weak order 1, one evaluation a step; `large` is the c above, a number in [0, 1], or [B].

    Or it is a pytree function `(x, t, cond) -> c`, [B] or shaped like x: a learned variance, see
    `precondition.learned_range`. The papers' names are `Ancestral.fixed_small()`, which is the default,
    `Ancestral.fixed_large()` and `Ancestral.learned_range(large)`. Elsewhere: diffusers' DDPMScheduler.

    Raises:
      ValueError: c is a number outside [0, 1].
    """

    large: Any = 0.0
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        if not callable(self.large):
            check_number("large", self.large, 0, 1, why="0 is the fixed-small variance, 1 the fixed-large one")

    @classmethod
    def fixed_small(cls) -> "Ancestral":
        """The posterior's variance at a known x_0 (Ho et al. 2020: beta tilde)."""
        return cls(0.0)

    @classmethod
    def fixed_large(cls) -> "Ancestral":
        """The forward step's variance (Ho et al. 2020: beta)."""
        return cls(1.0)

    @classmethod
    def learned_range(cls, large: Callable) -> "Ancestral":
        """A network's variance between the two (Nichol & Dhariwal 2021): `large` of `precondition.learned_range`."""
        return cls(large)

    def init(self, x: Array) -> State:
        if not callable(self.large):
            check_sizes(self, x, "large")
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        mean = gaussian.posterior_mean(sde, x, t, s, x0)
        c: Any = self.large(x, t, cond) if callable(self.large) else self.large
        std = gaussian.transition(sde, t, s)[1] * _power(sde.sigma(s), sde.sigma(t), 1 - bcast(c, x))
        return state._replace(x=mean + std * normal(key, x), mean=mean)


def _power(sigma_s: Array, sigma_t: Array, c: Array) -> Array:
    """(sigma_s/sigma_t)^c, with finite slopes; into t = 0 it is 0 but for c = 0."""
    noisy = sigma_s > 0  # and then sigma_t is
    ratio = jnp.where(noisy, sigma_s, 1) / jnp.where(noisy, sigma_t, 1)
    return jnp.where(noisy, ratio**c, jnp.where(c == 0, 1.0, 0.0))

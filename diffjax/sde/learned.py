"""A variance-preserving process whose noise schedule is trained (Kingma et al. 2021, VDM, Section 3.2 and App. H).

    (1) gamma(t) = -logsnr(t),   alpha^2 = sigmoid(-gamma),   sigma^2 = sigmoid(gamma)
    (2) gamma(t) = gamma_0 + (gamma_1 - gamma_0) r(t),   r(t) = (h(t) - h(0)) / (h(1) - h(0))
    (3) h(t) = t + sum_k softplus(w_k) sigmoid(softplus(s_k) (t - c_k))

h is the paper's monotone network (positive weights, sigmoids in one hidden layer) with a first layer of one unit left
out, so r rises smoothly from 0 to 1 and the ends of gamma are parameters of their own: the bound depends on them alone,
and r decides only the variance of its estimate. sigma(0) is not 0: time 0 is the slightly noisy z_0 that is decoded.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import as_time
from diffjax.checks import check_count, check_number, known
from diffjax.typing import Time, pytree


@pytree
class Learned:
    """VDM's process with trained leaves; T = 1, t_min = 0. `Learned.create()` gives the start of training."""

    gamma_0: Array  # []
    gamma_1: Array  # []
    w: Array  # [K] heights, before softplus
    s: Array  # [K] steepnesses, before softplus
    c: Array  # [K] centres

    def __post_init__(self):
        for name in ("gamma_0", "gamma_1", "w", "s", "c"):
            check_number(name, getattr(self, name))
        if known((self.gamma_0, self.gamma_1)) and not np.all(np.asarray(self.gamma_0) < np.asarray(self.gamma_1)):
            raise ValueError(f"gamma must rise: gamma_0 < gamma_1, got {self.gamma_0} and {self.gamma_1}")

    @classmethod
    def create(cls, width: int = 32, gamma_0: float = -13.3, gamma_1: float = 5.0) -> "Learned":
        """Nearly linear gamma between the paper's ends, with `width` sigmoids spread over [0, 1].

        Raises:
          ValueError: gamma would not rise, or there is no sigmoid.
        """
        check_count("width", width)
        check_number("gamma_0", gamma_0)
        check_number("gamma_1", gamma_1)
        centres = (jnp.arange(width) + 0.5) / width
        heights, steepness = (jnp.full(width, jnp.log(jnp.expm1(value)), float) for value in (1 / width, 2.0 + width))
        return cls(jnp.asarray(gamma_0, float), jnp.asarray(gamma_1, float), heights, steepness, centres)

    @property
    def T(self) -> float:
        return 1.0

    @property
    def t_min(self) -> float:
        return 0.0

    def interior(self, t: Time) -> Array:
        """r(t), from 0 to 1, shaped like t (Eq. 2)."""
        start, end = self._h(0.0), self._h(1.0)
        return (self._h(t) - start) / (end - start)

    def gamma(self, t: Time) -> Array:
        """-logsnr(t), shaped like t."""
        return self.gamma_0 + (self.gamma_1 - self.gamma_0) * self.interior(t)

    def alpha(self, t: Time) -> Array:
        return jnp.exp(0.5 * jax.nn.log_sigmoid(-self.gamma(t)))

    def sigma(self, t: Time) -> Array:
        return jnp.exp(0.5 * jax.nn.log_sigmoid(self.gamma(t)))

    def _h(self, t: Time) -> Array:
        t = as_time(t)
        sigmoids = jax.nn.sigmoid(jax.nn.softplus(self.s) * (t[..., None] - self.c))
        return t + (jax.nn.softplus(self.w) * sigmoids).sum(axis=-1)

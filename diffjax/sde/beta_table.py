"""Discrete-time diffusion given by a table of betas (Ho et al. 2020), as an SDE on the times 0, 1, ..., N.

    alpha(n)^2 = abar_n = prod_{i <= n} (1 - beta_i),   sigma(n)^2 = 1 - abar_n,   abar_0 = 1

Time n is the state after n noising steps: the data are at 0, the paper's index n, a network's label n - 1. Between
the integers log abar is linear, so that the table serves every solver and integrator.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from diffjax.arrays import safe_sqrt
from diffjax.typing import Time, pytree


@pytree
class BetaTable:
    """A variance-preserving process from a table: `log_abar` is [N + 1] and begins with 0. T = N, and t_min = 0."""

    log_abar: Array

    @classmethod
    def from_betas(cls, betas: ArrayLike) -> "BetaTable":
        """The process of the given betas [N].

        Raises:
          ValueError: betas is not a vector, or a beta lies outside (0, 1).
        """
        betas = np.asarray(betas, np.float64)
        if betas.ndim != 1 or betas.size == 0 or not np.all((betas > 0) & (betas < 1)):
            span = f" from {betas.min()} to {betas.max()}" if betas.size else ""
            raise ValueError(f"betas must be a vector of numbers in (0, 1), got shape {betas.shape}{span}")
        return cls(jnp.asarray(np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])))

    @classmethod
    def linear(cls, n: int = 1000) -> "BetaTable":
        """DDPM's table: beta from 1e-4 to 0.02, scaled by 1000/n (Ho et al. 2020; Nichol & Dhariwal 2021)."""
        return cls.from_betas(np.linspace(1e-4, 0.02, n) * (1000 / n))

    @classmethod
    def cosine(cls, n: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> "BetaTable":
        """abar(t) = cos^2(((t/n + s)/(1 + s)) pi/2), normalised, betas clipped (Nichol & Dhariwal 2021, Eq. 17)."""
        abar = np.cos((np.arange(n + 1) / n + s) / (1 + s) * np.pi / 2) ** 2
        return cls.from_betas(np.minimum(1 - abar[1:] / abar[:-1], beta_max))

    @property
    def T(self) -> float:
        return float(self.log_abar.shape[-1] - 1)

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def betas(self) -> Array:
        """[N]"""
        return -jnp.expm1(jnp.diff(self.log_abar))

    def alpha(self, t: Time) -> Array:
        return jnp.exp(0.5 * self._interpolate(t))

    def sigma(self, t: Time) -> Array:
        return safe_sqrt(-jnp.expm1(self._interpolate(t)))

    def _interpolate(self, t: Time) -> Array:
        t = jnp.asarray(t, self.log_abar.dtype)
        i = jnp.clip(t.astype(int), 0, self.log_abar.shape[-1] - 2)
        left, right = self.log_abar[i], self.log_abar[i + 1]
        return left + (t - i) * (right - left)

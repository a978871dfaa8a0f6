"""Discrete-time diffusion given by a table of betas (Ho et al. 2020), as an SDE on the times 0, 1, ..., N.

    alpha(n)^2 = abar_n = prod_{i <= n} (1 - beta_i),   sigma(n)^2 = 1 - abar_n,   abar_0 = 1

Time n is the state after n noising steps: the data are at 0, the paper's index n, a network's label n - 1. Between
the integers log abar is linear, so that the table serves every solver and integrator.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from diffjax.arrays import as_time, safe_sqrt
from diffjax.checks import check_count, check_number, known
from diffjax.typing import Time, pytree


@pytree
class BetaTable:
    """A variance-preserving process from a table: `log_abar` is [N + 1] and begins with 0. T = N, and t_min = 0.

    Betas are no log abar: `BetaTable.from_betas(betas)` takes them.

    Raises:
      TypeError: log_abar is no array.
      ValueError: it does not begin with 0 and fall from there.
    """

    log_abar: Array

    def __post_init__(self):
        hint = "BetaTable holds log abar [N + 1]; the table of betas is BetaTable.from_betas(betas)"
        if not hasattr(self.log_abar, "shape"):
            check_number("log_abar", self.log_abar, why=hint)
            raise TypeError(f"log_abar must be an array, got {type(self.log_abar).__name__}: {hint}")
        if not known(self.log_abar):
            return
        table = np.asarray(self.log_abar)
        check_number("log_abar", table, why=hint)
        table = table.astype(np.float64)  # [N + 1], or [..., N + 1] of stacked processes
        if table.ndim == 0 or table.shape[-1] < 2 or np.any(table[..., 0] != 0):
            raise ValueError(f"log_abar must be a vector that begins with 0, got shape {table.shape}: {hint}")
        if np.any(np.diff(table) > 0) or np.any(table[..., -1] == 0):
            raise ValueError(f"log_abar must fall from 0, got {table.min()} to {table.max()}: {hint}")

    @classmethod
    def from_betas(cls, betas: ArrayLike) -> "BetaTable":
        """The process of the given betas [N].

        Raises:
          ValueError: betas is not a vector, or a beta lies outside (0, 1).
        """
        if any(isinstance(beta, str) for beta in np.ravel(np.asarray(betas, object))):
            raise ValueError(f"betas must be a vector of numbers in (0, 1), got {betas!r}")
        betas = np.asarray(betas, np.float64)
        if betas.ndim != 1 or betas.size == 0 or not np.all((betas > 0) & (betas < 1)):
            span = f" from {betas.min()} to {betas.max()}" if betas.size else ""
            raise ValueError(f"betas must be a vector of numbers in (0, 1), got shape {betas.shape}{span}")
        return cls(jnp.asarray(np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])))

    @classmethod
    def linear(cls, n: int = 1000) -> "BetaTable":
        """DDPM's table: beta from 1e-4 to 0.02, scaled by 1000/n (Ho et al. 2020; Nichol & Dhariwal 2021).

        Raises:
          ValueError: n is less than 21: betas would exceed 1.
        """
        check_count("n", n, 21, why="the last beta is 20 / n, and must be below 1")
        return cls.from_betas(np.linspace(1e-4, 0.02, n) * (1000 / n))

    @classmethod
    def cosine(cls, n: int = 1000, s: float = 0.008, beta_max: float = 0.999) -> "BetaTable":
        """abar(t) = cos^2(((t/n + s)/(1 + s)) pi/2), normalised, betas clipped (Nichol & Dhariwal 2021, Eq. 17)."""
        check_count("n", n)
        check_number("s", s, 0)
        check_number("beta_max", beta_max, 0, 1, above=True)
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
        table, t = jnp.asarray(self.log_abar), as_time(t)
        i = jnp.clip(t.astype(int), 0, table.shape[-1] - 2)
        left, right = table[i], table[i + 1]
        return left + (t - i) * (right - left)

"""Annealed Langevin dynamics (Song & Ermon 2019, Algorithm 1; 2020, NCSNv2).

At each level sigma_1 > ... > sigma_L of noise, T Langevin steps of size alpha_i = eps sigma_i^2 / sigma_L^2:

    (1) x <- x + alpha_i score + sqrt(2 alpha_i) z                 the 2020 paper, and the code of both
    (2) x <- x + alpha_i/2 score + sqrt(alpha_i) z                 `halved`, the 2019 paper: (1) with eps/2
    (3) x_0 = x + sigma_L^2 score(x, sigma_L)                      denoising at the end (2020)

For any process the chain is that of x/alpha at the level sigma/alpha. With sigma^2 score = alpha x_0 - x, and u =
eps/sigma_L^2 the step relative to the level, (1) becomes free of divisions, and (5) carries x to the next level:

    (4) x <- x + u (alpha x_0 - x) + sigma sqrt(2 u) z
    (5) x <- x alpha_s / alpha_t

Where alpha_t = 0 the level is infinite and x is noise: there (5) is x <- x sigma_s / sigma_t, noise of the next level.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import fold, normal
from diffjax.checks import check_count, check_number
from diffjax.samplers.arguments import check_scalars
from diffjax.samplers.drive import State
from diffjax.times.grids import geometric
from diffjax.typing import SDE, pytree, static


@pytree
class AnnealedLangevin:
    """`n_steps` Langevin steps at each time t of the grid but the last, one evaluation each.

    A step into t = 0 ends with (3), one evaluation more. The grid is `times.geometric(sde, L)`. To end as the 2019
    paper does, with noise, repeat sigma_L's time in place of 0 and take `KeepNoise(AnnealedLangevin(...))`. The default
    is NCSNv2's choice for CIFAR-10; `diffjax.samplers.annealing` finds your data's.

    Raises:
      ValueError: eps or sigma_L is not above 0, or n_steps below 1.
    """

    eps: float = 6.2e-6  # the step at level sigma_L
    sigma_L: float = 0.01  # the least sigma/alpha of the grid; only eps/sigma_L^2 counts
    n_steps: int = static(default=5)  # T of the papers
    halved: bool = static(default=False)
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        check_number("eps", self.eps, 0, above=True)
        check_number("sigma_L", self.sigma_L, 0, above=True)
        check_count("n_steps", self.n_steps)

    @classmethod
    def ncsn(cls) -> "AnnealedLangevin":
        """Song & Ermon 2019 for images in [0, 1]: on `geometric(EDM(T=1.0, t_min=0.01), 10)`.

        The convention is that of the published code, (1) with eps = 2e-5. The paper states the same eps with (2), which
        would be steps of half the size: `AnnealedLangevin(2e-5, 0.01, 100, halved=True)`.
        """
        return cls(2e-5, 0.01, 100)

    @classmethod
    def ncsnv2(cls) -> "AnnealedLangevin":
        """Song & Ermon 2020 for CIFAR-10 in [0, 1]: on `geometric(EDM(T=50.0, t_min=0.01), 232)`.

        For images in [-1, 1] double the levels, EDM(T=100.0, t_min=0.02); eps/sigma_L^2, and so the sampler, stays.
        """
        return cls(6.2e-6, 0.01, 5)

    def grid(self, sde: SDE, n: int) -> Array:
        """The grid that it takes by default: n levels in geometric progression, then 0."""
        return geometric(sde, n)

    def init(self, x: Array) -> State:
        check_scalars(self, "eps", "sigma_L")
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        alpha, sigma = sde.alpha(t), sde.sigma(t)  # t is a scalar
        u = self.eps / self.sigma_L**2 / (2 if self.halved else 1)

        def langevin(i, state):
            x = state.x
            mean = x + u * (alpha * denoise(x, t, cond) - x)
            noisy = mean + sigma * jnp.sqrt(2 * u) * normal(fold(key, i), x)
            return state._replace(x=noisy.astype(x.dtype), mean=mean.astype(x.dtype))

        def to_next_level(state):
            pure = alpha == 0
            ratio = jnp.where(pure, sde.sigma(s), sde.alpha(s)) / jnp.where(pure, sigma, alpha)
            return state._replace(x=(ratio * state.x).astype(x.dtype), mean=(ratio * state.mean).astype(x.dtype))

        def to_data(state):
            x0 = denoise(state.x, t, cond)
            return state._replace(x=x0, mean=x0)

        x = state.x
        state = jax.lax.fori_loop(0, self.n_steps, langevin, state)
        return jax.lax.cond(s > 0, to_next_level, to_data, state)

"""A run that ends as the solver leaves it.

A run to t_min or below returns the mean of the last step, which looks best; the law of the SDE at the last time has
that noise too. Runs that end above t_min keep it anyway.
"""

from typing import Any

from jax import Array

from diffjax.checks import check_has
from diffjax.typing import Sampler, pytree


@pytree
class KeepNoise:
    """A sampler whose last step keeps its noise.

    Raises:
      TypeError: `sampler` is no sampler.
    """

    sampler: Sampler

    def __post_init__(self):
        check_has(self.sampler, "a sampler, such as dj.DDIM(1.0),", "init", "step")

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        state = self.sampler.step(key, denoise, sde, state, t, s, cond)
        return state._replace(mean=state.x)

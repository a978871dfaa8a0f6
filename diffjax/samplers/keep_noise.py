"""A run that ends as the solver leaves it.

`sample` returns the mean of the last step, which looks best; the law of the SDE at the last time has that noise too.
"""

from typing import Any

from jax import Array

from diffjax.typing import Sampler, pytree


@pytree
class KeepNoise:
    """A sampler whose last step keeps its noise."""

    sampler: Sampler

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        state = self.sampler.step(key, denoise, sde, state, t, s, cond)
        return state._replace(mean=state.x)

"""A sampler whose run ends with the noise of its last step.

A run to t_min or below returns the mean of the last step, which looks best; under the SDE x has that noise at the last
time too. Runs that end above t_min keep it anyway.
"""

from typing import Any

from jax import Array

from diffjax.checks import check_has
from diffjax.typing import Sampler, pytree


@pytree
class KeepNoise:
    """`sampler`, of its order and with its evaluations, whose last step keeps its noise.

    Elsewhere: Score-SDE's samplers with `denoise=False`.

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

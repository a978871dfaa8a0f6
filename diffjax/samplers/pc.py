"""Predictor-corrector sampling (Song et al. 2021, Algorithm 1): the corrector at t, then the predictor from t to s."""

from typing import Any

from jax import Array

from diffjax.arrays import split
from diffjax.typing import Sampler, pytree


@pytree
class PC:
    """Two samplers in turn; the corrector is stepped from t to t."""

    predictor: Sampler
    corrector: Sampler

    def init(self, x: Array) -> Any:
        return self.predictor.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        k_corrector, k_predictor = split(key)
        state = self.corrector.step(k_corrector, denoise, sde, state, t, t, cond)
        return self.predictor.step(k_predictor, denoise, sde, state, t, s, cond)

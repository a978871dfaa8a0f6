"""Predictor-corrector sampling (Song et al. 2021, Algorithm 1): the corrector at t, then the predictor from t to s."""

from typing import Any

from jax import Array

from diffjax.arrays import split
from diffjax.checks import check_has
from diffjax.typing import Sampler, pytree


@pytree
class PC:
    """Two samplers in turn, with the evaluations of both; the corrector is stepped from t to t.

    The predictor should be a one-step method: a multistep one remembers evaluations that the corrector has left behind.

    Raises:
      TypeError: one of the two is no sampler.
    """

    predictor: Sampler
    corrector: Sampler

    def __post_init__(self):
        check_has(self.predictor, "a predictor, such as dj.ReverseDiffusion(),", "init", "step")
        check_has(self.corrector, "a corrector, such as dj.Langevin(),", "init", "step")

    def init(self, x: Array) -> Any:
        return self.predictor.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        k_corrector, k_predictor = split(key)
        state = self.corrector.step(k_corrector, denoise, sde, state, t, t, cond)
        return self.predictor.step(k_predictor, denoise, sde, state, t, s, cond)

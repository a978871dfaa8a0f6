"""Time travel: after a step from t to s the noise between them is added again, and the step repeated.

With `Known` this is RePaint (Lugmayr et al. 2022, Algorithm 1, jump length 1), with a guide the resampling of FreeDoM,
MPGD and DDNM: the unknown part gets the time to agree with what is known.
"""

from typing import Any

import jax
from jax import Array

from diffjax.arrays import bcast, fold, normal, split
from diffjax.sde import gaussian
from diffjax.typing import Sampler, pytree, static


@pytree
class TimeTravel:
    """`sampler` with every step taken `n` times where low <= t <= high, once elsewhere (n - 1 returns to t).

    Raises:
      ValueError: n is less than 1.
    """

    sampler: Sampler
    n: int = static(default=10)
    low: Any = 0.0
    high: Any = float("inf")

    def __post_init__(self):
        if self.n < 1:
            raise ValueError(f"a step is taken at least once, got n = {self.n}")

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        def again(i, state):
            k_step, k_back = split(fold(key, i))
            state = self.sampler.step(k_step, denoise, sde, state, t, s, cond)
            a, b = gaussian.transition(sde, t, s)
            back = bcast(a, state.x) * state.x + bcast(b, state.x) * normal(k_back, state.x)
            return state._replace(x=back.astype(state.x.dtype))

        inside = (self.low <= t) & (t <= self.high)
        state = jax.lax.cond(inside, lambda: jax.lax.fori_loop(1, self.n, again, state), lambda: state)
        return self.sampler.step(fold(key, 0), denoise, sde, state, t, s, cond)

"""The unadjusted Langevin algorithm at a fixed time t (Roberts & Tweedie 1996; Song & Ermon 2019, Eq. 4).

    (1) x <- x + h score(x, t) + sqrt(2 h) z           the convention of the code of NCSN and NCSNv2
    (2) x <- x + a/2 score(x, t) + sqrt(a) z           `halved`, the paper's of 2019; it is (1) with h = a/2

The law of x tends to p_t but for a bias of order h: on N(0, s2) to N(0, s2 / (1 - h/(2 s2))), and only if h < 2 s2.
"""

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree, static


@pytree
class ULA:
    """One Langevin step at time t for each interval of the grid, one evaluation each; the step to s is not taken.

    n steps at one time t are the grid `jnp.full(n + 1, t)`; t = 0 serves where sigma(0) > 0 only, as for VE. `sample`
    returns the last mean; `KeepNoise(ULA(h))` the chain's own last state, which has the stationary law.
    """

    step_size: float  # h of (1), or a of (2) if halved
    halved: bool = static(default=False)

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        h = self.step_size / 2 if self.halved else self.step_size
        mean = x + h * gaussian.score_from_x0(sde, x, t, denoise(x, t, cond))
        return state._replace(x=mean + jnp.sqrt(2 * h) * normal(key, x), mean=mean)

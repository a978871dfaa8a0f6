"""The unadjusted Langevin algorithm at a fixed time t (Roberts & Tweedie 1996; Song & Ermon 2019, Eq. 4).

    (1) x <- x + h score(x, t) + sqrt(2 h) z           the convention of the code of NCSN and NCSNv2
    (2) x <- x + a/2 score(x, t) + sqrt(a) z           `halved`, the paper's of 2019; it is (1) with h = a/2

The law of x tends to p_t but for a bias of order h: on N(0, s2) to N(0, s2 / (1 - h/(2 s2))), and only if h < 2 s2.
"""

from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal
from diffjax.checks import check_number
from diffjax.samplers.arguments import check_scalars
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree, static


@pytree
class ULA:
    """One Langevin step at time t for each interval of the grid, one evaluation each; the step to s is not taken.

    n steps at one time t are the grid `jnp.full(n + 1, t)`; t = 0 serves where sigma(0) > 0 only, as for VE. The
    chain's last state has the stationary law. `sample` returns it above t_min; at t_min or below it returns the last
    mean, and `KeepNoise(ULA(h))` the state.

    Raises:
      ValueError: the step is not above 0.
    """

    step_size: float  # h of (1), or a of (2) if halved
    halved: bool = static(default=False)
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        check_number("step_size", self.step_size, 0, above=True)

    def init(self, x: Array) -> State:
        check_scalars(self, "step_size")
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        h = self.step_size / 2 if self.halved else self.step_size
        mean = x + h * gaussian.score_from_x0(sde, x, t, denoise(x, t, cond))
        return state._replace(x=mean + jnp.sqrt(2 * h) * normal(key, x), mean=mean)

"""The reverse diffusion sampler: the forward step's own discretisation, reversed (Song et al. 2021, Eq. 46).

x_t = a x_s + b z forwards;   x_s = x_t - ((a - 1) x_t - b^2 score) + b z = (2 - a) x_t + b^2 score + b z backwards
"""

from jax import Array

from diffjax.arrays import normal
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.typing import pytree


@pytree
class ReverseDiffusion:
    """Weak order 1, one evaluation a step; a and b are the exact transition's, so they fit any grid."""

    def init(self, x: Array) -> State:
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        a, b = gaussian.transition(sde, t, s)
        mean = (2 - a) * x + b**2 * gaussian.score_from_x0(sde, x, t, denoise(x, t, cond))
        return state._replace(x=mean + b * normal(key, x), mean=mean)

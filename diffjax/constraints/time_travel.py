"""Time travel: where the grid climbs, noise is added instead of taken away, and the steps below are taken again.

    x_s = (alpha_s / alpha_t) x_t + b z   where s > t, with b^2 = sigma_s^2 - (alpha_s sigma_t / alpha_t)^2

The grid says where and how often: `times.repaint(ts, j, r)` goes back over j steps, r - 1 times. With `Known` this is
RePaint (Lugmayr et al. 2022, Algorithm 1 and Appendix B), with a guide the resampling of FreeDoM, MPGD and DDNM: the
unknown part gets the time to agree with what is known.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, normal
from diffjax.samplers.arguments import check_sampler
from diffjax.sde import gaussian
from diffjax.typing import Sampler, pytree


@pytree
class TimeTravel:
    """`sampler`, on grids that climb too; put it outside of every other constraint, which would act on climbs as well.

    A climb begins the sampler anew: what a multistep solver remembers belongs to another path, whose noise is gone. A
    run may be cut anywhere, also where the grid has climbed.
    """

    sampler: Sampler
    climbs: ClassVar[bool] = True  # the driver lets its grid rise
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        check_sampler(self.sampler)

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        def climb():
            a, b = gaussian.transition(sde, s, jnp.where(s > t, t, 0))  # under `vmap` both branches run
            return self.sampler.init(bcast(a, state.x) * state.x + bcast(b, state.x) * normal(key, state.x))

        def fall():
            return self.sampler.step(key, denoise, sde, state, t, s, cond)

        def typed(branch):  # the branches agree, whatever the grid's dtype
            return lambda: jax.tree.map(lambda new, old: new.astype(old.dtype), branch(), state)

        return jax.lax.cond(s > t, typed(climb), typed(fall))

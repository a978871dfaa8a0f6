"""Steps of a flow map: CTM's gamma-sampling (Kim et al. 2024), for every Gaussian process.

    x_u = X(x_t, t, u),   x_s = a x_u + b z,   sigma_u/alpha_u = sqrt(1 - gamma^2) sigma_s/alpha_s              (1)

with x_s | x_u ~ N(a x_u, b^2): the map jumps past s, and noise leads back to s. gamma = 0 follows the flow without
noise. gamma = 1 jumps to the data and forgets all else: multistep consistency sampling (Song et al. 2023, Algorithm 1),
the same as `Renoise(1.0)` on `flow_map.to(0.0)`. There a = alpha_s/alpha_u and b = gamma sigma_s.

Where the map ends at eps > 0 (the boundary of `precondition.consistency`), x_u is x_eps, and (1) has b^2 = sigma_s^2 -
(a sigma_eps)^2: the paper's sqrt(tau^2 - eps^2). `Renoise` takes what its denoiser returns for x_0, and adds sigma_s.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, normal
from diffjax.checks import check_number
from diffjax.samplers.arguments import check_scalars, check_sizes
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.times.grids import uniform_angle
from diffjax.typing import SDE, Time, pytree


@pytree
class Jump:
    """One evaluation a step, of a flow map `(x, t, s, cond) -> x_s` in the denoiser's place; as exact as the map is.

    `gamma` in [0, 1], or [B], scales the noise, `end` is the earliest time at which the map is evaluated: t_min for a
    map that ends there, and a step into 0 ends there too. A run to t_min or below returns the map's own result, without
    noise. Elsewhere: CTM's gamma-sampling; gamma = 1 is diffusers' CMStochasticIterativeScheduler.

    Raises:
      ValueError: gamma does not lie in [0, 1], or end is below 0.
    """

    gamma: Any = 0.0
    end: Time = 0.0
    invertible: ClassVar[bool] = False  # a flow map goes from noise to data

    def __post_init__(self):
        check_number("gamma", self.gamma, 0, 1)
        check_number("end", self.end, 0)

    def grid(self, sde: SDE, n: int) -> Array:
        """Its grid by default: equal steps in the angle atan(sigma/alpha), which are equal ones in t on `Cosine`."""
        return uniform_angle(sde, n)

    def init(self, x: Array) -> State:
        check_sizes(self, x, "gamma")
        check_scalars(self, "end")
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        u = self._past(sde, s)
        a, b = (bcast(c, x) for c in gaussian.transition(sde, s, u))
        mean = a * denoise(x, t, u, cond)
        return state._replace(x=mean + b * normal(key, x), mean=mean)

    def _past(self, sde, s: Time) -> Array:
        """u of Eq. 1; exactly s where gamma is 0, exactly `end` where it is 1."""
        s, kept = jnp.asarray(s), (1 - self.gamma) * (1 + self.gamma)
        safe = jnp.where((s > 0) & (kept > 0), s, sde.T)  # logsnr is infinite at 0
        level = gaussian.logsnr(sde, safe) - jnp.log(jnp.where(kept > 0, kept, 1.0))
        u = jnp.where((s > 0) & (kept > 0), gaussian.time_of_logsnr(sde, level), 0.0 * s)
        return jnp.maximum(jnp.where(kept == 1, s, u), self.end).astype(s.dtype)

"""MeanFlow: the average velocity u(x, t, s) of the flow from t to s, without a teacher (Geng et al. 2025).

From (t - s) u = the integral of v from s to t, differentiated along the flow:

    (1) u = v - (t - s) du/dt,   du/dt = grad u v + d/dt u, one jvp with the tangent (v, 1) on (x, t)
    (2) MeanFlow:           |u - sg(v - (t - s) du/dt)|^2,       v = dx_t/dt = alpha' x_0 + sigma' eps of the pair
    (3) improved MeanFlow:  |u + (t - s) sg(du/dt) - v|^2,       the tangent being the student's u(x, t, t)
    (4) |error|^2 / sg(|error|^2 + c)^p                          adaptive weight

At s = t both are flow matching. Without a weight the minimum over data and noise is the average velocity, since (1) is
linear in v and E[v | x_t] is the flow's velocity. In (3) (Geng et al. 2025b) the target v does not depend on the
network. The variance of the pair's v stays in the value of both losses: it does not fall to 0. With a teacher v is its
velocity, and the minimum 0.

The weight (4) with p = 1, c = 0.01 is the paper's for ImageNet; p = 0 is none. Its gradient is that of E log(|error|^2
+ c) for p = 1, which is least where errors are often small rather than small on average: u is drawn from the mean of v
towards its modes. In thousands of dimensions |error|^2 hardly varies and this is no matter; in few take p = 0.

Guidance is distilled into u by a guided v in the place of v, scale v + (1 - scale) u(x, t, t | null), the paper's with
kappa = 0.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, flat_sum, like
from diffjax.checks import check_number
from diffjax.conditions import cond_keys
from diffjax.flow_maps import Both, Levels
from diffjax.losses.draws import bound, read, times
from diffjax.losses.networks import check_functions
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Cond, Context, Denoiser, Key, PyTree, pytree, static


@pytree
class MeanFlow:
    """`loss(params, key, batch) -> ([B], {"t", "s", "error": [B]})`, Eq. 4; "error" is |error|^2/D without the weight.

    The map is `flow_maps.average_velocity(sde, network, levels)`. A batch is as in `DSM`.

    Raises:
      ValueError: the teacher was made for another process.
    """

    sde: SDE
    pairs: Callable  # (key, n, step) -> (t [n], s [n]), `times.Sorted(law, 0.75)`
    network: Callable = static()  # (params, x, (c_t, c_s), cond, *, train, rngs) -> u
    levels: Levels = Both()  # the levels of t and s for the network
    improved: bool = static(default=False)  # Eq. 3
    teacher: Denoiser | None = None
    scale: Any = None  # of guidance, as in `guidance.cfg`; None: no guidance
    null: Cond = None  # the null condition, where there is guidance
    power: Any = 1.0  # p of Eq. 4
    c: Any = 0.01
    train: bool = static(default=True)

    def __post_init__(self):
        check_distribution(self.pairs, self.sde, 2)
        check_functions(self, network="(params, x, (c_t, c_s), cond) -> u", levels="(sde, t, s) -> (c_t, c_s)")
        check_number("c", self.c, 0)
        check_number("power", self.power)
        if self.teacher is not None:
            check_process(self.teacher, self.sde)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = read(key, batch, cond_keys(self.network), context)
        t, s = times(self.pairs, self.sde, draw, 2)
        x = gaussian.perturb(self.sde, draw.x0, t, draw.eps)

        def u(params: Any, x: Array, t: Array, s: Array, cond: Cond) -> Array:
            return like(x, bound(self, params, draw)(x, self.levels(self.sde, t, s), cond))

        frozen = jax.lax.stop_gradient(params)
        v = self._velocity(draw, x, t)
        if self.scale is not None:
            v = self.scale * v + (1 - self.scale) * u(frozen, x, t, t, self.null)
        along = u(frozen, x, t, t, draw.cond) if self.improved else v
        tangent = along.astype(x.dtype), jnp.ones_like(t)
        slope = jax.jvp(lambda x, t: u(frozen, x, t, s, draw.cond), (x, t), tangent)[1]
        goal = jax.lax.stop_gradient(v - bcast(t - s, x) * slope)  # Eq. 2 and 3 have one value and gradient, given v
        square = flat_sum((u(params, x, t, s, draw.cond) - goal) ** 2)
        size = jax.lax.stop_gradient(square + self.c)
        weight = jnp.where(size > 0, size, 1) ** -self.power  # with c = 0 an error of 0 weighs 1, and stays 0
        return weight * square, {"t": t, "s": s, "error": square / x[0].size}

    def _velocity(self, draw: Any, x: Array, t: Array) -> Array:
        if self.teacher is not None:
            check_process(self.teacher, self.sde)
            return gaussian.velocity_from_x0(self.sde, x, t, self.teacher(x, t, draw.cond))
        _, (d_alpha, d_sigma) = gaussian.rates(self.sde, t)
        return bcast(d_alpha, x) * draw.x0 + bcast(d_sigma, x) * draw.eps

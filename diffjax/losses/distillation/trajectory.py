"""Consistency trajectory models: a student that jumps from any t to any s (Kim et al. 2024, CTM).

    (1) x_u = teacher(x_t, t, u),   t > u >= s                                      several steps of its solver
    (2) estimate = G_sg(G(x_t, t, s), s, 0),   goal = G_sg(G_sg(x_u, u, s), s, 0)
    (3) w d(estimate, goal)                                                         soft consistency
    (4) |x_0 - g(x_t, t, t)|^2                                                      denoising score matching

Both ends of (2) are compared at time 0, where distances of images mean something, carried there by G_sg: the target,
an average of the student's parameters or those themselves, stopped.
u = t would be no condition, s = u is plain distillation, and u just below t with s = 0 is consistency distillation.
(4) is `DSM` on the map's diagonal. CTM is their sum, beside an adversarial loss of one-step samples later in training,
each scaled to (3) by the gradients of the last layer (`Balanced`):

    diagonal = Partial(flow_maps.diagonal_of, flow_maps.ctm)
    soft = Trajectory(sde, times.Stops(ts), teacher, net.apply, flow_maps.ctm)
    student = Student(sde, distribution, net.apply, Partial(flow_maps.denoiser_of, flow_maps.ctm))
    terms = soft, DSM(sde, distribution, net.apply, diagonal), GeneratorLoss(student, (adversarial,), (1.0,))
    Balanced(terms, last_layer, (0.01, 10.0))

The paper limits the weight of (4) to [0, 1e4] and that of the adversarial loss to [0.01, 10]; `Balanced` has one pair
of limits. The authors' code draws half of (4)'s times from a log-normal and half from a uniform distribution, and may
let the adversarial loss begin later; here it begins at once, and there is one distribution.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast
from diffjax.conditions import cond_keys
from diffjax.flow_maps import check_map
from diffjax.losses.distillation import metrics
from diffjax.losses.distillation.consistency import even
from diffjax.losses.draws import bound, read, target_params, times, weighted
from diffjax.losses.networks import check_functions
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Context, FlowMap, Key, PyTree, Time, pytree, static


@pytree
class Trajectory:
    """Eq. 3; `loss(params, key, batch) -> ([B], {"t": [B], "s": [B]})`; a batch is as in `DSM`.

    Raises:
      ValueError: the teacher was made for another process, or the target network or the training step is missing in
        the context.
    """

    sde: SDE
    stops: Callable  # (key, n, step) -> (t [n], u [n], s [n]), `times.Stops`
    teacher: FlowMap  # `flow_maps.along(sde, denoise, ts)`, say
    network: Callable = static()  # (params, x, (c_t, c_s), cond, *, train, rngs) -> F
    flow_map: Callable = static()  # (sde, network) -> FlowMap, see `flow_maps`
    metric: Callable = metrics.squared  # (a, b) -> [B]
    weight: Callable = static(default=even)  # (sde, t, s) -> [B]
    end: Time = 0.0  # where the two are compared
    target_ema: int | None = static(default=None)  # the EMA that is the target network; None: the student itself
    train: bool = static(default=True)

    def __post_init__(self):
        check_distribution(self.stops, self.sde, 3)
        check_map(self.teacher)
        check_process(self.teacher, self.sde)
        check_functions(
            self,
            network="(params, x, (c_t, c_s), cond) -> F",
            flow_map="(sde, network) -> flow map",
            metric="(a, b) -> [B]",
            weight="(sde, t, s) -> [B]",
        )

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = read(key, batch, cond_keys(self.network), context)
        t, u, s = times(self.stops, self.sde, draw, 3)
        x_t = gaussian.perturb(self.sde, draw.x0, t, draw.eps)
        x_u = jax.lax.stop_gradient(self.teacher(x_t, t, u, draw.cond))

        def G(params: PyTree, x: Array, t: Time, s: Time) -> Array:
            return self.flow_map(self.sde, bound(self, params, draw))(x, t, s, draw.cond)

        def at_end(x: Array) -> Array:
            go = s > self.end  # from `end` itself there is nowhere to go
            carried = G(still, x, jnp.where(go, s, t), jnp.full_like(s, self.end))
            return jnp.where(bcast(go, x), carried, x)

        still = target_params(self, params, context)
        arrived = G(still, x_u, jnp.where(u > s, u, t), s)
        goal = at_end(jnp.where(bcast(u > s, x_u), arrived, x_u))
        distance = self.metric(at_end(G(params, x_t, t, s)), jax.lax.stop_gradient(goal))
        return weighted(self.weight, self.sde, t, s) * distance, {"t": t, "s": s}

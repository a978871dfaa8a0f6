"""Reflow: flow matching on the teacher's own pairs of noise and data (Liu et al. 2023, rectified flow).

    loss(x_0 = X(sigma_T eps, T, 0), eps),   X the teacher's flow

The pairs cross less than those of independent data and noise, so the student's paths are straighter, and it needs
fewer steps; a straight flow needs one. `samplers.reflow_pairs` makes such pairs once, where X is dear.
"""

import jax
import jax.numpy as jnp

from diffjax.conditions import cond_keys
from diffjax.flow_maps import check_map
from diffjax.losses.draws import read
from diffjax.losses.evaluate import check_loss, evaluate
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.typing import NO_CONTEXT, SDE, Context, FlowMap, Key, Loss, PyTree, pytree


@pytree
class Reflow:
    """`loss` on fresh pairs; `reflow(params, key, batch)` is as the inner loss.

    The fields of a batch are used as by `DSM`; of its images the shape alone. The teacher has the condition that the
    inner loss's network takes.

    Raises:
      ValueError: the teacher was made for another process.
    """

    sde: SDE
    teacher: FlowMap  # `flow_maps.along(sde, denoise, ts)`, say
    loss: Loss  # of a dict with "image" and "noise": `DSM` with `weightings.velocity`

    def __post_init__(self):
        check_map(self.teacher)
        check_process(self.teacher, self.sde)
        check_loss(self.loss)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        draw = read(key, batch, cond_keys(getattr(self.loss, "network", None)), context)
        start = gaussian.perturb(self.sde, jnp.zeros_like(draw.x0), self.sde.T, draw.eps)
        n = len(draw.x0)
        ends = self.teacher(start, jnp.full(n, self.sde.T), jnp.zeros(n), draw.cond)
        fields = batch if isinstance(batch, dict) else {}
        return evaluate(
            self.loss, params, key, fields | {"image": jax.lax.stop_gradient(ends), "noise": draw.eps}, context
        )

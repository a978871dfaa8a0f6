"""Reflow: flow matching on the teacher's own pairs of noise and data (Liu et al. 2023, rectified flow).

    loss(x_0 = X(sigma_T eps, T, 0), eps),   X the teacher's flow

The pairs cross less than those of independent data and noise, so the student's paths are straighter, and it needs
fewer steps; a straight flow needs one. `samplers.reflow_pairs` makes such pairs once, where X is dear.
"""

import jax
import jax.numpy as jnp

from diffjax.flow_maps import check_map
from diffjax.losses.draws import read
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.typing import SDE, FlowMap, Key, Loss, PyTree, pytree


@pytree
class Reflow:
    """`loss` on fresh pairs; `reflow(params, key, batch)` is as the inner loss.

    "noise" and "cond" of a batch are used as in `DSM`; of its images the shape alone.

    Raises:
      ValueError: the teacher was made for another process.
    """

    sde: SDE
    teacher: FlowMap  # `flow_maps.along(sde, denoise, ts)`, say
    loss: Loss  # of a dict with "image" and "noise": `DSM` with `weightings.velocity`

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[jax.Array, dict[str, jax.Array]]:
        check_map(self.teacher)
        check_process(self.teacher, self.sde)
        draw = read(key, batch)
        start = gaussian.perturb(self.sde, jnp.zeros_like(draw.x0), self.sde.T, draw.eps)
        n = len(draw.x0)
        ends = self.teacher(start, jnp.full(n, self.sde.T), jnp.zeros(n), draw.cond)
        pairs = {"image": jax.lax.stop_gradient(ends), "noise": draw.eps}
        return self.loss(params, key, pairs if draw.cond is None else pairs | {"cond": draw.cond})

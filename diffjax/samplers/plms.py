"""PLMS: the pseudo linear multistep method, Stable Diffusion's first sampler (Liu et al. 2022, Eq. 13; F-PNDM).

    (1) e = (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24,   then DDIM's step with the noise e

with the last four evaluations of eps, e_0 the newest, and (3, -1)/2, (23, -16, 5)/12 while there are fewer. The very
first step has two evaluations and takes their mean: at t, and at the end s of DDIM's step; the latter is not kept, so
that n steps cost n + 1 evaluations. The numbers are those of equal steps, and are used on every grid, as the codes do;
`PNDM` weighs each evaluation by its own time, and begins with DDIM's step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.sde import gaussian
from diffjax.typing import pytree

# row k: the weights where there are k + 1 evaluations, newest first
WEIGHTS = ((1, 0, 0, 0), (3 / 2, -1 / 2, 0, 0), (23 / 12, -16 / 12, 5 / 12, 0), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


class Evaluations(NamedTuple):
    """x, and the last four evaluations of eps, newest first."""

    x: Array  # [B, ...]
    mean: Array
    eps: Array  # [4, B, ...]
    count: Array  # [] how many there were


@pytree
class PLMS:
    """Second order on grids of equal steps, deterministic; one evaluation a step, and one more in the first.

    Elsewhere: diffusers' PNDMScheduler with `skip_prk_steps`, CompVis' PLMSSampler.
    """

    def init(self, x: Array) -> Evaluations:
        return Evaluations(x, x, jnp.zeros((4, *x.shape), x.dtype), jnp.zeros((), jnp.int32))

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        e = gaussian.eps_from_x0(sde, x, t, x0).astype(x.dtype)
        eps = jnp.concatenate([e[None], state.eps[:-1]])
        ddim = gaussian.exponential_step(sde, x, t, s, x0)

        def first():
            u = jnp.where(s > 0, s, t)  # at the data there is no noise to be seen
            there = jnp.where(s > 0, ddim, x)
            return (e + gaussian.eps_from_x0(sde, there, u, denoise(there, u, cond)).astype(x.dtype)) / 2

        def later():
            w = jnp.asarray(WEIGHTS, x.dtype)[jnp.minimum(state.count, 3)]
            return jnp.tensordot(w, eps, 1)

        mean = jax.lax.cond(state.count == 0, first, later)
        stepped = gaussian.perturb(sde, gaussian.x0_from_eps(sde, x, t, mean), s, mean)
        return Evaluations(stepped, stepped, eps, state.count + 1)

"""Diffusion posterior sampling (DPS, Chung et al. 2023, Algorithm 1).

    x_s <- (the sampler's step from x_t) - zeta grad_{x_t} |y - A(x_0(x_t))|

The norm is each example's own, so that the step does not depend on the batch (the official code takes one norm of the
whole batch). The gradient of the plain norm is the paper's step zeta' / |y - A x_0| on the gradient of the square, with
zeta' = 2 zeta; `Misfit(measurement, squared=True)` has a constant zeta on the square. The paper samples with 1000 steps
of `Ancestral`, and zeta from 0.3 to 1, for sigma = 0.05 on [-1, 1]. It is a step of descent per sampler step and not an
approximation of the posterior's law: what it converges to depends on zeta and on the number of steps.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array

from diffjax.arrays import bcast, scheduled
from diffjax.checks import check_has, check_number
from diffjax.constraints.arguments import check_denoises
from diffjax.constraints.remember import moved, remember
from diffjax.corrections.gradient import per_example
from diffjax.samplers.arguments import check_sizes
from diffjax.typing import Sampler, check_takes, pytree


@pytree
class DPS:
    """`sampler` with DPS's gradient, one forward and one backward pass a step (for a sampler of one evaluation).

    `loss` is `(x_0, cond) -> [B]`, `operators.Misfit(measurement)` for a measurement; `zeta` a number, [B], or a
    function of t. zeta = 0 is the sampler alone. Where the loss is flat, as Misfit is at its minimum 0, nothing moves.

    Raises:
      TypeError: `sampler` is no sampler of a denoiser, `loss` no function, or zeta no number.
      ValueError: `loss` does not take (x_0, cond), or zeta is negative.
    """

    sampler: Sampler
    loss: Callable
    zeta: Any = 0.3

    def __post_init__(self):
        check_denoises(self.sampler, "DPS")
        check_has(self.loss, "a loss (x_0, cond) -> [B], such as operators.Misfit(measurement),", "__call__")
        check_takes(self.loss, "the loss", "x_0", "cond")
        if not callable(self.zeta):
            check_number("zeta", self.zeta, 0)

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        if not callable(self.zeta):
            check_sizes(self, x, "zeta")

        def objective(x):
            x0 = denoise(x, t, cond)
            return per_example(self.loss(x0, cond), x).sum(), x0

        grad, x0 = jax.grad(objective, has_aux=True)(x)
        state = self.sampler.step(key, remember(denoise, x, t, x0), sde, state, t, s, cond)
        return moved(state, -bcast(scheduled(self.zeta, t), x) * grad)

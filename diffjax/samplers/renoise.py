"""Steps that renew a share of the noise: x_s = alpha_s x_0 + sigma_s (sqrt(1 - eta^2) eps + eta z).

eta = 0 is DDIM, eta = 1 takes fresh noise at every step, as consistency models do. Unlike DDIM's, this eta does not
fade as steps become small: with many steps and eta > 0 all memory of x is lost but for x_0. It is the step of DDNM
(Wang et al. 2023, eta = 0.85), of DiffPIR (Zhu et al. 2023, zeta = eta^2) and of MPGD's face experiments.
"""

from typing import Any

import numpy as np
from jax import Array

from diffjax.arrays import bcast, normal, safe_sqrt
from diffjax.checks import check_number, known
from diffjax.samplers.arguments import check_sizes, draws
from diffjax.samplers.drive import State
from diffjax.sde import gaussian
from diffjax.times.grids import uniform_angle, uniform_logsnr
from diffjax.typing import SDE, pytree


@pytree
class Renoise:
    """One evaluation a step; made for posterior sampling, where a measurement keeps what the noise forgets.

    As a sampler of the prior it is biased at every number of steps but for eta = 0 (DDIM, first order). Elsewhere:
    eta = 1 is diffusers' LCMScheduler.

    Raises:
      ValueError: eta, a number or [B], does not lie in [0, 1].
    """

    eta: Any = 0.85

    def __post_init__(self):
        check_number("eta", self.eta, 0, 1)

    @property
    def invertible(self) -> bool:
        return not draws(self.eta)

    def grid(self, sde: SDE, n: int) -> Array:
        """Its grid by default: that of `Jump` for eta = 1, multistep consistency sampling; else equal in logsnr."""
        consistency = known(self.eta) and bool(np.all(np.asarray(self.eta) == 1))
        return (uniform_angle if consistency else uniform_logsnr)(sde, n)

    def init(self, x: Array) -> State:
        check_sizes(self, x, "eta")
        return State.start(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        (alpha, sigma), eta = gaussian.curves(sde, s, x), bcast(self.eta, x)
        mean = alpha * x0 + sigma * safe_sqrt((1 - eta) * (1 + eta)) * gaussian.eps_from_x0(sde, x, t, x0)
        return state._replace(x=mean + sigma * eta * normal(key, x), mean=mean)

"""A correction of the clean estimate that leaves the noise estimate as it was (MPGD, DDNM).

    x_s = alpha_s x_0' + (noise terms with the eps of the uncorrected x_0) = (the sampler's step) + alpha_s (x_0' - x_0)

`KeepEps(DDIM(eta), Gradient(Misfit(m), scale))` is MPGD (He et al. 2024, Algorithm 1),
`ddnm(m)` is the range-null space method (Wang et al. 2023). The network is not differentiated.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import Array

from diffjax.checks import check_has, check_number, known
from diffjax.constraints.arguments import check_denoises, check_measurement
from diffjax.constraints.remember import moved, remember
from diffjax.corrections import Project
from diffjax.operators import Measurement
from diffjax.samplers.renoise import Renoise
from diffjax.sde import gaussian
from diffjax.typing import Sampler, check_takes, pytree


@pytree
class KeepEps:
    """`sampler` with `correction`, at the time s that the step leads to; one evaluation of the network.

    Raises:
      TypeError: `sampler` is no sampler of a denoiser, or `correction` no function.
      ValueError: `correction` does not take (x_0, s, cond).
    """

    sampler: Sampler
    correction: Callable  # (x_0, s, cond) -> x_0

    def __post_init__(self):
        check_denoises(self.sampler, "KeepEps")
        check_has(self.correction, "a correction (x_0, s, cond) -> x_0, such as corrections.Project(m),", "__call__")
        check_takes(self.correction, "the correction", "x_0", "s", "cond")

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        x = state.x
        x0 = denoise(x, t, cond)
        state = self.sampler.step(key, remember(denoise, x, t, x0), sde, state, t, s, cond)
        alpha, _ = gaussian.curves(sde, s, x)
        return moved(state, alpha * (self.correction(x0, s, cond) - x0))


def ddnm(measurement: Measurement, eta: Any = 0.85) -> KeepEps:
    """DDNM (Wang et al. 2023, Algorithm 1): for measurements without noise. With noise `DDRM`, which is DDNM+.

    A UserWarning says where there is noise, of which it makes no use.

    Raises:
      TypeError: the operator has no decomposition.
      ValueError: eta does not lie in [0, 1].
    """
    check_measurement(measurement, "DDNM")
    check_number("eta", eta, 0, 1)
    if known(measurement.noise_std) and np.any(np.asarray(measurement.noise_std) > 0):
        std = f"noise_std = {measurement.noise_std:g}"
        warnings.warn(f"DDNM does not use {std} and fits the noise: take DDRM, which is DDNM+", stacklevel=2)
    return KeepEps(Renoise(eta), Project(measurement))

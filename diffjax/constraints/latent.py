"""A latent for each step: the network is conditioned on z ~ N(0, I) besides x_t, in cond["latent"].

So denoising diffusion GANs are sampled (Xiao et al. 2022): with few steps x_0 given x_t is far from Gaussian, and z
chooses a point of it. `Latent(Ancestral(), n)` is their sampler, and `losses.distillation.PairStudent` trains them.
"""

from typing import Any, ClassVar

import jax.numpy as jnp

from diffjax.arrays import normal, split
from diffjax.checks import check_count
from diffjax.samplers.arguments import check_sampler
from diffjax.typing import Sampler, pytree, static


@pytree
class Latent:
    """`sampler`, with a fresh z [B, n] at every step; one that evaluates twice uses it twice.

    Raises:
      TypeError: `sampler` is no sampler, or n no integer.
      ValueError: n is below 1, or the condition is not a dict.
    """

    sampler: Sampler
    n: int = static()
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        check_sampler(self.sampler)
        check_count("n", self.n)

    def init(self, x: Any) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        if not isinstance(cond, dict | None):
            raise ValueError(f'z is cond["latent"], so cond must be None or a dict; got {type(cond).__name__}')
        k_latent, k_step = split(key)
        z = normal(k_latent, jnp.zeros((len(state.x), self.n), state.x.dtype))
        return self.sampler.step(k_step, denoise, sde, state, t, s, (cond or {}) | {"latent": z})

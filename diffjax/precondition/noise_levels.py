"""Noise levels in a network's units: `c_noise(sde, t)`, what a network is conditioned on of the time.

Logarithms are bounded by the noise levels of the floats next to 0 and to T, |log(sigma/alpha)| <= 24 log 2 = 16.6: a
network gets a finite number where alpha or sigma is 0.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import safe_log
from diffjax.checks import check_count, check_number
from diffjax.precondition.process import check_sde
from diffjax.sde import gaussian
from diffjax.typing import SDE, Time, as_partial, pytree

CNoise = Callable[[SDE, Time], Array]
BOUND = 24 * np.log(2)  # float32 has 24 bits: 1 - 2^-24 is the float next to 1


def time(sde: SDE, t: Time) -> Array:
    """t itself."""
    return jnp.asarray(t)


def scaled_time(sde: SDE, t: Time) -> Array:
    """999 t / T: the indices 0 ... 999 that DDPM's position embedding expects (Song et al. 2021)."""
    return 999 * jnp.asarray(t) / sde.T


def scaled_by(factor: float) -> CNoise:
    """factor t/T: 20, say, where a loss differentiates the network in time, as those of flow maps do.

    At 999 the fastest features of `nn.embed.Sinusoidal` turn 159 times between data and noise.
    """
    check_number("factor", factor)
    return Partial(_scaled_by, factor)


def time_index(sde: SDE, t: Time) -> Array:
    """t - 1, and 0 below t = 1: the index of a discrete-time network at a `BetaTable`'s time t (Ho et al. 2020)."""
    return jnp.maximum(jnp.asarray(t) - 1, 0)


def log_sigma(sde: SDE, t: Time) -> Array:
    """log sigma(t), at least -16.6: what NCSN++ embeds by Fourier features (Song et al. 2021)."""
    return jnp.maximum(safe_log(sde.sigma(t)), -BOUND)


def quarter_log_sigma(sde: SDE, t: Time) -> Array:
    """log(sigma/alpha) / 4 (Karras et al. 2022, Table 1), within [-4.2, 4.2]."""
    return -jnp.clip(gaussian.logsnr(sde, t), -2 * BOUND, 2 * BOUND) / 8


def clock(own: SDE, c_noise: CNoise = scaled_time) -> CNoise:
    """The noise level of a network of the process `own` in any other process: c_noise at own's time of the same r.

    Where r = sigma/alpha is beyond that of own's T it is c_noise at T. With `from_v(Cosine(), network, clock(VP()))` a
    VP network runs in the cosine clock as it is; where scales differ too, see `gaussian.rescale`.
    """
    check_sde(own)
    return Clock(own, as_partial(c_noise))


@pytree
class Clock:
    """`clock(own, c_noise)`."""

    own: SDE
    c_noise: CNoise

    def __call__(self, sde: SDE, t: Time) -> Array:
        return self.c_noise(self.own, gaussian.time_of_logsnr(self.own, gaussian.logsnr(sde, t)))


def level(L: int) -> CNoise:
    """The nearest of NCSN's L noise levels, round((1 - t/T)(L - 1)): 0 the noisiest, on a geometric grid if sde is VE.

    Level i has sigma_max (sigma_min / sigma_max)^(i / (L - 1)) (Song & Ermon 2019).

    Raises:
      TypeError: L is no integer.
      ValueError: L is less than 1.
    """
    check_count("the number of noise levels", L)
    return Partial(_level, L)


def noise_level(c_noise: CNoise, sde: SDE, t: Time, x: Array) -> Array:
    """c_noise(sde, t) as a network gets it: [B], one for each example of x, in float32 or float64."""
    return per_example(c_noise(sde, t), x)


def per_example(c: Any, x: Array) -> Array:
    """A noise level [] or [B] as [B], in float32 or float64.

    Raises:
      ValueError: it has another shape.
    """
    c = jnp.asarray(c)
    if c.shape not in ((), x.shape[:1]):
        raise ValueError(f"c_noise must give one noise level for each of {len(x)} examples, got shape {c.shape}")
    return jnp.broadcast_to(c.astype(jnp.promote_types(c.dtype, jnp.float32)), x.shape[:1])


def _clock(own, c_noise, sde: SDE, t: Time) -> Array:
    return Clock(own, c_noise)(sde, t)


def _scaled_by(factor, sde: SDE, t: Time) -> Array:
    return factor * jnp.asarray(t) / sde.T


def _level(L, sde, t):
    return jnp.round((1 - jnp.asarray(t) / sde.T) * (L - 1))

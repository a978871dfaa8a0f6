"""Denoisers that change with time: guidance in an interval, a condition swapped on the way."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import bcast
from diffjax.checks import check_ordered
from diffjax.precondition import check_process, process_of
from diffjax.typing import Cond, Denoiser, Time, as_partial


def interval(guided: Denoiser, plain: Denoiser, low: Any, high: Any) -> Denoiser:
    """`guided` where low <= t <= high, `plain` elsewhere: guidance in a limited interval (Kynkaanniemi et al. 2024).

    At a scalar t, as in sampling, only the one that is due is evaluated. `interval(first, second, t_switch, sde.T)`
    samples with one denoiser (a prompt, say) down to t_switch and with another from there.

    Raises:
      TypeError: a time is no number.
      ValueError: low > high, or the denoisers were made for two processes.
    """
    check_ordered(low, high, "the interval of guidance")
    if (own := process_of(guided)) is not None:
        check_process(plain, own)
    return Partial(_interval, as_partial(guided), as_partial(plain), low, high)


def _interval(guided, plain, low, high, x: Array, t: Time, cond: Cond = None) -> Array:
    inside = (low <= jnp.asarray(t)) & (jnp.asarray(t) <= high)
    if inside.ndim:
        return jnp.where(bcast(inside, x), guided(x, t, cond), plain(x, t, cond))
    return jax.lax.cond(inside, lambda: guided(x, t, cond), lambda: plain(x, t, cond))

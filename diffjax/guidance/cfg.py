"""Guidance by a difference of two denoisers: classifier-free, composed, negative, and by a worse model.

    (1) x_0 = D(null) + scale (D(cond) - D(null))                          Ho & Salimans 2022; scale = 1 is no guidance
    (2) x_0 = D(null) + sum_i scale_i (D(cond_i) - D(null))                composed conditions (Liu et al. 2022)
    (3) x_0 = D_weak(cond) + scale (D(cond) - D_weak(cond))                autoguidance (Karras et al. 2024)
    (4) x_0 <- phi x_0 std(D(cond)) / std(x_0) + (1 - phi) x_0             rescaling (Lin et al. 2024, Section 3.4)

`scale` is that of Stable Diffusion and of `guidance_scale` in diffusers; the paper's w is scale - 1. Since eps, v and
the score are affine in x_0, (1) to (3) are the same there. A negative condition stands in the place of `null`.
Guidance does not sample p(x) p(cond | x)^scale: the law of its samples is another (the notebook shows it).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import bcast, scheduled
from diffjax.typing import Cond, Denoiser, Time, as_child, as_partial


def cfg(denoise: Denoiser, scale: Any, null: Cond = None, *, rescale: Any = None, batched: bool = False) -> Denoiser:
    """Classifier-free guidance (Eq. 1), two evaluations of the network.

    Args:
      denoise: trained with conditions and, where they were dropped, with the null condition (`losses.DropCondition`).
      scale: `guidance_scale`: 0 the null condition's, 1 the condition's, above 1 guided; a number, [B], or a function
        of t.
      null: the null condition, or a negative one: the structure that the network takes; None for our U-Net.
      rescale: phi of Eq. 4, in [0, 1] (Lin et al. take 0.7); None for none.
      batched: evaluate both in one call of twice the batch; then cond and null need one structure of arrays [B, ...].
    """
    return Partial(_batched if batched else _cfg, as_partial(denoise), as_child(scale), null, rescale)


def cfg_of_scale(denoise: Denoiser, null: Cond = None) -> Denoiser:
    """Classifier-free guidance whose scale is an entry of the condition, {"scale": [B], ...}; `denoise` gets the rest.

    The teacher of a student that is told the scale (Meng et al. 2023, "On distillation of guided diffusion models").
    """
    return Partial(_cfg_of_scale, as_partial(denoise), null)


def compose(denoise: Denoiser, conds: Sequence[Cond], scales: Sequence[Any], null: Cond = None) -> Denoiser:
    """Several conditions at once (Eq. 2), one evaluation each and one more; scales below 0 lead away.

    The guided denoiser ignores its own `cond`.

    Raises:
      ValueError: there are not as many scales as conditions, or none.
    """
    if len(conds) != len(scales) or not conds:
        raise ValueError(f"compose takes one scale for each condition, got {len(conds)} and {len(scales)}")
    return Partial(_compose, as_partial(denoise), tuple(conds), tuple(map(as_child, scales)), null)


def autoguide(denoise: Denoiser, weak: Denoiser, scale: Any) -> Denoiser:
    """Away from a worse model of the same data and condition (Eq. 3): smaller, or trained for less time."""
    return Partial(_autoguide, as_partial(denoise), as_partial(weak), as_child(scale))


def _at(scale: Any, x: Array, t: Time) -> Array:
    return bcast(scheduled(scale, t), x)


def _cfg(denoise, scale, null, rescale, x: Array, t: Time, cond: Cond = None) -> Array:
    return _lerp(denoise(x, t, null), denoise(x, t, cond), _at(scale, x, t), rescale)


def _cfg_of_scale(denoise, null, x: Array, t: Time, cond: Cond = None) -> Array:
    if not isinstance(cond, dict) or "scale" not in cond:
        raise ValueError('the guidance scale must be an entry of the condition, {"scale": [B], ...}')
    rest = {name: value for name, value in cond.items() if name != "scale"}
    return _cfg(denoise, cond["scale"], null, None, x, t, rest)


def _batched(denoise, scale, null, rescale, x: Array, t: Time, cond: Cond = None) -> Array:
    def both(n, c):
        return jnp.concatenate([jnp.broadcast_to(jnp.asarray(n, jnp.asarray(c).dtype), jnp.shape(c)), c])

    if jax.tree.structure(null) != jax.tree.structure(cond):
        raise ValueError(f"batched guidance needs a null condition like the condition, got {null} for {cond}")
    t = jnp.asarray(t)
    t = jnp.concatenate([t, t]) if t.ndim else t
    unconditional, conditional = jnp.split(denoise(jnp.concatenate([x, x]), t, jax.tree.map(both, null, cond)), 2)
    return _lerp(unconditional, conditional, _at(scale, x, t if t.ndim == 0 else t[: len(x)]), rescale)


def _lerp(start: Array, end: Array, scale: Array, rescale: Any) -> Array:
    x0 = start + scale * (end - start)
    if rescale is None:
        return x0
    axes = tuple(range(1, x0.ndim))
    return x0 * (rescale * end.std(axes, keepdims=True) / x0.std(axes, keepdims=True) + 1 - rescale)


def _compose(denoise, conds, scales, null, x: Array, t: Time, cond: Cond = None) -> Array:
    base = denoise(x, t, null)
    return base + sum(_at(w, x, t) * (denoise(x, t, c) - base) for c, w in zip(conds, scales, strict=True))


def _autoguide(denoise, weak, scale, x: Array, t: Time, cond: Cond = None) -> Array:
    return _lerp(weak(x, t, cond), denoise(x, t, cond), _at(scale, x, t), None)

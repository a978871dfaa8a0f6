"""Guidance by a difference of two denoisers: classifier-free, composed, negative, and by a worse model.

    (1) x_0 = D(null) + scale (D(cond) - D(null))                          Ho & Salimans 2022; scale = 1 is no guidance
    (2) x_0 = D(null) + sum_i scale_i (D(cond_i) - D(null))                composed conditions (Liu et al. 2022)
    (3) x_0 = D_weak(cond) + scale (D(cond) - D_weak(cond))                autoguidance (Karras et al. 2024)
    (4) x_0 <- phi x_0 std(D(cond)) / std(x_0) + (1 - phi) x_0             rescaling (Lin et al. 2024, Section 3.4)

`scale` is that of Stable Diffusion and of `guidance_scale` in diffusers; the paper's w is scale - 1. Since eps, v and
the score are affine in x_0, (1) to (3) are the same there. A negative condition stands in the place of `null`.
Where x_0 is flat, to the rounding of its own values, no factor gives it the spread of D(cond), and (4) leaves it as it
is: the ratio counts as 1. A guide whose two estimates cannot differ costs twice as much and does nothing: it raises.
Guidance does not sample p(x) p(cond | x)^scale: its samples have another distribution (the notebook shows it).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from diffjax.arrays import bcast, safe_sqrt, scheduled
from diffjax.checks import check_number, check_schedule
from diffjax.conditions import check_cond, fill_kept, is_shared, spread
from diffjax.precondition import check_process, process_of
from diffjax.typing import Cond, Denoiser, Time, as_child, as_partial


def cfg(denoise: Denoiser, scale: Any, null: Cond = None, *, rescale: Any = None, batched: bool = False) -> Denoiser:
    """Classifier-free guidance (Eq. 1), two evaluations of the network.

    Args:
      denoise: trained with conditions and, where they were dropped, with the null condition (`losses.DropCondition`).
      scale: `guidance_scale`: 0 the null condition's, 1 the condition's, above 1 guided; a number, [B], or a function
        of t.
      null: the null condition, or a negative one: the structure that the network takes, of all examples or of one, or
        numbers for whole entries, {"context": 0.0}, or `conditions.Kept` for the condition's own; None for our U-Net.
      rescale: phi of Eq. 4, in [0, 1] (Lin et al. take 0.7); None for none.
      batched: evaluate both in one call of twice the batch; then cond and null need one structure of arrays [B, ...].

    Raises:
      TypeError, ValueError: the scale is no number, or phi outside [0, 1]. The guide, when it is evaluated: there is no
        condition, it is of another kind or size than null, or `denoise` ignores it.
    """
    check_schedule("the guidance scale", scale)
    if rescale is not None:
        check_number("rescale", rescale, 0, 1)
    return Partial(_batched if batched else _cfg, as_partial(denoise), as_child(scale), null, rescale)


def cfg_of_scale(denoise: Denoiser, null: Cond = None) -> Denoiser:
    """Classifier-free guidance whose scale is an entry of the condition, {"scale": [B], ...}; `denoise` gets the rest.

    The teacher of a student that is conditioned on the scale (Meng et al. 2023, "On distillation of guided diffusion
    models").
    """
    return Partial(_cfg_of_scale, as_partial(denoise), null)


def compose(denoise: Denoiser, conds: Sequence[Cond], scales: Sequence[Any], null: Cond = None) -> Denoiser:
    """Several conditions at once (Eq. 2), one evaluation each and one more; scales below 0 lead away.

    The guided denoiser ignores its own `cond`.

    Raises:
      TypeError: the conditions are not in a list or a tuple, or a scale is no number.
      ValueError: there are not as many scales as conditions, or none; or as `cfg`.
    """
    if not isinstance(conds, list | tuple):
        raise TypeError(f"compose takes a list of conditions, got {type(conds).__name__}")
    if not hasattr(scales, "__len__") or isinstance(scales, str) or len(conds) != len(scales) or not conds:
        n = len(scales) if hasattr(scales, "__len__") else repr(scales)
        raise ValueError(f"compose takes one scale for each condition, got {len(conds)} and {n}")
    for scale in scales:
        check_schedule("a guidance scale", scale)
    return Partial(_compose, as_partial(denoise), tuple(conds), tuple(map(as_child, scales)), null)


def autoguidance(denoise: Denoiser, weak: Denoiser, scale: Any) -> Denoiser:
    """Away from a worse model of the same data and condition (Eq. 3): smaller, or trained for less time.

    Raises:
      TypeError, ValueError: the scale is no number, both models are one, or they were made for two processes.
    """
    check_schedule("the guidance scale", scale)
    if denoise is weak:
        raise ValueError("autoguidance leads away from a worse model, but both models are the same object")
    if (own := process_of(denoise)) is not None:
        check_process(weak, own)
    return Partial(_autoguidance, as_partial(denoise), as_partial(weak), as_child(scale))


def _at(scale: Any, x: Array, t: Time) -> Array:
    return bcast(scheduled(scale, t), x)


def _cfg(denoise, scale, null, rescale, x: Array, t: Time, cond: Cond = None) -> Array:
    null = spread(null, cond, len(x))
    _check(denoise, x, t, cond, null)
    return _lerp(_under_null(denoise, x, t, null), denoise(x, t, cond), _at(scale, x, t), rescale)


def _under_null(denoise: Denoiser, x: Array, t: Time, null: Cond) -> Array:
    try:
        return denoise(x, t, null)
    except (AttributeError, KeyError, TypeError) as error:
        if null is not None:
            raise
        raise TypeError(
            f"the network cannot be evaluated without a condition ({error}): give the null condition that it was "
            'trained with, guidance.cfg(denoise, scale, {"label": 10}) or model.replace(null={"label": 10})'
        ) from error


def _cfg_of_scale(denoise, null, x: Array, t: Time, cond: Cond = None) -> Array:
    if not isinstance(cond, dict) or "scale" not in cond:
        raise ValueError('the guidance scale must be an entry of the condition, {"scale": [B], ...}')
    rest = {name: value for name, value in cond.items() if name != "scale"}
    return _cfg(denoise, cond["scale"], null, None, x, t, rest)


def _batched(denoise, scale, null, rescale, x: Array, t: Time, cond: Cond = None) -> Array:
    null = fill_kept(null, cond)
    if jax.tree.structure(null) != jax.tree.structure(cond):
        raise ValueError(f"batched guidance needs a null condition like the condition, got {null} for {cond}")
    _check(denoise, x, t, cond, null)
    both = jax.tree.map(lambda n, c: _stack(n, c, len(x)), null, cond, is_leaf=is_shared)
    t = jnp.asarray(t)
    twice = jnp.concatenate([t, t]) if t.ndim else t
    unconditional, conditional = jnp.split(denoise(jnp.concatenate([x, x]), twice, both), 2)
    return _lerp(unconditional, conditional, _at(scale, x, t), rescale)


def _stack(null: Any, cond: Any, n: int) -> Array:
    """Two entries as one of twice the batch."""
    if is_shared(cond):
        raise ValueError("batched guidance has one condition for both halves, which cannot hold shared entries")
    cond, null = jnp.asarray(cond), jnp.asarray(null)
    cond = jnp.broadcast_to(cond, (n, *cond.shape[1:]))
    fits = all(m in (1, k) for m, k in zip(null.shape[::-1], cond.shape[::-1], strict=False))
    if null.ndim > cond.ndim or not fits:
        raise ValueError(f"batched guidance needs entries of one shape, got {null.shape} (null) and {cond.shape}")
    return jnp.concatenate([jnp.broadcast_to(null.astype(cond.dtype), cond.shape), cond])


def _lerp(start: Array, end: Array, scale: Array, rescale: Any) -> Array:
    x0 = start + scale * (end - start)
    return (x0 if rescale is None else x0 * (rescale * (_spread_ratio(end, x0) - 1) + 1)).astype(end.dtype)


def _spread_ratio(a: Array, b: Array) -> Array:
    """std(a) / std(b) of each example, and 1 where b is flat: its variance is that of rounding."""
    va, vb = _variance(a), _variance(b)
    rounding = (8 * jnp.finfo(b.dtype).eps) ** 2 * (b**2).mean(tuple(range(1, b.ndim)), keepdims=True)
    return jnp.where(vb <= rounding, 1, safe_sqrt(va) / safe_sqrt(jnp.where(vb <= rounding, 1, vb)))


def _variance(x: Array) -> Array:
    """Each example's variance, exactly 0 where it is flat: the first entry is taken off before the sums round."""
    axes = tuple(range(1, x.ndim))
    return (x - x[(slice(None), *[slice(0, 1)] * len(axes))]).var(axes, keepdims=True)


def _check(denoise: Denoiser, x: Array, t: Time, cond: Cond, null: Cond) -> None:
    """Raise a ValueError unless a condition can make a difference to its null condition."""
    if all(c is None or c == {} for c in (cond, null)):
        raise ValueError(
            "guidance needs a condition: without one both evaluations are the same; pass cond to `sample`, or a "
            "negative condition as null"
        )
    if None not in (cond, null) and isinstance(cond, dict) != isinstance(null, dict):
        raise ValueError(f"the null condition {null} is of another kind than the condition {cond}")
    check_cond(null, len(x))
    if isinstance(x, Tracer) and _ignores(denoise, x, t, cond, null):
        raise ValueError("guidance has no effect: the denoiser ignores its condition; was it trained with one?")


def _ignores(denoise: Denoiser, x: Array, t: Time, cond: Cond, null: Cond) -> bool:
    """Whether neither a value of `cond` nor its structure reaches the estimate, found by tracing alone."""
    leaves, tree = jax.tree.flatten(cond)
    if not leaves:
        return False
    given = jax.make_jaxpr(lambda *c: denoise(x, t, jax.tree.unflatten(tree, c)))(*leaves)
    reached = {id(v) for v in given.jaxpr.invars}
    for eqn in given.jaxpr.eqns:
        if any(id(v) in reached for v in eqn.invars):
            reached.update(map(id, eqn.outvars))
    if any(id(v) in reached for v in given.jaxpr.outvars):
        return False
    return str(given) == str(jax.make_jaxpr(lambda *_: denoise(x, t, null))(*leaves))


def _compose(denoise, conds, scales, null, x: Array, t: Time, cond: Cond = None) -> Array:
    for c in conds:
        _check(denoise, x, t, c, null)
    base = denoise(x, t, null)
    guided = base + sum(_at(w, x, t) * (denoise(x, t, c) - base) for c, w in zip(conds, scales, strict=True))
    return guided.astype(base.dtype)


def _autoguidance(denoise, weak, scale, x: Array, t: Time, cond: Cond = None) -> Array:
    return _lerp(weak(x, t, cond), denoise(x, t, cond), _at(scale, x, t), None)

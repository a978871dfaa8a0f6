"""Guidance by a difference of two denoisers: classifier-free, composed, negative, and by a worse model.

    (1) x_0 = D(null) + scale (D(cond) - D(null))                          Ho & Salimans 2022; scale = 1 is no guidance
    (2) x_0 = D(null) + sum_i scale_i (D(cond_i) - D(null))                composed conditions (Liu et al. 2022)
    (3) x_0 = D_weak(cond) + scale (D(cond) - D_weak(cond))                autoguidance (Karras et al. 2024)
    (4) x_0 <- phi x_0 std(D(cond)) / std(x_0) + (1 - phi) x_0             rescaling (Lin et al. 2024, Section 3.4)
    (5) x_0 = D(null) + scale' (D(part) - D(null)) + scale (D(cond) - D(part))   a part's own scale (Brooks et al. 2023)

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


def dual_cfg(
    denoise: Denoiser, scale: Any, part_scale: Any, part: Cond, null: Cond, *, rescale: Any = None
) -> Denoiser:
    """Guidance by a condition and by a part of it (Eq. 5), three evaluations in one call of three times the batch.

    Of InstructPix2Pix the condition is a picture with a text, its part the picture without a text, null neither.

    Args:
      denoise: trained with all three kinds of conditions, which have one structure of arrays [B, ...].
      scale, part_scale: numbers, [B], or functions of t; where they are equal, Eq. 5 is Eq. 1.
      part: the condition without what `scale` counts for.
      null: the condition without what `part_scale` counts for, too.
      rescale: as in `cfg`.

    Raises:
      TypeError, ValueError: as `cfg`.
    """
    check_schedule("the guidance scale", scale)
    check_schedule("the scale of the part", part_scale)
    if rescale is not None:
        check_number("rescale", rescale, 0, 1)
    scales = as_child(scale), as_child(part_scale)
    return Partial(_dual, as_partial(denoise), scales, part, null, rescale)


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
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if null is not None:
            raise
        raise (ValueError if isinstance(error, ValueError) else TypeError)(
            f"the network cannot be evaluated without a condition ({error}): give the null condition that it was "
            'trained with, guidance.cfg(denoise, scale, {"label": 10}), guidance.cfg(model.denoise, scale, model.null) '
            'or model.replace(null={"label": 10})'
        ) from error


def _cfg_of_scale(denoise, null, x: Array, t: Time, cond: Cond = None) -> Array:
    if not isinstance(cond, dict) or "scale" not in cond:
        raise ValueError('the guidance scale must be an entry of the condition, {"scale": [B], ...}')
    rest = {name: value for name, value in cond.items() if name != "scale"}
    return _cfg(denoise, cond["scale"], null, None, x, t, rest)


def _batched(denoise, scale, null, rescale, x: Array, t: Time, cond: Cond = None) -> Array:
    unconditional, conditional = _in_one_call(denoise, x, t, fill_kept(null, cond), cond)
    return _lerp(unconditional, conditional, _at(scale, x, t), rescale)


def _dual(denoise, scales, part, null, rescale, x: Array, t: Time, cond: Cond = None) -> Array:
    nothing, some, whole = _in_one_call(denoise, x, t, null, part, cond)
    scale, part_scale = (_at(s, x, t) for s in scales)
    x0 = nothing + part_scale * (some - nothing) + scale * (whole - some)
    return _rescaled(x0, whole, rescale)


def _in_one_call(denoise: Denoiser, x: Array, t: Time, *conds: Cond) -> list[Array]:
    """The estimates under k conditions, the last of which is the one that the others are null conditions of."""
    *nulls, cond = conds
    for null in nulls:
        if jax.tree.structure(null) != jax.tree.structure(cond):
            raise ValueError(f"batched guidance needs a null condition like the condition, got {null} for {cond}")
    _check(denoise, x, t, cond, nulls[0])
    together = jax.tree.map(lambda *entries: _stack(entries, len(x)), *conds, is_leaf=is_shared)
    t, k = jnp.asarray(t), len(conds)
    return jnp.split(denoise(jnp.concatenate([x] * k), jnp.concatenate([t] * k) if t.ndim else t, together), k)


def _stack(entries: Sequence[Any], n: int) -> Array:
    """Entries of n examples as one of k n; those before the last may have an axis of length 1 for any of its own."""
    *nulls, cond = entries
    if is_shared(cond):
        raise ValueError("batched guidance has one condition for all parts, which cannot hold shared entries")
    cond = jnp.asarray(cond)
    cond = jnp.broadcast_to(cond, (n, *cond.shape[1:]))
    parts = []
    for null in map(jnp.asarray, nulls):
        fits = all(m in (1, k) for m, k in zip(null.shape[::-1], cond.shape[::-1], strict=False))
        if null.ndim > cond.ndim or not fits:
            raise ValueError(f"batched guidance needs entries of one shape, got {null.shape} (null) and {cond.shape}")
        parts.append(jnp.broadcast_to(null.astype(cond.dtype), cond.shape))
    return jnp.concatenate([*parts, cond])


def _lerp(start: Array, end: Array, scale: Array, rescale: Any) -> Array:
    return _rescaled(start + scale * (end - start), end, rescale)


def _rescaled(x0: Array, cond: Array, rescale: Any) -> Array:
    """Eq. 4, in the type of D(cond)."""
    return (x0 if rescale is None else x0 * (rescale * (_spread_ratio(cond, x0) - 1) + 1)).astype(cond.dtype)


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
    if all(c is None or (isinstance(c, dict) and not c) for c in (cond, null)):
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
    everything, tree = jax.tree.flatten(cond)
    leaves = [leaf for leaf in everything if not is_shared(leaf)]  # but for functions
    if not leaves:
        return False

    def conditional(*values: Array) -> Array:
        rest = iter(values)
        return denoise(x, t, jax.tree.unflatten(tree, [e if is_shared(e) else next(rest) for e in everything]))

    given = jax.make_jaxpr(conditional)(*leaves)
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

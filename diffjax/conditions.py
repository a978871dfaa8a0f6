"""Conditions: what a network is conditioned on, as a dict of named entries, and which of them have a batch axis.

    {"label": [B] integers, "text": [B, L, D], "image": [B, H, W, C], "scale": [B], ..., "attend": an `Attend`}

An array with axes has the examples as its first axis. Scalars are shared by all examples, and so is whatever an
`Attend` or a `Shared` holds: attention control has no batch axis. A condition that is no dict follows the same rule.

A batch of training is x_0 [B, ...] itself, or a dict of any fields: "image" is x_0, "noise" the eps of each example,
"cond" a condition as it is, and every other field can become an entry of the condition (`of_batch`):

    a network that declares `cond_keys`     takes the fields with those names; the others are not used
    one that declares nothing, a function   takes all fields

So labels reach a network with classes, and an unconditional one trains on labelled data too. "cond" is never filtered,
its entries come before the fields, and a network of `diffjax.nn` raises where it cannot use one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.checks import known
from diffjax.typing import Cond, parts, pytree

NO_CONDITIONS = frozenset({"image", "noise", "cond"})  # the fields of a batch that are no entries of the condition


@pytree
class Shared:
    """An entry of a condition that all examples share, whatever its axes: `{"attend": Shared(value)}`."""

    value: Any


@pytree
class Kept:
    """An entry of a null condition: the condition's own, {"context": 0.0, "concat": Kept()}.

    Guidance and condition dropout then change the other entries alone: a map stays where the text is taken away.
    """


def is_shared(entry: Any) -> bool:
    """Whether an entry has no batch axis: a `Shared`, or a callable such as an `Attend`."""
    return isinstance(entry, Shared | Partial) or (callable(entry) and not isinstance(entry, jax.Array))


def batch_axes(cond: Cond) -> Cond:
    """The axes of `jax.vmap` for a condition: 0 for arrays with axes, None for scalars and shared entries."""
    return jax.tree.map(lambda e: 0 if not is_shared(e) and jnp.ndim(e) else None, cond, is_leaf=is_shared)


def one_example(cond: Cond) -> Cond:
    """What `vmap` over `batch_axes` hands over of a condition, as a batch of one: shared entries stay as they are."""
    return jax.tree.map(lambda e: e if is_shared(e) else jnp.asarray(e)[None], cond, is_leaf=is_shared)


def map_examples(fn: Any, *conds: Cond) -> Cond:
    """`fn` of the entries that have a batch axis; the others are those of the first condition."""
    return jax.tree.map(lambda e, *o: e if is_shared(e) or not jnp.ndim(e) else fn(e, *o), *conds, is_leaf=is_shared)


def as_cond(cond: Cond) -> Cond:
    """A condition in which lists of numbers, `{"label": [3, 1]}`, are arrays."""
    if not isinstance(cond, dict):
        return cond
    return {name: _as_array(entry) if isinstance(entry, list | tuple) else entry for name, entry in cond.items()}


def _as_array(entry: Any) -> Any:
    return jnp.asarray(entry) if known(entry) else entry


def check_cond(cond: Cond, n: int) -> None:
    """Raise unless the entries of a condition are arrays without NaN, those with axes of n examples (or shared).

    Raises:
      TypeError: an entry is text.
      ValueError: an array has another first axis, or holds NaN.
    """
    for path, entry in jax.tree_util.tree_leaves_with_path(cond, is_leaf=is_shared):
        if isinstance(entry, str | bytes):
            raise TypeError(
                f"the condition{jax.tree_util.keystr(path)} is the text {entry!r}: give arrays of n examples, such as "
                "the states of a text encoder, the one of the model's training"
            )
        shape = () if is_shared(entry) else jnp.shape(entry)
        if shape and shape[0] != n:
            raise ValueError(
                f"the condition{jax.tree_util.keystr(path)} has shape {shape} for {n} examples: its first axis must be "
                "the batch; wrap what all examples share in diffjax.conditions.Shared"
            )
        if known(entry) and jnp.issubdtype(jnp.result_type(entry), jnp.floating) and np.isnan(entry).any():
            raise ValueError(f"the condition{jax.tree_util.keystr(path)} holds NaN")


def at_time(cond: Cond, t: Any) -> Cond:
    """A condition at time t: of an entry with a method `at`, as attention control has, what that returns for t."""
    if not isinstance(cond, dict):
        return cond
    return {name: e.at(t) if is_shared(e) and callable(getattr(e, "at", None)) else e for name, e in cond.items()}


def kept_names(null: Cond) -> set[str]:
    """The entries that a null condition leaves as they are."""
    return {name for name, e in null.items() if isinstance(e, Kept)} if isinstance(null, dict) else set()


def fill_kept(null: Cond, cond: Cond) -> Cond:
    """A null condition with the condition's own entries in the places of `Kept`.

    Raises:
      ValueError: the condition lacks such an entry.
    """
    kept = kept_names(null)
    if not kept:
        return null
    given = cond if isinstance(cond, dict) else {}
    if kept - set(given):
        raise ValueError(
            f"the null condition keeps {sorted(kept)} of the condition, which has only {sorted(given)}: give it "
            f"{sorted(kept - set(given))}"
        )
    return {name: given[name] if name in kept else e for name, e in null.items()}


def spread(null: Cond, cond: Cond, n: int) -> Cond:
    """A null condition of one example, {"label": 10}, as one of n, where the condition has an entry of each.

    Of a dict each entry for itself: one without an "attend" leaves attention as it is, whatever the condition has. A
    number for an entry of several axes, {"context": 0.0}, fills an array like it. `Kept` entries are the condition's.

    Raises:
      ValueError: as `fill_kept`.
    """
    null = fill_kept(null, cond)
    if isinstance(null, dict) and isinstance(cond, dict) and set(null) < set(cond):
        return {name: spread(entry, cond[name], n) for name, entry in null.items()}
    if jax.tree.structure(null) != jax.tree.structure(cond):
        return null

    def one(e: Any, c: Any) -> Any:
        if is_shared(e) or is_shared(c):
            return e
        if jnp.ndim(e) == 0 and jnp.ndim(c) > 1:
            return jnp.full((n, *jnp.shape(c)[1:]), e, jnp.result_type(c))
        return jnp.broadcast_to(e, (n, *jnp.shape(e))) if jnp.ndim(c) == jnp.ndim(e) + 1 else e

    return jax.tree.map(one, null, cond, is_leaf=is_shared)


def cond_keys(network: Any) -> Collection[str] | None:
    """The entries of a condition that a network declares by `cond_keys`, or None where it declares nothing.

    `net.apply` has those of the module `net`, and a `Partial` those of the function inside.
    """
    while isinstance(network, functools.partial):
        network = network.func
    own = getattr(network, "cond_keys", None)
    return getattr(getattr(network, "__self__", None), "cond_keys", None) if own is None else own


def of_batch(batch: dict[str, Any], keys: Collection[str] | None) -> Cond:
    """The condition in a batch for a network that takes `keys` (None: every field), or None where there is none."""
    given = batch.get("cond")
    if given is not None and not isinstance(given, dict):
        return given
    fields = {k: v for k, v in batch.items() if k not in NO_CONDITIONS and (keys is None or k in keys)}
    cond = as_cond(fields | (given or {}))
    return cond if cond or given is not None else None


def check_labels(label: Any, n: int, classes: int, null: bool = False) -> Array:
    """Labels [n], or one for all, as an integer array [n]; with `null` the label `classes` is one, the null label.

    Labels that are traced and out of range, negative ones too, become `classes + 1`: a table looked up with it gives
    NaN, never another class.

    Raises:
      TypeError: they are no integers.
      ValueError: they are one-hot or of another length, or out of range.
    """
    values = np.asarray(label) if known(label) else None
    last = classes if null else classes - 1
    label = jnp.asarray(label)
    if not jnp.issubdtype(label.dtype, jnp.integer):
        raise TypeError(f"labels are integers, got {label.dtype}{list(label.shape)}")
    if label.shape not in ((), (n,)):
        hint = ": of one-hot labels take the argmax" if label.ndim == 2 else ""
        raise ValueError(f"labels must have the shape [{n}], one for each example, got {list(label.shape)}{hint}")
    if values is not None and values.size and not (values.min() >= 0 and values.max() <= last):
        no_label = f" ({classes} is the null label)" if null else ""
        raise ValueError(f"labels go from 0 to {last}{no_label}, got {values.min()} to {values.max()}")
    return jnp.broadcast_to(jnp.where((label >= 0) & (label <= last), label, classes + 1), (n,))


def check_values(denoise: Any, x: Any, t: Any, cond: Cond) -> None:
    """Let what a denoiser is made of look at a condition whose values are known: each part with a `check_cond`.

    Inside a compiled function a label out of range can only become NaN; here, before it, it raises.
    """
    if hasattr(denoise, "check_cond"):
        denoise.check_cond(x, t, cond)
    if isinstance(cond, dict) and cond.get("label") is not None and (classes := _classes(denoise)):
        check_labels(cond["label"], len(x), classes, null=True)
    for part in parts(denoise):
        check_values(part, x, t, cond)


def classes_of(loss: Any) -> int:
    """The number of classes of the networks in a loss, the smallest where there are several; 0 for none."""
    own = [n for n in (_classes(loss), *map(classes_of, parts(loss))) if n]
    return min(own, default=0)


def check_fields(batch: Any, classes: int) -> None:
    """Raise where a field of a batch [B, ...], or of batches [k, B, ...], cannot be what a network is trained on.

    The null label, `classes` itself, is none: `losses.DropCondition` gives it, and "cond" may hold it.

    Raises:
      TypeError: a field holds strings or objects.
      ValueError: a "label" is no class of the network, of which there are `classes`.
    """
    fields = batch if isinstance(batch, dict) else {}
    for name, value in fields.items():
        if getattr(value, "dtype", np.dtype(float)).kind in "OSU":
            raise TypeError(f"the field {name!r} of a batch holds {value.dtype}, and no numbers: encode or drop it")
    label = fields.get("label") if classes else None
    if label is None or not known(label) or not getattr(label, "is_fully_addressable", True):
        return
    values = np.asarray(label)
    wrong = np.argwhere((values < 0) | (values >= classes))
    if np.issubdtype(values.dtype, np.integer) and len(wrong):
        i = tuple(wrong[0].tolist())
        hint = ": do they begin at 1?" if values.max() == classes and values.min() >= 1 else ""
        raise ValueError(
            f"labels in a batch go from 0 to {classes - 1}, got {values[i]} at {i} of {values.shape}{hint} "
            f"(the null label {classes} is drawn by losses.DropCondition)"
        )


def _classes(network: Any) -> int:
    """`num_classes` of the Flax module whose `apply` this is, or 0."""
    return getattr(network.__self__, "num_classes", 0) if inspect.ismethod(network) else 0

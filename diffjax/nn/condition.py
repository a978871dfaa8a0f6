"""How a network takes its condition: the entries it declares, checked, and its parameters from an example batch.

Each network has `cond_keys`, the entries of a condition that it takes (see `diffjax.conditions`):

    "label"    [B] integers, where it has classes; `num_classes` itself is the null label
    "scale"    [B] or [], a guidance scale, where it was initialised with one
    "attend"   what its attention layers do, an `Attend`

and those of Stable Diffusion's U-Net, each read by `read_array`:

    "context"  [B, N, D], the states of a text
    "pooled"   [B, P], one vector for the text
    "sizes"    [B, 6], height and width of the original, top and left of the crop, height and width wanted (SDXL)
    "concat"   [B, H, W, C], channels that are joined to x

Every other entry raises. A network with classes that is trained (`train=True`) without labels raises too: an
unconditional network has num_classes = 0, and the null label is learnt by `losses.DropCondition`.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.conditions import check_labels, cond_keys, of_batch
from diffjax.typing import Cond, Key, PyTree


class Condition(NamedTuple):
    """The entries of a condition, None where absent."""

    label: Array | None  # [B]
    attend: Any
    scale: Array | None


def read_cond(net: Any, cond: Cond, n: int, train: bool = False) -> Condition:
    """The condition of n examples for the module `net`, inside its call.

    Raises:
      TypeError: `cond` is no dict, labels are no integers, or "attend" is no function.
      ValueError: `cond` has an entry that the network does not take, labels are out of range or of another shape, or
        missing in the training of a network with classes.
    """
    who, cond = type(net).__name__, {} if cond is None else cond
    if not isinstance(cond, dict):
        what = f"an array {list(cond.shape)}" if hasattr(cond, "shape") else type(cond).__name__
        raise TypeError(f'a condition is None or a dict such as {{"label": labels}}, got {what}')
    classes, label, attend, scale = getattr(net, "num_classes", 0), *(cond.get(k) for k in Condition._fields)
    if label is not None and "label" not in net.cond_keys:
        raise ValueError(f'cond has a "label" but this {who} has no classes: build it with num_classes > 0')
    unknown = sorted(set(cond) - set(net.cond_keys))
    if unknown:
        takes = sorted(net.cond_keys)
        raise ValueError(f"this {who} takes the condition entries {takes}, got {unknown} besides")
    if label is not None:
        label = check_labels(label, n, classes, null=getattr(net, "null_label", True))
    elif train and "label" in net.cond_keys and not net.is_initializing():
        raise ValueError(
            f'this {who} has {classes} classes but is trained without labels: give batches a field "label", or build '
            "it with num_classes=0"
        )
    if attend is not None and not callable(attend):
        raise TypeError(f'cond["attend"] is an `Attend`, a function (site, q, k, v), got {type(attend).__name__}')
    return Condition(label, attend, scale)


def read_array(net: Any, cond: Cond, key: str, shape: tuple[int | None, ...], required: bool = True) -> Array | None:
    """The entry `key` of a condition, of this shape (None: any length); None where it is absent and not `required`.

    Raises:
      ValueError: it is absent, or has another shape.
    """
    value, who = (cond or {}).get(key), type(net).__name__
    wanted = "[" + ", ".join("any" if n is None else str(n) for n in shape) + "]"
    if value is None:
        if required:
            raise ValueError(f'this {who} is conditioned on "{key}" {wanted}, but cond has {sorted(cond or {})}')
        return None
    value = jnp.asarray(value)
    if value.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, value.shape, strict=True)):
        raise ValueError(f'cond["{key}"] of this {who} has the shape {wanted}, got {list(value.shape)}')
    return value


def init(net: nn.Module, key: Key, batch: PyTree, *, levels: int = 1) -> PyTree:
    """The parameters of `net` from an example batch, whose shapes alone matter: arrays or `jax.ShapeDtypeStruct`.

    The batch is one of training, x_0 [B, ...] or a dict with "image" and further fields, of which the network gets its
    `cond_keys`; a student of a guided teacher needs a "scale" [B] there. One example of it is used, in one compiled
    program, which takes half the time of `net.init`.

    Args:
      levels: 1, or 2 for the network of a flow map, whose c_noise is a pair (c_t, c_s).

    Raises:
      ValueError: the batch has no "image", `levels` is neither, or the network has other variables than parameters.
    """
    if levels not in (1, 2):
        raise ValueError(f"a network is conditioned on 1 level of noise, or a flow map's on 2, got levels = {levels}")
    fields = batch if isinstance(batch, dict) else {"image": batch}
    if "image" not in fields:
        raise ValueError(f'a batch has the data under "image"; got a dict with {sorted(fields)}')
    cond = of_batch(fields, cond_keys(net))
    level = jnp.zeros(1)
    args = (_one(fields["image"]), level if levels == 1 else (level, level), jax.tree.map(_one, cond))
    taken = [p for p in inspect.signature(type(net).__call__).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    variables = jax.jit(lambda key: net.init(key, *args[: len(taken) - 1]))(key)
    others = sorted(set(variables) - {"params"})
    if others:
        raise ValueError(
            f"{type(net).__name__} has the collections {others} beside its parameters, as BatchNorm makes them, but a "
            "network is a pure function of its parameters: take GroupNorm or LayerNorm"
        )
    return variables


def _one(value: Any) -> Any:
    """Zeros like one example of an array [B, ...]; what is no array as it is."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return value
    dtype = jax.dtypes.canonicalize_dtype(value.dtype)
    return jnp.zeros((1, *value.shape[1:]) if value.shape else (), dtype)

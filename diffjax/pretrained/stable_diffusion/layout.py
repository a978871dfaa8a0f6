"""A network's weights in a file: names, shapes and the order of axes, and strict conversion both ways.

The table is made from the network's own parameters, so that it fits every configuration. In files a dense layer is
[out, in], and a convolution [out, in, h, w].
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.nn import ConditionalUNet, ControlNet, KLAutoencoder, TextEncoder, TinyAutoencoder
from diffjax.parameters import flatten, unflatten
from diffjax.pretrained.stable_diffusion.names import hub_name
from diffjax.typing import PyTree


class Stored(NamedTuple):
    """A tensor in a file.

    Attributes:
      paths: of the parameters in it; several are one behind the other along the first axis.
      shape: in the file.
      axes: its axes in the order of the parameter's; None: as they are.
    """

    paths: tuple[str, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...] | None = None


Layout = dict[str, Stored]


def example(net: Any) -> tuple[Any, ...]:
    """The shapes of arguments of `net.init`: one example, as small as it may be.

    Raises:
      TypeError: it is none of Stable Diffusion's networks.
    """

    def floats(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *shape), jnp.float32)

    ids = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    if isinstance(net, TextEncoder):
        return (ids,)
    if isinstance(net, KLAutoencoder | TinyAutoencoder):
        return (floats(net.factor, net.factor, net.image_channels),)
    if isinstance(net, ControlNet):
        x, t, cond = example(net.unet)
        return x, t, cond | {"hint": floats(8 * net.factor, 8 * net.factor, net.hint_width)}
    if not isinstance(net, ConditionalUNet):
        raise TypeError(f"no names are known for the weights of {type(net).__name__}")
    cond = {"context": floats(2, net.context_width)}
    cond |= {"pooled": floats(net.pooled_width)} if net.pooled_width else {}
    cond |= {"sizes": floats(net.size_count)} if net.size_count else {}
    cond |= {"scale": floats()} if net.guidance_width else {}
    cond |= {"label": jax.ShapeDtypeStruct((1,), jnp.int32)} if net.num_classes else {}
    return floats(8, 8, net.in_channels), floats(), cond


@lru_cache(64)
def parameter_shapes(net: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """The parameters of a network by path, without making them; not to be changed."""
    return flatten(jax.eval_shape(net.init, jax.random.key(0), *example(net))["params"])


def hub_layout(net: Any) -> Layout:
    """The tensors of a network in a hub's folder."""
    shapes, table = parameter_shapes(net), {}
    unet = net.unet if isinstance(net, ControlNet) else net
    convolutions = isinstance(unet, ConditionalUNet) and not unet.linear_projection
    for path, x in shapes.items():
        name, axes, shape = hub_name(net, path), None, x.shape
        if path.endswith("kernel"):
            axes = (3, 2, 0, 1) if x.ndim == 4 else (1, 0)
            shape = tuple(x.shape[i] for i in axes)
        if convolutions and path.endswith("kernel") and name.split(".")[-2] in ("proj_in", "proj_out"):
            shape = (*shape, 1, 1)
        table[name] = Stored((path,), shape, axes)
    if sum(len(entry.paths) for entry in table.values()) != len(shapes):
        raise AssertionError(f"two parameters of {net} have one name")
    return table


def from_tensors(
    layout: Layout, tensors: Mapping[str, np.ndarray], where: Any, unused: Collection[str] = ()
) -> tuple[PyTree, tuple[str, ...]]:
    """(variables of `net.apply`, notes) from the tensors of a file; each keeps its type.

    A matrix that is stored as a 1 x 1 convolution, or the reverse, is reshaped, and a note says so.

    Args:
      layout: what is expected.
      tensors: what is there.
      where: the file, for messages.
      unused: names that may be there and are not used.

    Raises:
      ValueError: a tensor is missing, mis-shaped, or there for no purpose; the message names it, and those like it.
    """
    check_names(layout.keys(), tensors.keys(), where, unused)
    flat, notes = {}, []
    for name, (paths, shape, axes) in layout.items():
        x = tensors[name]
        if x.shape != shape and _core(x.shape) != _core(shape):
            hint = _hint(name, x.shape, shape)
            raise ValueError(f"{where}: {name!r} has the shape {x.shape}, but the network needs {shape}{hint}")
        if x.shape != shape:
            notes.append(f"{name}: {list(x.shape)} reshaped to {list(shape)}")
            x = x.reshape(shape)
        for path, part in zip(paths, np.split(x, len(paths)) if len(paths) > 1 else [x], strict=True):
            flat[path] = to_parameter(part, axes)
    return {"params": unflatten(flat)}, tuple(notes)


def to_tensors(layout: Layout, variables: PyTree) -> dict[str, np.ndarray]:
    """The inverse of `from_tensors`; each keeps its type.

    Raises:
      ValueError: these are not the network's parameters.
    """
    flat, tensors = flatten(variables["params"]), {}
    check_names({path for entry in layout.values() for path in entry.paths}, flat.keys(), "the parameters")
    for name, (paths, shape, axes) in layout.items():
        parts = [to_stored(np.asarray(flat[path]), axes, (shape[0] // len(paths), *shape[1:]), name) for path in paths]
        tensors[name] = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return tensors


def to_parameter(x: np.ndarray, axes: tuple[int, ...] | None) -> np.ndarray:
    """A stored tensor in our order of axes; (1, 0) of a 1 x 1 convolution too."""
    if axes is None:
        return x
    if len(axes) == 2 and x.ndim == 4:
        x = x[:, :, 0, 0]
    return x.transpose(np.argsort(axes))


def to_stored(x: np.ndarray, axes: tuple[int, ...] | None, shape: tuple[int, ...], name: str) -> np.ndarray:
    """The inverse of `to_parameter`."""
    y = x if axes is None else x.transpose(axes)
    if _core(y.shape) != _core(shape):
        raise ValueError(f"the parameter of {name!r} has the shape {x.shape}, which does not give {shape}")
    return y.reshape(shape)


def check_names(expected: Collection[str], found: Collection[str], where: Any, unused: Collection[str] = ()) -> None:
    """Raise a ValueError unless `found` are the names expected, and perhaps some that are known to be unused."""
    missing = sorted(set(expected) - set(found))
    extra = sorted(set(found) - set(expected) - set(unused))
    if missing:
        raise ValueError(f"{where} lacks {listed(missing, extra or found)}")
    if extra:
        raise ValueError(f"{where} holds {listed(extra, expected)}, for which the network has no place")


def listed(names: list[str], others: Collection[str]) -> str:
    """The first names, each with the most similar ones of `others`, and the count of the rest."""
    said = []
    for name in names[:3]:
        near = difflib.get_close_matches(name, list(others), 2, 0.8)
        said.append(repr(name) + (f" (similar: {', '.join(map(repr, near))})" if near else ""))
    return ", ".join(said) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without the axes of a 1 x 1 kernel."""
    return shape[:2] if len(shape) == 4 and shape[2:] == (1, 1) else shape


def _hint(name: str, found: tuple[int, ...], needed: tuple[int, ...]) -> str:
    if found == needed[::-1] and len(found) == 2:
        return ": it is transposed"
    context = {768: "1", 1024: "2", 2048: "XL"}
    if "attn2.to_k" in name and found[1] in context:
        return f": that of Stable Diffusion {context[found[1]]}"
    return ""

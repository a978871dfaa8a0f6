"""Model cards: objects of this package as JSON, so that a file of parameters says which network they belong to.

A card is the JSON text

    {"format": "diffjax", "version": 1, "made_with": "0.1.0", "object": ..., "about": {...}}

in the metadata of a safetensors file, and in a `.json` file beside it for people to read. "object" is a class with its
fields, in which the parameters are left out; "about" is free: data, range, licence, command, figures. Objects are:

    null, true, 1, 0.5, "text"                     themselves (a list is read as a tuple)
    {"class": "sde.VP", "fields": {...}}           a frozen dataclass or a Flax module, by its public name
    {"function": "precondition.from_v", ...}       a function; with "args" and "kwargs" a `Partial` of it
    {"array": [...], "dtype": "float32"}           a small array
    {"dtype": "bfloat16"}                          a dtype
    {"number": "inf"}                              plus or minus infinity
    {"dict": {...}}                                a dict
    {"own": "..."}                                 a part of the caller's own, which no card can name, and why

Reading looks names up in diffjax, `jax.nn` and `flax.linen`, and nowhere else: a card runs no code of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen
from jax.tree_util import Partial

from diffjax.typing import as_child

VERSION = 1
LARGEST = 10_000  # entries of an array in a card; larger ones are parameters, and belong into the file
PARAMETERS = {"parameters": "in the file"}
LIBRARIES = {"diffjax": "diffjax", "jax.nn": "jax.nn", "flax.linen": "flax.linen"}


def to_json(value: Any, where: str = "object") -> Any:
    """`value` as JSON, in the forms above.

    Raises:
      TypeError: it holds what no card can hold, such as a function that is not this package's; the message says where.
      ValueError: a number is NaN, an entry of an array not finite, or an array is too large.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float | np.number) and not isinstance(value, np.ndarray):
        return _number(value, where)
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [to_json(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: to_json(v, f"{where}[{k!r}]") for k, v in value.items()}}
    if isinstance(value, jax.Array | np.ndarray):
        return _array(np.asarray(value), where)
    if isinstance(value, functools.partial):  # jax.tree_util.Partial is one
        inner = {"args": to_json(value.args, where), "kwargs": to_json(value.keywords, where)["dict"]}
        return {"function": _public_name(value.func, where), **(inner if value.args or value.keywords else {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"class": _public_name(type(value), where), "fields": _fields(value, where)}
    if (dtype := _dtype(value)) is not None:
        return {"dtype": dtype}
    if isinstance(value, types.FunctionType | type(jax.nn.silu)):
        return {"function": _public_name(value, where)}
    raise TypeError(f"{where} cannot be written in a model card: {value!r}")


def describe(value: Any) -> dict[str, Any]:
    """`to_json` of an object; its fields that no card can hold are {"own": message} instead."""
    fields = {}
    for f in dataclasses.fields(value):
        where = f"{type(value).__name__}.{f.name}"
        try:
            fields[f.name] = PARAMETERS if f.metadata.get("parameters") else to_json(getattr(value, f.name), where)
        except TypeError as error:
            fields[f.name] = {"own": str(error)}
    return {"class": _public_name(type(value), "object"), "fields": fields}


def own_parts(form: Any) -> dict[str, str]:
    """The fields that `describe` could not describe, with their messages."""
    fields = (form or {}).get("fields", {})
    return {name: f["own"] for name, f in fields.items() if isinstance(f, dict) and f.keys() == {"own"}}


def from_json(form: Any, parameters: Any = None) -> Any:
    """The object that `to_json` made `form` of, with `parameters` where they were left out.

    Raises:
      ValueError: a name, a field or a form is unknown: the card is damaged, or of another version of the package.
    """
    if form is None or isinstance(form, bool | int | float | str):
        return form
    read = functools.partial(from_json, parameters=parameters)
    if isinstance(form, list):
        return tuple(map(read, form))
    if form == PARAMETERS:
        return parameters
    match form:
        case {"dict": dict() as entries}:
            return {k: read(v) for k, v in entries.items()}
        case {"dtype": str() as name, "array": entries}:
            return np.asarray(entries, _dtype_of(name))
        case {"number": ("inf" | "-inf") as name}:
            return float(name)
        case {"dtype": str() as name}:
            return _dtype_of(name)
        case {"class": str() as name, "fields": dict() as fields}:
            return _build(_named(name), name, {k: read(v) for k, v in fields.items()})
        case {"function": str() as name, "args": args, "kwargs": dict() as kwargs}:
            inner = map(as_child, read(args)), {k: as_child(read(v)) for k, v in kwargs.items()}
            return Partial(_named(name), *inner[0], **inner[1])  # inside a Partial a function is one: it crosses `jit`
        case {"function": str() as name}:
            return _named(name)
    raise ValueError(f"a model card holds an unknown form: {str(form)[:200]}")


def _number(value: Any, where: str) -> Any:
    number = value.item() if isinstance(value, np.generic) else value
    if math.isnan(number):
        raise ValueError(f"{where} is NaN, which a model card cannot hold")
    return {"number": str(number)} if math.isinf(number) else number


def _array(array: np.ndarray, where: str) -> Any:
    if array.size > LARGEST:
        raise ValueError(f"{where} is an array of {array.size} entries, too large for a model card")
    if array.ndim == 0:
        return _number(array.astype(np.float64)[()] if array.dtype.kind not in "biuf" else array[()], where)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{where} is an array with entries that are not finite, which a model card cannot hold")
    return {"array": array.tolist(), "dtype": array.dtype.name}


def _fields(value: Any, where: str) -> dict[str, Any]:
    """The fields that decide what an object is, without those that Flax adds; parameters are left out."""
    skipped = ("parent", "name") if isinstance(value, linen.Module) else ()
    fields = [f for f in dataclasses.fields(value) if f.init and f.name not in skipped]
    return {
        f.name: PARAMETERS if f.metadata.get("parameters") else to_json(getattr(value, f.name), f"{where}.{f.name}")
        for f in fields
        if not f.metadata.get("about")
    }


def _build(cls: Any, name: str, fields: dict[str, Any]) -> Any:
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"the model card names a class {name!r}, which is no class of objects")
    unknown = fields.keys() - {f.name for f in dataclasses.fields(cls)}
    if unknown:
        raise ValueError(f"the model card gives {name} the fields {sorted(unknown)}, which it does not have here")
    try:
        return cls(**fields)
    except TypeError as error:
        raise ValueError(f"the model card's fields make no {name}: {error}") from error


def _public_name(thing: Any, where: str) -> str:
    """The shortest dotted name under which `thing` is found again."""
    module = getattr(thing, "__module__", None) or ""
    qualname = getattr(thing, "__qualname__", "")
    parts = module.split(".")
    for prefix in (parts[:end] for end in range(1, len(parts) + 1)):
        name = ".".join([*prefix, qualname])
        name = name.removeprefix("diffjax.")
        if _found(name) is thing:
            return name
    short = f"jax.nn.{getattr(thing, '__name__', '')}"
    if _found(short) is thing:
        return short
    raise TypeError(
        f"{where} is {thing!r}, which is not found under a name of diffjax, jax.nn or flax.linen, and a model card "
        "cannot name it"
    )


def _named(name: str) -> Any:
    found = _found(name)
    if found is None:
        raise ValueError(f"the model card names {name!r}, which this version of diffjax does not have")
    return found


def _found(name: str) -> Any:
    """What a dotted name stands for, relative to diffjax or in one of the two libraries; None for nothing."""
    library = next((lib for lib in LIBRARIES if name.startswith(f"{lib}.")), None)
    path = name.split(".") if library is None else name.removeprefix(f"{library}.").split(".")
    if any(not part.isidentifier() or part.startswith("__") for part in path):
        return None
    found: Any = importlib.import_module(library or "diffjax")
    for i, part in enumerate(path):
        inside = getattr(found, part, None)
        if inside is None and library in (None, "diffjax") and inspect.ismodule(found):
            try:
                inside = importlib.import_module(".".join(["diffjax", *path[: i + 1]]))
            except ModuleNotFoundError:
                return None
        if inspect.ismodule(inside) and not inside.__name__.startswith((library or "diffjax").split(".")[0]):
            return None  # a library that a module of ours imports
        found = inside
    return found if isinstance(found, type) or callable(found) else None


def _dtype(value: Any) -> str | None:
    scalar = isinstance(value, type) and issubclass(value, np.generic)
    if scalar or isinstance(value, np.dtype) or isinstance(getattr(value, "dtype", None), np.dtype):
        return np.dtype(value).name
    return None


def _dtype_of(name: str) -> Any:
    if not isinstance(getattr(found := getattr(jnp, name, None), "dtype", None), np.dtype):
        raise ValueError(f"the model card names the dtype {name!r}, which JAX does not have")
    return found

"""Checks of the configurations in a hub's folder, shared by those of U-Nets, autoencoders and text towers.

Every field of diffusers' classes is known: it either becomes a field of ours, or only the value that our networks have
is taken, and another one is refused by name. A field that is absent has the default of diffusers' class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
IDLE = ("sample_size", "upcast_attention", "addition_embed_type_num_heads", "force_upcast")  # they change no number


def check_config(config: Config, fixed: Mapping[str, tuple[Any, ...]], read: tuple[str, ...], what: str) -> None:
    """Raise a ValueError that names the first field with a value, or a name, that our network does not have."""
    for name, value in config.items():
        if name.startswith("_") or name in read or name in IDLE:
            continue
        if name not in fixed:
            if value not in (None, False):
                raise ValueError(f"the {what} has a field {name!r} = {value!r}, which is not known here")
        elif value not in fixed[name]:
            takes = " or ".join(map(repr, fixed[name]))
            raise ValueError(f"the {what} has {name!r} = {value!r}; our network has {takes} only")


def check_class(config: Config, *names: str) -> None:
    """Raise a ValueError unless the configuration is of one of these classes, or of none; "Flax" may precede it."""
    found = str(config.get("_class_name", names[0]))
    if found.removeprefix("Flax") not in names:
        raise ValueError(f"the configuration is of a {found!r}; known here are {', '.join(names)}")


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def one_value(name: str, value: Any) -> Any:
    """One value for all levels."""
    if not isinstance(value, list | tuple):
        return value
    if len(set(value)) != 1:
        raise ValueError(f"{name} = {value} differs between levels; our network has one value for all")
    return value[0]


def same_value(config: Config, *names: tuple[str, Any]) -> Any:
    """The value that two fields share."""
    values = [config.get(name, default) for name, default in names]
    if values[0] != values[1]:
        raise ValueError(f"{names[0][0]} = {values[0]} and {names[1][0]} = {values[1]} must be the same")
    return values[0]


def kinds(name: str, found: Any, known: Mapping[str, bool]) -> tuple[bool, ...]:
    for kind in found:
        if kind not in known:
            raise ValueError(f"{name} has {kind!r}; our network has {' and '.join(known)} only")
    return tuple(known[kind] for kind in found)

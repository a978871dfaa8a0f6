"""The configuration of a run as JSON, and what differs when the run is resumed with another.

`config.json` in a run's folder is that of its first start, and is never changed. A resume whose options differ writes
`config.2.json`, and so on; the next is compared with the latest. Fields named in FREE, here or in the class that they
belong to, do not change what is trained, or not unknowingly: they need no `--override`.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from diffjax.files import replacing

FREE = frozenset({"workdir", "data_dir", "dry_run", "samples", "methods", "jax", "python", "device"})
UNRECORDED = frozenset({"workdir", "loop.resume", "loop.override", "resume", "override"})


class Difference(NamedTuple):
    field: str
    kept: Any
    now: Any
    free: bool

    def __str__(self) -> str:
        return f"{self.field}: {_short(self.kept)} -> {_short(self.now)}"


def describe(config: Any) -> Any:
    """A JSON-able picture of nested dataclasses: the class of each, and its fields; the same in every process."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {f.name: describe(getattr(config, f.name)) for f in dataclasses.fields(config) if f.repr}
        return {"class": type(config).__name__, **fields}
    if isinstance(config, str | int | float | bool | None):
        return config
    if isinstance(config, list | tuple):
        return [describe(item) for item in config]
    if isinstance(config, dict):
        return {str(key): describe(value) for key, value in config.items()}
    if isinstance(config, functools.partial):  # `jax.tree_util.Partial` as well
        return {"class": "partial", "of": describe(config.func), "args": describe(config.args), **config.keywords}
    if isinstance(config, np.ndarray | jax.Array):
        array = np.asarray(config)
        digest = hashlib.sha256(array.tobytes()).hexdigest()[:12]
        return array.tolist() if array.size <= 16 else f"{array.dtype}{list(array.shape)} {digest}"
    return getattr(config, "__name__", re.sub(r" at 0x[0-9a-f]+", "", str(config)))


def versions() -> dict[str, str]:
    """What the numbers of a run depend on."""
    device = jax.devices()[0]
    return {
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "device": f"{jax.device_count()} x {device.device_kind}",
    }


def latest(workdir: Path) -> dict[str, Any] | None:
    """The configuration that the folder's run last had; None if there is none, or it cannot be read."""
    for number in range(len(list(workdir.glob("config*.json"))) + 1, 0, -1):
        path = _path(workdir, number)
        if path.is_file():
            try:
                return dict(json.loads(path.read_text()))
            except (ValueError, TypeError):
                print(f"{path} cannot be read: the options are not compared with those of the run's first part")
                return None
    return None


def write(workdir: Path, config: Any, *, first: bool) -> None:
    """Write the configuration and the date to config.json, or, unless it is the `first`, to the next config.N.json."""
    number = 1
    while not first and _path(workdir, number).exists():
        number += 1
    with replacing(_path(workdir, number)) as part:
        part.write_text(json.dumps({**present(config), "date": f"{datetime.date.today()}"}, indent=2) + "\n")


def begun(workdir: Path | None) -> str:
    """The date on which the run of a folder began, of a resumed one its first start; today, if that is not recorded."""
    try:
        return json.loads(_path(workdir, 1).read_text())["date"] if workdir else f"{datetime.date.today()}"
    except (OSError, ValueError, KeyError):
        return f"{datetime.date.today()}"


def present(config: Any) -> dict[str, Any]:
    """The configuration and the versions, as they are read again from JSON."""
    return json.loads(json.dumps({**describe(config), **versions()}, default=describe))


def differences(kept: Any, now: Any, config: Any, above: str = "") -> list[Difference]:
    """The fields of `now` that `kept` has too, with other values; more steps are free, as are the fields in FREE."""
    free, found = FREE | getattr(type(config), "FREE", frozenset()), []
    for name in [name for name in now if name in kept and f"{above}{name}" not in UNRECORDED]:
        a, b = kept[name], now[name]
        if isinstance(a, dict) and isinstance(b, dict) and a.get("class") == b.get("class") and name not in free:
            found += differences(a, b, getattr(config, name, None), f"{above}{name}.")
        elif a != b:
            more = name == "steps" and isinstance(a, int) and isinstance(b, int) and b >= a
            found.append(Difference(f"{above}{name}", a, b, more or name in free))
    return found


def _path(workdir: Path, number: int) -> Path:
    return workdir / ("config.json" if number == 1 else f"config.{number}.json")


def _short(value: Any) -> str:
    text = json.dumps(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f"{text[:57]}..."

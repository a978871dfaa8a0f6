"""What all experiments share: a preset and typed options from the command line, and a folder for what a run leaves.

An experiment is `main(config)` for a frozen dataclass of objects (an SDE, an optimiser's settings, a loop's) and a
table of presets. `--preset P` chooses one, every other field is an option: `--sde.beta-max 10`, `--steps 500`.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro

from diffjax.files import replacing

Config = TypeVar("Config")


def configure(
    presets: Mapping[str, Callable[[], Config]], doc: str | None, argv: Sequence[str] | None = None
) -> Config:
    """The configuration that the command line asks for; the first preset is the default.

    Raises:
      SystemExit: --help was given, or the preset or an option is unknown: the message lists what there is.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    name = next(iter(presets))
    for i, arg in enumerate(args):
        if arg == "--preset" or arg.startswith("--preset="):
            name = arg.partition("=")[2] or (args[i + 1] if i + 1 < len(args) else "")
            del args[i : i + 1 + (arg == "--preset")]
            break
    if name not in presets:
        raise SystemExit(f"unknown preset {name!r}; choose one of: {', '.join(presets)}")
    default = presets[name]()
    about = f"{doc or ''}\n\n--preset: {', '.join(presets)} (now {name})"
    return tyro.cli(type(default), default=default, args=args, description=about, config=(tyro.conf.AvoidSubcommands,))


def start(workdir: Path, config: Any) -> None:
    """Make the run's folder, write its resolved configuration and the day on which it began, and say where it is."""
    resumed = getattr(getattr(config, "loop", None), "resume", False)
    date = begun(workdir) if resumed else f"{datetime.date.today()}"
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps({**describe(config), **versions(), "date": date}, indent=2) + "\n")
    print(f"Writing to {workdir}/", flush=True)


def begun(workdir: Path) -> str:
    """The day on which the run of a folder began: today, if there is none."""
    kept = workdir / "config.json"
    return (json.loads(kept.read_text()) if kept.exists() else {}).get("date", f"{datetime.date.today()}")


def finish(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json, print it, and say where everything lies."""
    (workdir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    width = max(len(key) for key in summary)
    for key, value in summary.items():
        print(f"  {key:<{width}}  {value:.4g}" if isinstance(value, float) else f"  {key:<{width}}  {value}")
    print(f"Results: {workdir}/")


class Table:
    """Measured figures by name, kept in a file as they come: a run that was stopped measures the rest.

    Raises:
      SystemExit: the figures in the file were measured with other settings.
    """

    def __init__(self, path: Path, settings: Any = None):
        self.path = path
        self.rows: dict[str, Any] = self._kept()
        if settings is not None and self.rows.setdefault("settings", settings) != settings:
            raise SystemExit(f"{path} holds figures of other settings: choose another --workdir, or remove the file")

    def __getitem__(self, name: str) -> Any:
        return self.rows[name]

    def measure(self, name: str, fn: Callable[[], Mapping[str, Any]]) -> None:
        """Add what fn returns under name/..., unless it is there."""
        if not any(row.startswith(f"{name}/") for row in self.rows):
            self.rows |= {f"{name}/{key}": value for key, value in fn().items()}
            self.rows = self._kept() | self.rows  # another run may have added some
            with replacing(self.path) as part:
                part.write_text(json.dumps(self.rows, indent=2) + "\n")
            print(name, {k.rpartition("/")[2]: v for k, v in self.rows.items() if k.startswith(f"{name}/")}, flush=True)

    def _kept(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}


def describe(config: Any) -> Any:
    """A JSON-able picture of nested dataclasses: the class of each, and its fields."""
    if dataclasses.is_dataclass(config):
        fields = {f.name: describe(getattr(config, f.name)) for f in dataclasses.fields(config) if f.repr}
        return {"class": type(config).__name__, **fields}
    if isinstance(config, str | int | float | bool | None):
        return config
    if isinstance(config, list | tuple):
        return [describe(item) for item in config]
    return getattr(config, "__name__", str(config))


def versions() -> dict[str, str]:
    """What the numbers of a run depend on."""
    device = jax.devices()[0]
    return {
        "jax": jax.__version__,
        "python": sys.version.split()[0],
        "device": f"{jax.device_count()} x {device.device_kind}",
    }

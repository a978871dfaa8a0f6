"""What all experiments share: a preset and typed options from the command line, and a folder for what a run leaves.

An experiment is `main(config)` for a frozen dataclass of objects (an SDE, an optimiser's settings, a loop's) and a
table of presets. `--preset P` chooses one, every other field is an option: `--sde.beta-max 10`, `--steps 500`.

    experiment.start(config.workdir, config)          # one run in a folder, and a resumed one has the same options
    state, summary = experiment.fit(...)              # `train.fit`; after Ctrl-C the process ends
    with experiment.stage("Judging 1,000 samples"):   # what is slow says so before it begins
    experiment.finish(config.workdir, summary)
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
import tyro

from diffjax import train
from diffjax.files import replacing
from diffjax.runs import record
from diffjax.train import lock
from diffjax.train.disk import make_folder, writing

Config = TypeVar("Config")

describe, versions = record.describe, record.versions
SYNONYMS = {  # what other programs call an option
    "--learning-rate": "--lr",
    "--iterations": "--steps",
    "--epochs": "--steps",
    "--output-dir": "--workdir",
    "--logdir": "--workdir",
    "--config": "--preset",
    "--dataset": "--data",
}
UNITS = {
    "seconds": "s, of training",
    "bits_per_dim": "bits per dimension of test images",
    "fd": "Fréchet distance, in squared units of the features; a perfect model has fd_floor",
    "kid": "kernel distance of the features, no unit; a perfect model has kid_floor",
}


def configure(
    presets: Mapping[str, Callable[[], Config]], doc: str | None, argv: Sequence[str] | None = None
) -> Config:
    """The configuration that the command line asks for; the first preset is the default.

    Raises:
      SystemExit: --help was given, or the preset or an option is unknown: the message says what was meant, perhaps.
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
    options: Any = dict(default=default, description="", config=(tyro.conf.AvoidSubcommands,))
    if {"-h", "--help"} & set(args):  # tyro would join the lines of paragraphs and not break them again
        print(_about(doc or "", presets, name), end="\n\n")
    config, unknown = tyro.cli(type(default), args=args, return_unknown_args=True, **options)
    if unknown:
        known = {"--preset", *re.findall(r"(?<![\w-])--[a-z][\w.-]*", _help(type(default), options))}
        raise SystemExit("\n".join(_unknown(arg, known) for arg in unknown if arg.startswith("-") or arg == unknown[0]))
    return config


def _about(doc: str, presets: Mapping[str, Any], name: str) -> str:
    return wrapped(f"""{doc}

--preset: {", ".join(presets)} (now {name})

metrics.jsonl in the run's folder has a JSON object a line. TensorBoard shows it too: pip install tensorboard, then
tensorboard --logdir runs""")


def wrapped(text: str | None, width: int | None = None) -> str:
    """Paragraphs of `text` wrapped to the terminal; tables and commands, which are indented, stay as they are."""
    width = width or max(40, min(shutil.get_terminal_size().columns, 120))
    blocks = re.split(r"\n\s*\n", (text or "").strip("\n"))
    plain = [not any(line.startswith(" ") for line in block.splitlines()) for block in blocks]
    return "\n\n".join(textwrap.fill(b, width) if p else b for b, p in zip(blocks, plain, strict=True))


def _help(kind: type, options: dict[str, Any]) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        tyro.cli(kind, args=["--help"], **options)
    return text.getvalue()


def _unknown(arg: str, known: set[str]) -> str:
    name = arg.partition("=")[0].replace("_", "-")
    near = difflib.get_close_matches(name, known | set(SYNONYMS), 3, 0.7)
    meant = list(dict.fromkeys(SYNONYMS.get(option, option) for option in near))
    meant = [option for option in meant if option in known]
    what = "option" if arg.startswith("-") else "argument"
    nearest = f"Perhaps you meant {' or '.join(meant)}?" if meant else "--help lists the options."
    return f"Unrecognized {what} {arg}. {nearest}"


def start(workdir: Path, config: Any, *, shared: bool = False) -> None:
    """Make the run's folder and lock it, write the resolved configuration, and say where it is.

    Args:
      shared: several runs may measure into one `Table` in the folder; it is not locked.

    Raises:
      SystemExit: the folder cannot be written to, another run is in it, it holds checkpoints that the configuration
        does not resume, or it resumes them with other options (all are listed) without `override`.
    """
    if jax.process_index() != 0:
        return
    try:
        make_folder(workdir)
        if not shared:
            lock.hold(workdir)
    except (train.DiskError, train.RunningError) as error:
        raise SystemExit(str(error)) from error
    trained = [path for many in ("checkpoints/*", "*/checkpoints/*") for path in workdir.glob(many)]
    loop = getattr(config, "loop", None)
    resume = getattr(loop, "resume", False)
    if not resume and any(path.parents[1] == workdir for path in trained):
        raise SystemExit(
            f"{workdir} holds the checkpoints of a run: pass --resume to go on from there, or choose another --workdir"
        )
    kept = record.latest(workdir) if resume and trained else None
    if kept is not None:
        _compare(workdir, kept, config, getattr(loop, "override", False))
    elif not (resume and trained and (workdir / "config.json").exists()):
        with writing("config.json", workdir):
            record.write(workdir, config, first=not shared)
    print(f"Writing to {workdir}/", flush=True)


def _compare(workdir: Path, kept: dict[str, Any], config: Any, override: bool) -> None:
    """List what differs from the kept configuration, and go on if that is free or overridden."""
    found = record.differences(kept, record.present(config), config)
    bound = [difference for difference in found if not difference.free]
    if bound and not override:
        lines = "".join(f"\n  {difference}" for difference in bound)
        raise SystemExit(
            f"options differ from those that the run in {workdir} has had:{lines}\nRun with those, choose another "
            f"--workdir, or pass --override to go on with the new ones."
        )
    if found:
        print(f"Resuming with changed options: {', '.join(map(str, found))}")
        if any(d.field == "loop.steps" for d in found) and getattr(getattr(config, "optim", None), "lr_end", None):
            print("The learning rate's cosine ends with the new number of steps.")
        with writing("config.json", workdir):
            record.write(workdir, config, first=False)


def fit(*args: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
    """`train.fit` on a command line: Ctrl-C ends the process when the state is saved.

    Raises:
      SystemExit: after Ctrl-C, with the shell's code; or where `train.fit` raises for the folder or its checkpoints.
    """
    try:
        state, summary = train.fit(*args, **options)
    except (train.CheckpointError, train.DiskError, train.RunningError, FileExistsError) as error:
        raise SystemExit(str(error)) from error
    if "stopped" in summary:
        raise SystemExit(130)
    return state, summary


@contextlib.contextmanager
def stage(what: str, seconds: float | None = None) -> Iterator[None]:
    """One line for what takes long: `what`, about how long it will take if that is known, and how long it took."""
    about = f" (about {duration(seconds)})" if seconds is not None and seconds > 5 else ""
    print(f"{what}{about} ...", end="", flush=True)
    begun = time.perf_counter()
    try:
        yield
    except BaseException:
        print(flush=True)
        raise
    print(f" {duration(time.perf_counter() - begun)}", flush=True)


def duration(seconds: float) -> str:
    """ "8 s", "3 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def finish(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json, print it with its units, say where everything lies, and unlock the folder."""
    with writing("summary.json", workdir):
        (workdir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    width = max(len(key) for key in summary)
    for key, value in summary.items():
        unit = f"   ({UNITS[key]})" if key in UNITS else ""
        print(f"  {key:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}{unit}")
    print(f"Results: {workdir}/")
    lock.let_go(workdir)


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

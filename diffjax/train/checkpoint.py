"""Checkpoints of a run, written by Orbax; no other file names it.

A checkpoint is a flat dict of named arrays, "params/params/Dense_0/kernel" and so on, with typed keys stored as their
data: names, shapes and types are compared before anything is read, so a checkpoint of another network is refused with
the first difference named. Writing is atomic (a folder is renamed when it is whole) and goes on in the background;
leaving the `with` block waits for it. What comes back is what was saved, bit for bit.

When a checkpoint is whole, the SHA-256 of each of its files is written into it, `<step>/checksums.json`, in the
background as well. They are compared before it is read: a checkpoint with one bit flipped is named and passed over for
the one before. One without checksums, whose run was killed in that moment, is taken as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from diffjax.train.disk import make_folder, writing
from diffjax.train.state import AnyState, Players, TrainState, is_key
from diffjax.typing import PyTree

policies = ocp.training.preservation_policies
logging.getLogger("absl").addFilter(  # Orbax logs each traceback of a failed save four times; it is raised here anyway
    lambda record: not (record.exc_info and "orbax" in record.pathname)
)
CHECKSUMS, DAMAGED = "checksums.json", ".damaged"


class CheckpointError(RuntimeError):
    """A checkpoint is missing, cannot be read, or belongs to another network."""


class DamagedError(CheckpointError):
    """Files of a checkpoint are missing, or are not as they were written."""


class Checkpoints:
    """The checkpoints in one folder, `<folder>/<step>/`.

    Args:
      folder: made if it is not there.
      keep: how many of the latest stay; older ones are deleted when a new one is whole.
      keep_every: checkpoints at multiples of this step stay for ever; 0 for none.

    Raises:
      DiskError: the folder cannot be made or written to, here, or when a checkpoint is saved or waited for.
    """

    def __init__(self, folder: str | Path, keep: int = 3, keep_every: int = 0):
        self.folder = Path(folder).absolute()
        preserve = [policies.LatestN(keep)] + ([policies.EveryNSteps(keep_every)] if keep_every else [])
        policy: Any = policies.AnyPreservationPolicy(preserve)
        if not self.folder.is_dir():
            make_folder(self.folder)
        self._files = ocp.training.Checkpointer(str(self.folder), preservation_policy=policy)
        self._saving: _Saving | None = None

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            self.wait()
        except Exception:
            self._abandon()
            raise
        if kind is None:
            self._files.close()
        else:
            self._abandon()

    def _abandon(self) -> None:
        """Close while an exception is on its way, which an error of an earlier save must not replace."""
        with contextlib.suppress(Exception):
            self._files.close()

    def steps(self) -> list[int]:
        """The steps that can be restored, ascending."""
        return [checkpoint.step for checkpoint in self._files.checkpoints]

    def save(self, state: TrainState | Players, notes: dict[str, Any] | None = None) -> None:
        """Save `state` under its step, with `notes` (anything JSON); nothing happens if that step is there already."""
        step = int(state.step)
        if step in self.steps():
            return
        self.wait()
        arrays = jax.tree.map(_data, _named(state))
        with writing(f"the checkpoint of step {step}", self.folder):
            response = self._files.save_async(step, arrays, force=True, custom_metadata=notes or {})
        if response is not None:
            self._saving = _Saving(self.folder / str(step), response)

    def wait(self) -> None:
        """Wait for a save under way.

        Raises:
          DiskError: it could not be written; those before it are whole.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            with writing(f"the checkpoint of step {saving.folder.name}", self.folder):
                saving.result()

    def check(self) -> None:
        """Raise as `wait`, if a save has failed by now."""
        if self._saving is not None and not self._saving.is_alive():
            self.wait()

    def tidy(self) -> None:
        """Remove what runs that were killed left half written; only for the one who holds the folder's lock."""
        for part in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(part, ignore_errors=True)

    def notes(self, step: int | None = None) -> dict[str, Any]:
        """The notes saved with a step, by default the latest; {} if they were lost."""
        notes = self._files.metadata(self._find(step)).custom_metadata
        return notes if isinstance(notes, dict) else {}

    def restore(self, like: AnyState, step: int | None = None) -> AnyState:
        """The state saved at `step`, with the structure and the placement of `like`.

        By default it is the latest that is not damaged; a line on stderr names each that was passed over.

        Args:
          like: a state, or its shapes as `jax.eval_shape` gives them.

        Raises:
          CheckpointError: there is none, it is damaged or incomplete, or it was written by another network.
        """
        latest = self._find(step)
        if step is not None:
            return self._restore(like, step)
        for earlier in [s for s in reversed(self.steps()) if s <= latest]:
            try:
                return self._restore(like, earlier)
            except DamagedError as error:
                print(f"{error}.", file=sys.stderr, flush=True)
        raise CheckpointError(
            f"no checkpoint in {self.folder} can be used (steps {self.steps()} are damaged): put a copy in its place, "
            f"or train anew in another folder (--workdir)"
        )

    def set_aside(self, after: int) -> None:
        """Rename checkpoints of steps later than `after` to `<step>.damaged`, so that the run can save them anew."""
        for step in [s for s in self.steps() if s > after]:
            target = self.folder / f"{step}{DAMAGED}"
            if jax.process_index() == 0:
                shutil.rmtree(target, ignore_errors=True)
                (self.folder / str(step)).rename(target)
        if jax.process_count() > 1:
            jax.experimental.multihost_utils.sync_global_devices("set aside")  # pyright: ignore
        self._files.reload()

    def _restore(self, like: AnyState, step: int) -> AnyState:
        checked = self._check(step)
        wanted = {name: _abstract(leaf) for name, leaf in _named(like).items()}
        found = self._read(step, checked, lambda: dict(self._files.metadata(step).metadata))
        self._compare(step, found, wanted)
        arrays = self._read(step, checked, lambda: self._files.load(step, wanted))
        leaves = [_like(leaf, arrays[name]) for name, leaf in _named(like).items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _find(self, step: int | None) -> int:
        self.wait()
        steps = self.steps()
        if not steps or step not in (None, *steps):
            what = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise CheckpointError(
                f"{self.folder} holds {what}; it holds steps {steps}: check the folder (--workdir), or train first"
            )
        return steps[-1] if step is None else step

    def _check(self, step: int) -> bool:
        """Whether there were checksums to compare.

        Raises:
          DamagedError: a file is missing, or is not as it was written; it is named.
        """
        folder = self.folder / str(step)
        if not (folder / CHECKSUMS).is_file():
            return False
        try:
            kept = json.loads((folder / CHECKSUMS).read_text())
            found = {name: checksum(folder / name) for name in kept if (folder / name).is_file()}
        except (ValueError, AttributeError, TypeError, OSError) as error:
            raise self._damaged(step, f"{CHECKSUMS} cannot be read ({error})") from error
        for name in kept:
            if name not in found:
                raise self._damaged(step, f"its file {name} is missing")
            if found[name] != kept[name]:
                raise self._damaged(step, f"its file {name} is not as it was written: bits have changed")
        return True

    def _read(self, step: int, checked: bool, read: Any) -> Any:
        try:
            return read()
        except Exception as error:  # damaged files make Orbax and TensorStore raise many types
            reason = f"{type(error).__name__}: {' '.join(str(error.__cause__ or error).split())[:200]}"
            if checked:
                raise CheckpointError(
                    f"the checkpoint {self.folder / str(step)} could not be read, although its files are as they were "
                    f"written ({reason})"
                ) from error
            raise self._damaged(step, reason) from error

    def _damaged(self, step: int, reason: str) -> DamagedError:
        others = [s for s in self.steps() if s < step]
        rest = f"the one before is of step {others[-1]}" if others else "there is none before it"
        return DamagedError(f"the checkpoint {self.folder / str(step)} is damaged or incomplete ({reason}); {rest}")

    def _compare(self, step: int, found: dict[str, Any], wanted: dict[str, Any]) -> None:
        def form(leaves: dict[str, Any], name: str) -> str:
            x = leaves.get(name)
            return "absent" if x is None else f"{jnp.dtype(x.dtype).name}{json.dumps(list(x.shape))}"

        names = sorted(found.keys() | wanted.keys())
        differ = [name for name in names if form(found, name) != form(wanted, name)]
        if differ:
            name, more = differ[0], f" ({len(differ) - 1} more differ)" if differ[1:] else ""
            raise CheckpointError(
                f"the checkpoint {self.folder / str(step)} belongs to another network, optimiser or set of EMAs: "
                f"{name!r} is {form(found, name)} there and {form(wanted, name)} here{more}. Run with the "
                f"configuration that wrote it, or choose another folder (--workdir)"
            )


class _Saving(threading.Thread):
    """Waits until Orbax has written a checkpoint, then writes its checksums."""

    def __init__(self, folder: Path, response: Any):
        super().__init__(name=f"checksums of step {folder.name}")
        self.folder, self._response, self._error = folder, response, None
        self.start()

    def run(self) -> None:
        try:
            self._response.result()
            if jax.process_index() == 0:
                write_checksums(self.folder)
        except Exception as error:
            self._error = error

    def result(self) -> None:
        """Wait, and raise what was raised."""
        self.join()
        if self._error is not None:
            raise self._error


def checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checksums(folder: Path) -> None:
    """Write `checksums.json`, {file: SHA-256}, into the folder of a whole checkpoint."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    sums = {path.relative_to(folder).as_posix(): checksum(path) for path in files}
    part = folder / f"{CHECKSUMS}.part"
    part.write_text(json.dumps(sums, indent=1) + "\n")
    part.replace(folder / CHECKSUMS)


def _named(tree: PyTree) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def _data(leaf: Array) -> Array:
    return jax.random.key_data(leaf) if is_key(leaf) else leaf


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    shape = jax.eval_shape(jax.random.key_data, leaf) if is_key(leaf) else leaf
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _like(leaf: Any, data: Array) -> Array:
    if not is_key(leaf):
        return data
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(jnp.empty((), leaf.dtype)))  # leaf may be abstract

"""Checkpoints of a run, written by Orbax; no other file names it.

A checkpoint is a flat dict of named arrays, "params/params/Dense_0/kernel" and so on, with typed keys stored as their
data: names, shapes and types are compared before anything is read, so a checkpoint of another network is refused with
the first difference named. Writing is atomic (a folder is renamed when it is whole) and goes on in the background;
leaving the `with` block waits for it. What comes back is what was saved, bit for bit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint import v1 as ocp

from diffjax.train.state import AnyState, Players, TrainState, is_key
from diffjax.typing import PyTree

policies = ocp.training.preservation_policies


class CheckpointError(RuntimeError):
    """A checkpoint is missing, cannot be read, or belongs to another network."""


class Checkpoints:
    """The checkpoints in one folder, `<folder>/<step>/`.

    Args:
      folder: made if it is not there.
      keep: how many of the latest stay; older ones are deleted when a new one is whole.
      keep_every: checkpoints at multiples of this step stay for ever; 0 for none.
    """

    def __init__(self, folder: str | Path, keep: int = 3, keep_every: int = 0):
        self.folder = Path(folder).absolute()
        preserve = [policies.LatestN(keep)] + ([policies.EveryNSteps(keep_every)] if keep_every else [])
        policy: Any = policies.AnyPreservationPolicy(preserve)
        self._files = ocp.training.Checkpointer(str(self.folder), preservation_policy=policy)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: Any) -> None:
        self._files.close()

    def steps(self) -> list[int]:
        """The steps that can be restored, ascending."""
        return [checkpoint.step for checkpoint in self._files.checkpoints]

    def save(self, state: TrainState | Players, notes: dict[str, Any] | None = None) -> None:
        """Save `state` under its step, with `notes` (anything JSON); nothing happens if that step is there already."""
        step = int(state.step)
        if step not in self.steps():
            self._files.save_async(step, jax.tree.map(_data, _named(state)), force=True, custom_metadata=notes or {})

    def notes(self, step: int | None = None) -> dict[str, Any]:
        """The notes saved with a step, by default the latest; {} if they were lost."""
        notes = self._files.metadata(self._find(step)).custom_metadata
        return notes if isinstance(notes, dict) else {}

    def restore(self, like: AnyState, step: int | None = None) -> AnyState:
        """The state saved at `step` (by default the latest), with the structure and the placement of `like`.

        Args:
          like: a state, or its shapes as `jax.eval_shape` gives them.

        Raises:
          CheckpointError: there is none, it is truncated or incomplete, or it was written by another network.
        """
        step = self._find(step)
        wanted = {name: _abstract(leaf) for name, leaf in _named(like).items()}
        found = self._read(step, lambda: dict(self._files.metadata(step).metadata))
        self._compare(step, found, wanted)
        arrays = self._read(step, lambda: self._files.load(step, wanted))
        leaves = [_like(leaf, arrays[name]) for name, leaf in _named(like).items()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _find(self, step: int | None) -> int:
        self._files.wait()  # for a save under way
        steps = self.steps()
        if not steps or step not in (None, *steps):
            what = "no checkpoint" if step is None else f"no checkpoint of step {step}"
            raise CheckpointError(
                f"{self.folder} holds {what}; it holds steps {steps}: check --workdir, or train first"
            )
        return steps[-1] if step is None else step

    def _read(self, step: int, read: Any) -> Any:
        try:
            return read()
        except Exception as error:  # damaged files make Orbax and TensorStore raise many types
            others = [s for s in self.steps() if s != step]
            advice = f"the run then goes on from step {others[-1]}" if others else "no other step is left: train anew"
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise CheckpointError(
                f"the checkpoint {self.folder / str(step)} is truncated or incomplete "
                f"({type(error).__name__}: {reason}). Delete that folder and run again with --resume; {advice}"
            ) from error

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
                f"configuration that wrote it, or choose another --workdir"
            )


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

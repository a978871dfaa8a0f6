"""The loop around `train_steps`: data, logs, checkpoints, samples, a progress bar, and a clean end.

A run is a pure function of its configuration: batch n belongs to step n, noise follows from the state's key and n, so a
run that was stopped and resumed ends with the same bits as one that was not. Its folder holds

    metrics.jsonl  tensorboard/     means over the steps since the last line
    checkpoints/<step>/             the whole state
    samples/                        what `on_sample` draws

A loss that is not finite stops the run before that state is saved. Ctrl-C and SIGTERM let the call end and save: Ctrl-C
then returns what there is, and SIGTERM leaves. A checkpoint that was damaged on the disk is passed over for the one
before it, and the folder is locked: two runs do not share one. Without a folder all stays in memory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import itertools
import math
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.checks import check_count, look_like_levels
from diffjax.printing import short
from diffjax.train import lock
from diffjax.train.checkpoint import Checkpoints
from diffjax.train.console import progress, stop_signals
from diffjax.train.disk import FULL, DiskError, make_folder
from diffjax.train.meter import Meter, Stopwatch
from diffjax.train.parallel import TrainSteps
from diffjax.train.state import AdversarialState, AnyState, TrainState
from diffjax.train.writers import Memory, Writer
from diffjax.typing import PyTree

Batches = Callable[[int], Iterator[PyTree]]  # start -> the batches [B, ...] of the steps start + 1, start + 2, ...
OnSample = Callable[[Any], Mapping[str, np.ndarray] | None]
OnLog = Callable[[Any], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long to train, and how often to do what; 0 turns an `every` off. The last step always does all of it."""

    steps: int = 10_000
    """Steps in all, those before a resume included."""
    steps_per_call: int = 1
    """Steps in one compiled call. 5 to 20 help an accelerator."""
    log_every: int = 50
    """Steps between lines of metrics."""
    checkpoint_every: int = 1_000
    """Steps between checkpoints."""
    sample_every: int = 1_000
    """Steps between sample grids."""
    keep: int = 3
    """How many of the latest checkpoints stay."""
    keep_every: int = 0
    """Checkpoints at multiples of this step stay for ever."""
    resume: bool = False
    """Go on from the latest checkpoint in the workdir, if there is one."""
    override: bool = False
    """Resume though options differ from those that the run began with, which are in its config.json."""

    FREE: ClassVar[frozenset[str]] = frozenset(
        {"steps_per_call", "log_every", "checkpoint_every", "sample_every", "keep", "keep_every", "resume", "override"}
    )  # what a resumed run may change without --override; `steps` may become more

    def __post_init__(self):
        for name in ("steps", "steps_per_call", "keep"):
            check_count(name, getattr(self, name))
        for name in ("log_every", "checkpoint_every", "sample_every", "keep_every"):
            check_count(name, getattr(self, name), 0)
        for name in ("steps", "log_every", "checkpoint_every", "sample_every"):
            value = getattr(self, name)
            if value % self.steps_per_call:
                raise ValueError(f"{name} must be a multiple of steps_per_call = {self.steps_per_call}, got {value}")


def fit(
    train_steps: TrainSteps,
    state: AnyState,
    batches: Batches,
    workdir: str | Path | None = None,
    config: LoopConfig = LoopConfig(),
    on_sample: OnSample | None = None,
    on_log: OnLog | None = None,
) -> tuple[AnyState, dict[str, Any]]:
    """Train from `state` (or, resuming, from the latest checkpoint) to `config.steps`.

    Args:
      train_steps: `jit_train_steps(loss, tx, ema_decays)`, or anything with its signature, as `adversarial` makes it.
      state: the state before the first step. It stays the caller's.
      batches: `batches(start)` yields the batch of step start + 1, then the next ones; NumPy arrays [B, ...].
      workdir: the run's folder; None keeps everything in memory.
      on_sample: draws pictures, a dict of uint8 [H, W, 1 or 3], from a state that it must not keep.
      on_log: further figures of a line of metrics, from a state that it must not keep.

    Returns:
      The last state, and the summary: steps, seconds (of training, over all resumes, without sampling and saving),
      examples_per_s (of this run, without the first call, which compiles; None if there was no other), loss (the last).
      After Ctrl-C it also has "stopped": "SIGINT", and the state is saved. Without a workdir it has "rows", the lines
      of metrics.

    Raises:
      FileExistsError: the workdir holds checkpoints and `config.resume` is off.
      CheckpointError: the checkpoint to resume from belongs to another network, or all of them are damaged.
      DiskError: the workdir cannot be written to: the disk is full, say. What was saved before is whole.
      RunningError: another run writes to the workdir.
      FloatingPointError: the loss or its gradient is not finite; the step is named.
      TypeError: `batches` is no function of the first step, or `on_sample` returns no pictures.
      ValueError: the data ended, or the workdir is at a later step than `config.steps`.
      SystemExit: after SIGTERM, when the state is saved.
    """
    _check_arguments(train_steps, state, workdir, config)
    _check_batches(batches)
    k = config.steps_per_call
    with contextlib.ExitStack() as stack:
        stack.enter_context(_advice(workdir))
        saved = None if workdir is None else stack.enter_context(_folder(workdir, config))
        state, notes = _start(saved, state, config)
        start = int(state.step)
        writer = stack.enter_context(Memory() if workdir is None else Writer(workdir, start))
        bar = stack.enter_context(progress(start, config.steps))
        stop = stack.enter_context(stop_signals())
        meter, watch = Meter(notes.get("loss")), Stopwatch(notes.get("seconds", 0.0))
        run = _Run(config, saved, writer, on_sample, on_log, meter, watch)
        stream = iter(batches(start)) if start < config.steps else iter(())
        for n in range(start + k, config.steps + 1, k):
            batch = _stack(stream, k, n)
            if n == start + k:
                _check_units(batch)
            state, metrics = train_steps(state, batch)
            run.meter.add(n, metrics)
            run.count(math.prod(jax.tree.leaves(batch)[0].shape[:2]) * jax.process_count())
            stopping = bool(stop)
            run.events(n, state, stopping)
            bar.set_postfix_str(f"loss={run.meter.loss:.4g}", refresh=False)
            bar.update(k)
            if stopping:
                break
        bar.refresh()
        summary = run.summary(int(state.step))
    return state, summary | _stopped(stop, workdir, summary["steps"])


def _stopped(stop: list[int], workdir: str | Path | None, step: int) -> dict[str, str]:
    """Say where a run stopped, if it did; after SIGTERM leave with the shell's code for it."""
    if not stop:
        return {}
    where = (
        "nothing is on disk"
        if workdir is None
        else f"saved in {workdir}; go on with LoopConfig(resume=True) (--resume)"
    )
    print(f"stopped at step {step}: {where}", file=sys.stderr, flush=True)
    if stop[0] == signal.SIGTERM:
        raise SystemExit(128 + stop[0])
    return {"stopped": signal.Signals(stop[0]).name}


@dataclasses.dataclass
class _Run:
    """What happens between calls."""

    config: LoopConfig
    saved: Checkpoints | None
    writer: Writer | Memory
    on_sample: OnSample | None
    on_log: OnLog | None
    meter: Meter
    watch: Stopwatch
    examples: int = 0  # seen in this run after its first call
    warm: float | None = None  # the watch's seconds at the end of that call

    def count(self, examples: int) -> None:
        """A call on so many examples is under way; wait for the first one, which compiles."""
        if self.warm is None:
            self.meter.read()
            self.warm = self.watch.seconds()
        else:
            self.examples += examples

    def events(self, n: int, state: TrainState | AdversarialState, stopped: bool) -> None:
        """Log, save and sample what is due after step n."""
        config, end = self.config, n == self.config.steps
        if end or stopped or _due(n, config.log_every):
            figures = self.meter.means() | {"seconds": self.watch.seconds()}
            with self.watch.paused():
                self.writer.scalars(n, figures | dict(self.on_log(state) if self.on_log else {}))
                if self.saved is not None:
                    self.saved.check()
        if end or stopped or _due(n, config.checkpoint_every):
            self.save(state)
        if self.on_sample is not None and not stopped and (end or _due(n, config.sample_every)):
            self.meter.read()
            with self.watch.paused():
                images = self.on_sample(state)
                self.writer.images(n, {} if images is None else images)

    def save(self, state: TrainState | AdversarialState) -> None:
        self.meter.read()
        with self.watch.paused():
            if not _all_finite(state.params):
                raise FloatingPointError(f"a parameter is not finite at step {int(state.step)}")
            if self.saved is not None:
                self.saved.save(state, {"seconds": self.watch.seconds(), "loss": self.meter.loss})

    def summary(self, step: int) -> dict[str, Any]:
        seconds = self.watch.seconds()
        rate = self.examples / (seconds - self.warm) if self.examples and self.warm is not None else None
        rows = {"rows": self.writer.rows} if isinstance(self.writer, Memory) else {}
        return {"steps": step, "seconds": seconds, "examples_per_s": rate, "loss": self.meter.loss, **rows}


@contextlib.contextmanager
def _folder(workdir: str | Path, config: LoopConfig) -> Iterator[Checkpoints]:
    """The checkpoints in the run's folder, which is locked meanwhile."""
    with contextlib.ExitStack() as stack:
        if jax.process_index() == 0:
            make_folder(workdir)
            stack.enter_context(lock.locked(workdir))
        saved = stack.enter_context(Checkpoints(Path(workdir) / "checkpoints", config.keep, config.keep_every))
        if jax.process_index() == 0:
            saved.tidy()
        yield saved


def _start(saved: Checkpoints | None, state: AnyState, config: LoopConfig) -> tuple[AnyState, dict[str, Any]]:
    """The state to go on from, and the notes saved with it."""
    if saved is None and config.resume:
        raise ValueError("LoopConfig(resume=True) needs a workdir with the checkpoints to go on from")
    steps, notes = saved.steps() if saved else [], {}
    if saved and steps and not config.resume:
        raise FileExistsError(
            f"{saved.folder} holds checkpoints up to step {steps[-1]}: pass LoopConfig(resume=True) (--resume) to go "
            f"on from there, or choose another folder (--workdir)"
        )
    if saved and steps:
        state = saved.restore(state)
        notes = saved.notes(int(state.step))
        saved.set_aside(after=int(state.step))
        if int(state.step) < steps[-1]:
            print(f"going on from step {int(state.step)}", file=sys.stderr, flush=True)
    if int(state.step) > config.steps:
        raise ValueError(f"the run is at step {int(state.step)} already, later than steps = {config.steps}")
    if int(state.step) % config.steps_per_call:
        raise ValueError(
            f"step {state.step} is no multiple of steps_per_call = {config.steps_per_call}: choose a divisor"
        )
    return state, notes


def _check_arguments(train_steps: Any, state: Any, workdir: Any, config: Any) -> None:
    """Raise a TypeError where arguments are exchanged, or are something else."""
    fits = {
        "train_steps": (callable(train_steps), train_steps, "what `jit_train_steps` makes"),
        "state": (hasattr(state, "step") and hasattr(state, "params"), state, "TrainState.create(key, params, tx)"),
        "workdir": (isinstance(workdir, str | Path | NoneType), workdir, "a path or None"),
        "config": (isinstance(config, LoopConfig), config, "LoopConfig(steps=2000)"),
    }
    for name, (fit, value, expected) in fits.items():
        if not fit:
            raise TypeError(
                f"train.fit takes (train_steps, state, batches, workdir, config): {name} is {expected}, got "
                f"{short(value)[:200]}"
            )


def _check_batches(batches: Any) -> None:
    """Raise a TypeError unless `batches` can be called with the first step."""
    what = "batches must be a function of a step, start -> an iterator over the batches of the steps start + 1, ..."
    if not callable(batches):
        raise TypeError(f"{what}, got {type(batches).__name__}: for an array, lambda start: data.batches(...)")
    with contextlib.suppress(ValueError):  # builtins have no signature
        try:
            inspect.signature(batches).bind(0)
        except TypeError as error:
            raise TypeError(f"{what}, but it cannot be called with one number: {error}") from None


def _stack(stream: Iterator[PyTree], k: int, n: int) -> PyTree:
    """The next k batches as one tree of arrays [k, B, ...], for the call that ends at step n."""
    chunk = list(itertools.islice(stream, k))
    if len(chunk) < k:
        raise ValueError(f"the data ended after {n - k + len(chunk)} steps: `batches(start)` must repeat without end")
    return jax.tree.map(lambda *xs: np.stack(xs), *chunk)


def _check_units(batch: PyTree) -> None:
    """Raise a ValueError where the images of the first batch, [k, B, H, W, C], are levels 0 ... 255."""
    image = batch.get("image") if isinstance(batch, dict) else batch
    if isinstance(image, np.ndarray) and look_like_levels(image[0]):
        raise ValueError(
            "the batches' images are levels 0 ... 255, but networks take [-1, 1]: divide by 127.5 and take 1, or let "
            "dj.data.batches do it, of uint8"
        )


def _due(n: int, every: int) -> bool:
    return every > 0 and n % every == 0


@jax.jit
def _all_finite(tree: PyTree) -> jax.Array:
    return jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


@contextlib.contextmanager
def _advice(workdir: str | Path | None) -> Iterator[None]:
    """Say what is left, what may be the cause and what to do, when a figure is not finite or the disk is full."""
    try:
        yield
    except FloatingPointError as error:
        kept, again = _kept(workdir, "The last good checkpoint is")
        raise FloatingPointError(
            f"{error}. {kept}. Look at the batch of that step (NaN, or units that are not meant), at divisions by 0 in "
            f"the process and the loss, and at the learning rate and the clipping; then run again{again}."
        ) from None
    except DiskError as error:
        kept, again = _kept(workdir, "Whole is the checkpoint of")
        remedy = "Make room" if error.errno in FULL else "Choose a folder that can be written to"
        raise DiskError(error.errno, f"{error.strerror}. {kept}. {remedy}, and run again{again}.") from error


def _kept(workdir: str | Path | None, what: str) -> tuple[str, str]:
    folder = Path(workdir or "") / "checkpoints"
    found = folder.iterdir() if workdir is not None and folder.is_dir() else ()
    steps = sorted(int(path.name) for path in found if path.name.isdigit())
    if not steps:
        return "No checkpoint came before", ""
    return f"{what} step {steps[-1]} in {folder}", " with LoopConfig(resume=True) (--resume)"

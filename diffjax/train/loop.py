"""The loop around `train_steps`: data, logs, checkpoints, samples, a progress bar, and a clean end.

A run is a pure function of its configuration: batch n belongs to step n, noise follows from the state's key and n, so a
run that was stopped and resumed ends with the same bits as one that was not. Its folder holds

    metrics.jsonl  tensorboard/     means over the steps since the last line
    checkpoints/<step>/             the whole state
    samples/                        what `on_sample` draws

A loss that is not finite stops the run before that state is saved. Ctrl-C and SIGTERM let the call end, save and leave.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.train.checkpoint import Checkpoints
from diffjax.train.console import progress, stop_signals
from diffjax.train.meter import Meter, Stopwatch
from diffjax.train.parallel import TrainSteps
from diffjax.train.state import AnyState, Players, TrainState
from diffjax.train.writers import Writer
from diffjax.typing import PyTree

Batches = Callable[[int], Iterator[PyTree]]  # start -> the batches [B, ...] of the steps start + 1, start + 2, ...
OnSample = Callable[[Any], Mapping[str, np.ndarray] | None]


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

    def __post_init__(self):
        if self.steps < 1 or self.steps_per_call < 1 or self.keep < 1:
            raise ValueError(f"steps, steps_per_call and keep must be at least 1, got {self}")
        for name in ("steps", "log_every", "checkpoint_every", "sample_every"):
            value = getattr(self, name)
            if value < 0 or value % self.steps_per_call:
                raise ValueError(f"{name} must be a multiple of steps_per_call = {self.steps_per_call}, got {value}")


def fit(
    train_steps: TrainSteps,
    state: AnyState,
    batches: Batches,
    workdir: str | Path,
    config: LoopConfig,
    on_sample: OnSample | None = None,
) -> tuple[AnyState, dict[str, Any]]:
    """Train from `state` (or, resuming, from the latest checkpoint) to `config.steps`.

    Args:
      train_steps: `jit_train_steps(loss, tx, ema_decays)`, or anything with its signature, as `players` makes it.
      state: the state before the first step. It stays the caller's.
      batches: `batches(start)` yields the batch of step start + 1, then the next ones; NumPy arrays [B, ...].
      workdir: the run's folder.
      on_sample: draws pictures, a dict of uint8 [H, W, 1 or 3], from a state that it must not keep.

    Returns:
      The last state, and the summary: steps, seconds (of training, over all resumes, without sampling and saving),
      examples_per_s (of this run, without the first call, which compiles; None if there was no other), loss (the last).

    Raises:
      FileExistsError: the workdir holds checkpoints and `config.resume` is off.
      CheckpointError: the checkpoint to resume from cannot be used.
      FloatingPointError: the loss or its gradient is not finite; the step is named.
      SystemExit: after Ctrl-C or SIGTERM, when the state is saved; with the shell's code for the signal.
    """
    k = config.steps_per_call
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(Checkpoints(Path(workdir) / "checkpoints", config.keep, config.keep_every))
        state, notes = _start(saved, state, config)
        start = int(state.step)
        writer = stack.enter_context(Writer(workdir, start))
        bar = stack.enter_context(progress(start, config.steps))
        stop = stack.enter_context(stop_signals())
        stack.enter_context(_advice(saved))
        run = _Run(config, saved, writer, on_sample, Meter(notes.get("loss")), Stopwatch(notes.get("seconds", 0.0)))
        stream = batches(start) if start < config.steps else iter(())
        for n in range(start + k, config.steps + 1, k):
            batch = _stack(stream, k, n)
            state, metrics = train_steps(state, batch)
            run.meter.add(n, metrics)
            run.count(math.prod(jax.tree.leaves(batch)[0].shape[:2]) * jax.process_count())
            bar.update(k)
            bar.set_postfix_str(f"loss={run.meter.loss:.4g}", refresh=False)
            run.events(n, state, stopped=bool(stop))
            if stop:
                bar.write(f"stopped at step {n}, saved in {saved.folder}: continue with --resume", file=sys.stderr)
                raise SystemExit(128 + stop[0])
        return state, run.summary(int(state.step))


@dataclasses.dataclass
class _Run:
    """What happens between calls."""

    config: LoopConfig
    saved: Checkpoints
    writer: Writer
    on_sample: OnSample | None
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

    def events(self, n: int, state: TrainState | Players, stopped: bool) -> None:
        """Log, save and sample what is due after step n."""
        config, end = self.config, n == self.config.steps
        if end or stopped or _due(n, config.log_every):
            self.writer.scalars(n, self.meter.means() | {"seconds": self.watch.seconds()})
        if end or stopped or _due(n, config.checkpoint_every):
            self.save(state)
        if self.on_sample is not None and not stopped and (end or _due(n, config.sample_every)):
            self.meter.read()
            with self.watch.paused():
                self.writer.images(n, self.on_sample(state) or {})

    def save(self, state: TrainState | Players) -> None:
        self.meter.read()
        with self.watch.paused():
            if not _all_finite(state.params):
                raise FloatingPointError(f"a parameter is not finite at step {int(state.step)}")
            self.saved.save(state, {"seconds": self.watch.seconds(), "loss": self.meter.loss})

    def summary(self, step: int) -> dict[str, Any]:
        seconds = self.watch.seconds()
        rate = self.examples / (seconds - self.warm) if self.examples and self.warm is not None else None
        return {"steps": step, "seconds": seconds, "examples_per_s": rate, "loss": self.meter.loss}


def _start(saved: Checkpoints, state: AnyState, config: LoopConfig) -> tuple[AnyState, dict[str, Any]]:
    """The state to go on from, and the notes saved with it."""
    steps, notes = saved.steps(), {}
    if steps and not config.resume:
        raise FileExistsError(
            f"{saved.folder} holds checkpoints up to step {steps[-1]}: pass --resume to go on from there, or choose "
            f"another --workdir"
        )
    if steps:
        state, notes = saved.restore(state), saved.notes()
    if int(state.step) % config.steps_per_call:
        raise ValueError(
            f"step {state.step} is no multiple of steps_per_call = {config.steps_per_call}: choose a divisor"
        )
    return state, notes


def _stack(stream: Iterator[PyTree], k: int, n: int) -> PyTree:
    """The next k batches as one tree of arrays [k, B, ...], for the call that ends at step n."""
    chunk = list(itertools.islice(stream, k))
    if len(chunk) < k:
        raise ValueError(f"the data ended after {n - k + len(chunk)} steps: `batches(start)` must repeat without end")
    return jax.tree.map(lambda *xs: np.stack(xs), *chunk)


def _due(n: int, every: int) -> bool:
    return every > 0 and n % every == 0


@jax.jit
def _all_finite(tree: PyTree) -> jax.Array:
    return jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


@contextlib.contextmanager
def _advice(saved: Checkpoints) -> Iterator[None]:
    """Say what is left and what to do when a figure is not finite."""
    try:
        yield
    except FloatingPointError as error:
        steps = saved.steps()
        kept = (
            f"The last good checkpoint is step {steps[-1]} in {saved.folder}" if steps else "No checkpoint came before"
        )
        raise FloatingPointError(
            f"{error}. {kept}. Look for NaN in the data of that step, lower the learning rate or clip the gradient, "
            f"then run again{' with --resume' if steps else ''}."
        ) from None

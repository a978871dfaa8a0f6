"""The loop around `train_steps`: data, logs, checkpoints, samples, a progress bar, and a clean end.

A run is a pure function of its configuration: batch n belongs to step n, noise follows from the state's key and n, so a
run that was stopped and resumed ends with the same bits as one that was not. Its folder holds

    metrics.jsonl  tensorboard/     means over the steps since the last line
    checkpoints/<step>/             the whole state
    samples/                        what `on_sample` draws

A loss that is not finite stops the run before that state is saved. Ctrl-C and SIGTERM let the step end, save, and leave.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from diffjax.train.checkpoint import Checkpoints
from diffjax.train.meter import Meter, Stopwatch
from diffjax.train.parallel import TrainSteps
from diffjax.train.state import TrainState
from diffjax.train.step import batch_size
from diffjax.train.writers import Writer
from diffjax.typing import PyTree

Batches = Callable[[int], Iterator[PyTree]]  # start -> the batches [B, ...] of the steps start + 1, start + 2, ...
OnSample = Callable[[TrainState], Mapping[str, np.ndarray] | None]


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """How long to train, and how often to do what; 0 turns an `every` off. The last step always does all of it."""

    steps: int = 10_000
    """Steps in all, those before a resume included."""
    steps_per_call: int = 1
    """Steps in one compiled call. Keep 1 for convolutions on a CPU; 5 to 20 helps an accelerator with small networks."""
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
    state: TrainState,
    batches: Batches,
    workdir: str | Path,
    config: LoopConfig,
    on_sample: OnSample | None = None,
) -> tuple[TrainState, dict[str, Any]]:
    """Train from `state` (or, resuming, from the latest checkpoint) to `config.steps`.

    Args:
      train_steps: `jit_train_steps(loss, tx, ema_decays)`, or anything with its signature.
      state: the state before the first step. It stays the caller's.
      batches: `batches(start)` yields the batch of step start + 1, then the next ones, without end. NumPy arrays [B, ...].
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
        bar = stack.enter_context(_progress(start, config.steps))
        stop = stack.enter_context(_stop_signals())
        stack.enter_context(_advice(saved))
        meter, watch, stream = Meter(notes.get("loss")), Stopwatch(notes.get("seconds", 0.0)), batches(start)
        rate = _Rate()
        for n in range(start + k, config.steps + 1, k):
            batch = _stack(stream, k, n)
            state, metrics = train_steps(state, batch)
            meter.add(n, metrics)
            ...

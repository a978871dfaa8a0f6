"""The figures of a run's steps, and its time."""

import contextlib
import itertools
import time
from collections.abc import Iterator

import numpy as np

from diffjax.train.step import Metrics


class Meter:
    """Gathers the metrics of calls of k steps, one call late.

    JAX returns before the device is done. The metrics of a call are therefore read after the next call is under way:
    the device always has work, and a loss that is not finite is still found before anything is saved.
    """

    def __init__(self, loss: float | None = None):
        self.loss = loss  # the mean of the last call read
        self._pending: tuple[int, Metrics] | None = None
        self._window: list[dict[str, np.ndarray]] = []

    def add(self, step: int, metrics: Metrics) -> None:
        """Take the metrics [k] of the call that ends at `step`, and read those of the call before."""
        self.read()
        self._pending = step, metrics

    def read(self) -> None:
        """Wait for the last call.

        Raises:
          FloatingPointError: the loss or the gradient of one of its steps is not finite; the step is named.
        """
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = {name: np.asarray(value) for name, value in metrics.items()}
        k = len(values["loss"])
        for i, name in itertools.product(range(k), ("loss", "grad_norm")):
            if name in values and not np.isfinite(values[name][i]):
                raise FloatingPointError(f"{name} is {values[name][i]} at step {step - k + i + 1}")
        self.loss = float(values["loss"].mean())
        self._window.append(values)

    def means(self) -> dict[str, float]:
        """The mean of each metric over all steps since the last time."""
        self.read()
        window, self._window = self._window, []
        names = sorted(window[0], key="loss".__ne__)  # the loss first
        return {name: float(np.concatenate([w[name] for w in window]).mean(dtype=np.float64)) for name in names}


class Stopwatch:
    """Seconds spent in training, those before a resume included."""

    def __init__(self, seconds: float = 0.0):
        self._start = time.perf_counter() - seconds

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count."""
        seconds = self.seconds()
        try:
            yield
        finally:
            self._start = time.perf_counter() - seconds

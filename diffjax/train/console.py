"""The run as seen from a terminal: a progress bar, and a request to stop."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

import jax
from tqdm import tqdm


def progress(start: int, steps: int) -> tqdm:
    """A bar of steps on stderr; in a log file it is redrawn twice a minute."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    bar = tqdm(
        total=steps,
        initial=start,
        unit="step",
        dynamic_ncols=True,
        mininterval=interval,
        maxinterval=max(10.0, interval),
        disable=jax.process_index() != 0,
    )
    bar.set_postfix_str("compiling" if start < steps else "")
    return bar


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that receives the first SIGINT or SIGTERM; a second one acts as usual.

    Only the main thread gets signals; elsewhere the list stays empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    def catch(number, frame):
        caught.append(number)
        restore()

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        restore()

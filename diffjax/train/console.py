"""The run as seen from a terminal: a progress bar, and a request to stop."""

import contextlib
import signal
import socket
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

    A line says at once that the signal was heard. Python's own handlers wait until compiled code returns, so the line
    comes from a thread that listens to `signal.set_wakeup_fd`. Only the main thread gets signals; elsewhere the list
    stays empty.
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
        with _announced():
            yield caught
    finally:
        restore()


@contextlib.contextmanager
def _announced() -> Iterator[None]:
    """Print a line when the first SIGINT or SIGTERM arrives, whatever the main thread does."""
    heard, wake = socket.socketpair()
    wake.setblocking(False)
    other = signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)

    def listen():
        while number := heard.recv(1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                name = signal.Signals(number[0]).name
                how = "Ctrl-C again stops at once" if number[0] == signal.SIGINT else "a second one stops at once"
                print(f"\n{name} heard: stopping after the step under way ({how})", file=sys.stderr, flush=True)
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(other)
        wake.close()  # ends the thread
        thread.join()
        heard.close()

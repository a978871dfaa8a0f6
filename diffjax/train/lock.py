"""One run in a folder: a lock that names its owner, and that a dead owner cannot keep.

The owner holds an `flock` on `<folder>/.lock`, which the system lets go when a process ends, however it ends. For
other computers that share the disk, where that may not be seen, the file holds {"host", "pid", "since"} and is touched
every minute: a lock of another host that was not touched for ten is taken over.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BEAT, STALE = 60.0, 600.0  # seconds
_held: dict[Path, tuple[int, Lock]] = {}  # of this process, with the thread that took each


class RunningError(RuntimeError):
    """Another run writes to the folder."""


class Lock:
    """The lock of a folder that exists, taken at once.

    Raises:
      RunningError: another run holds it; the message names its process and host.
    """

    def __init__(self, folder: str | Path):
        self.path = Path(folder).absolute() / ".lock"
        self._file = self._open()
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": f"{datetime.datetime.now():%Y-%m-%d %H:%M:%S}",
        }
        self._file.truncate(0)
        self._file.write(json.dumps(owner) + "\n")
        self._file.flush()
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def release(self) -> None:
        """Remove the lock; nothing happens if it was released before."""
        if not self._ended.is_set():
            self._ended.set()
            self.path.unlink(missing_ok=True)
            self._file.close()

    def _open(self) -> IO[str]:
        while True:
            file = self.path.open("a+")
            owner = self._owner(file)
            if not _flock(file) or self._elsewhere(owner):
                file.close()
                who = "process {pid} on {host}, since {since}".format(**{"pid": "?", "host": "?", "since": "?"} | owner)
                raise RunningError(
                    f"another run writes to {self.path.parent} ({who}): wait until it ends, or choose another folder "
                    f"(--workdir)"
                )
            with contextlib.suppress(FileNotFoundError):
                if _same(file, self.path):
                    return file
            file.close()  # its owner removed it between the two calls: try again

    def _owner(self, file: IO[str]) -> dict[str, Any]:
        file.seek(0)
        with contextlib.suppress(json.JSONDecodeError):
            owner = json.loads(file.read())
            return owner if isinstance(owner, dict) else {}
        return {}

    def _elsewhere(self, owner: dict[str, Any]) -> bool:
        """Whether the owner is a live run on another computer, or one here where flock does not exist."""
        host, here = owner.get("host"), owner.get("host") == socket.gethostname()
        if here or host is None:
            return fcntl is None and here and owner.get("pid") != os.getpid() and self._fresh()
        return self._fresh()

    def _fresh(self) -> bool:
        return time.time() - self.path.stat().st_mtime < STALE

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.path)


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Hold the lock of a folder that exists; inside `hold`, or another `locked`, of the same thread it is held already.

    Raises:
      RunningError: another run, or another thread, holds it.
    """
    mine = hold(folder)
    try:
        yield
    finally:
        if mine:
            let_go(folder)


def hold(folder: str | Path) -> bool:
    """Take the lock of a folder until `let_go`, or the end of the process; False if this thread holds it already.

    Raises:
      RunningError: another run, or another thread, holds it.
    """
    path, thread = Path(folder).resolve(), threading.get_ident()
    if path in _held and _held[path][0] == thread:
        return False
    _held[path] = thread, Lock(path)
    return True


def let_go(folder: str | Path) -> None:
    """Give up the lock of a folder, if this process holds it."""
    _, lock = _held.pop(Path(folder).resolve(), (0, None))
    if lock is not None:
        lock.release()


def _flock(file: IO[str]) -> bool:
    """Whether the lock was taken, or the disk has no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _same(file: IO[str], path: Path) -> bool:
    return os.fstat(file.fileno()).st_ino == path.stat().st_ino

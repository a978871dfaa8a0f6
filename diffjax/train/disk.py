"""Errors of the disk, with messages: what was being written, how much room is left, what is kept, and how to go on."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)
KINDS = (*FULL, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EEXIST)


class DiskError(OSError):
    """A folder cannot be written to: the disk is full, read-only or damaged, or there is no right to."""


@contextlib.contextmanager
def writing(what: str, folder: str | Path) -> Iterator[None]:
    """Turn an error of the disk inside into a `DiskError` that says what was being written to which folder.

    Libraries wrap such errors in many types, so all causes of an exception are searched, and its text.
    """
    try:
        yield
    except Exception as error:
        number = _number(error)
        if number is None or isinstance(error, DiskError):
            raise
        raise DiskError(number, f"{os.strerror(number)}: could not write {what} to {folder}{room(folder)}") from error


def make_folder(folder: str | Path) -> Path:
    """Make `folder` with its parents, if need be, and make sure that it can be written to.

    Raises:
      DiskError: it, or a folder above it, is a file; it is read-only, or the disk is full.
    """
    folder = Path(folder)
    with writing("a run", folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    return folder


def room(folder: str | Path) -> str:
    """ ", 12.3 MB free", of the disk of `folder` or of the nearest folder above it that exists; "" if unknown."""
    for place in (Path(folder), *Path(folder).absolute().parents):
        with contextlib.suppress(OSError):
            return f", {shutil.disk_usage(place).free / 1e6:,.1f} MB free"
    return ""


def _number(error: BaseException | None) -> int | None:
    """The number of an operating system's error of these kinds among the causes of `error`, or named in its text."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in KINDS:
            return error.errno
        for number in KINDS[:4]:  # TensorStore raises ValueError("... [OS error 28: ENOSPC No space left on device]")
            if os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None

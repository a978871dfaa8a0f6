"""Errors of the disk in words."""

import errno

import pytest

from diffjax.train import DiskError
from diffjax.train.disk import make_folder, writing


def plain(error):
    raise error


def wrapped(error):
    try:
        raise error
    except Exception as inner:
        raise RuntimeError("a library's own") from inner


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (OSError(errno.EROFS, "Read-only file system"), errno.EROFS),
        (PermissionError(errno.EACCES, "Permission denied"), errno.EACCES),
        (ValueError("RESOURCE_EXHAUSTED: Error writing [OS error 28: ENOSPC No space left on device]"), errno.ENOSPC),
        (ValueError("[OS error 122: EDQUOT Disk quota exceeded]"), errno.EDQUOT),
    ],
)
def test_a_disk_s_error_is_found_however_it_is_wrapped(tmp_path, error, number):
    for fail in (plain, wrapped):
        with (
            pytest.raises(DiskError, match=r"could not write the sums to .*, [\d,.]+ MB free") as caught,
            writing("a run", tmp_path),
            writing("the sums", tmp_path),
        ):
            fail(error)
        assert caught.value.errno == number


def test_other_errors_pass(tmp_path):
    with pytest.raises(KeyError), writing("the sums", tmp_path):
        raise KeyError("x")
    with pytest.raises(FileNotFoundError), writing("the sums", tmp_path):
        (tmp_path / "none").read_text()


def test_a_folder_is_made_or_refused(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir() and not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DiskError, match=str(folder)):
            make_folder(folder)

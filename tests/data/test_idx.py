import gzip
import struct

import numpy as np
import pytest

from diffjax.data.idx import read_idx


def write(path, data):
    path.write_bytes(gzip.compress(data))
    return path


HEADER = b"\0\0\x08\x02" + struct.pack(">2I", 2, 3)


def test_reads_what_the_format_says(tmp_path):
    x = read_idx(write(tmp_path / "x.gz", HEADER + bytes(range(6))))
    np.testing.assert_array_equal(x, [[0, 1, 2], [3, 4, 5]])
    assert x.dtype == np.uint8


def test_damaged_files(tmp_path):
    good = gzip.compress(HEADER + bytes(range(6)))
    path = tmp_path / "x.gz"
    flipped = bytearray(good)
    flipped[-6] ^= 1  # in the CRC
    for broken in (good[:-4], good[:15], bytes(flipped), b"<html>not found</html>"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="truncated or corrupt"):
            read_idx(path)


def test_wrong_contents(tmp_path):
    for data in (b"", b"\0\0\x08", b"\0\0\x0d\x01" + struct.pack(">I", 1) + b"\0" * 4, b"hello world"):
        with pytest.raises(ValueError, match="not an idx file of uint8"):
            read_idx(write(tmp_path / "x.gz", data))
    for data in (HEADER[:7], HEADER + b"12345", HEADER + b"1234567", b"\0\0\x08\0"):
        with pytest.raises(ValueError, match="declares the shape"):
            read_idx(write(tmp_path / "x.gz", data))
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none.gz")

"""Reading the idx format, in which MNIST and Fashion-MNIST are published.

A gzipped file of: two zero bytes, the type code (8 for uint8), the number of axes, each axis's length as a big-endian
uint32, then the bytes in row-major order. Source: LeCun, Cortes and Burges, the MNIST database's page.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np


def read_idx(path: str | Path) -> np.ndarray:
    """The uint8 array in a gzipped idx file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is truncated, corrupt (gzip carries a CRC), or no idx file of uint8.
    """
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or corrupt ({error}); fetch it again") from error
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is not an idx file of uint8 (it starts with {data[:4].hex(' ') or 'nothing'})")
    n_axes = data[3]
    start = 4 + 4 * n_axes
    shape = struct.unpack(f">{n_axes}I", data[4:start]) if len(data) >= start else ()
    if len(data) != start + math.prod(shape) or not shape:
        raise ValueError(f"{path} declares the shape {shape} but holds {max(len(data) - start, 0)} bytes of data")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)

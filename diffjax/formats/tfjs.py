"""Weights as TensorFlow.js stores them, read without it.

A manifest, `*-weights_manifest.json`, is a list of groups: `paths` names files beside it, whose bytes are joined, and
`weights` lists name, shape and dtype of the arrays in them, one behind the other. A quantised array holds the integers

    q = round((w - min) / scale),   so that   w = scale q + min                                    (1)

with `scale` and `min` of its own. Source: tensorflow/tfjs, tfjs-core/src/io/types.ts and io_utils.ts.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.files import read

STORED = {"float32": "<f4", "int32": "<i4"}
QUANTISED = {"uint8": "u1", "uint16": "<u2"}


def load_manifest(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a manifest by name; what was quantised becomes float32 by eq. (1).

    Raises:
      FileNotFoundError: the manifest, or a file that it names, is missing.
      ValueError: the manifest is not one, or its files are longer or shorter than the arrays that it lists.
    """
    path = Path(path)
    text = read(path)
    try:
        groups = [(group["paths"], group["weights"]) for group in json.loads(text)]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is truncated or no manifest of weights ({error!r})") from error
    arrays: dict[str, np.ndarray] = {}
    for paths, weights in groups:
        raw = b"".join(read(path.parent / name) for name in paths)
        try:
            arrays |= _split(weights, raw)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} does not fit its files, {', '.join(paths)} ({error})") from error
    return arrays


def _split(weights: list[dict[str, Any]], raw: bytes) -> dict[str, np.ndarray]:
    arrays, start = {}, 0
    for entry in weights:
        how, shape = entry.get("quantization"), tuple(entry["shape"])
        dtype = np.dtype(QUANTISED[how["dtype"]] if how else STORED[entry["dtype"]])
        x = np.frombuffer(raw, dtype, math.prod(shape), start)
        if how:
            x = (how["scale"] * x.astype(np.float64) + how["min"]).astype(np.float32)
        arrays[entry["name"]] = x.reshape(shape)
        start += math.prod(shape) * dtype.itemsize
    if start != len(raw):
        raise ValueError(f"the arrays take {start} bytes, the files hold {len(raw)}")
    return arrays

"""What a judge sees in pictures drawn for captions of scenes, for several ways to draw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from diffjax import plots
from diffjax.data import scenes, to_float
from diffjax.runs.judges import SceneJudge

AFTERWARDS = 10**6  # indices of scenes that no training has seen
SHOWN = 16


def measure(
    judge: SceneJudge,
    ways: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    encode: Callable[[Sequence[str]], np.ndarray],
    samples: int,
    size: int,
    workdir: Path,
) -> dict[str, float]:
    """{"SPLIT, WAY, FIGURE": value} of "test" and "heldout", with those of the true pictures; SPLIT.png in `workdir`.

    "heldout" is the split in which each caption has a pair of colour and shape that was never trained on.

    Args:
      ways: from a caption's states [N, L, D], as `encode` returns them, to pictures [N, size, size, 3], by name.
      samples: captions of each split.
    """
    figures = {}
    for split in ("test", "heldout"):
        wanted = scenes.make(range(AFTERWARDS, AFTERWARDS + samples), size, split)
        states, true = encode(list(wanted.captions)), to_float(wanted.images)
        found, rows = {"true pictures": judge(true, wanted)}, {"wanted": true[:SHOWN]}
        for name, draw in ways.items():
            x = draw(states)
            found[name], rows[name] = judge(x, wanted), x[:SHOWN]
        width = max(map(len, found))
        for of, values in found.items():
            print(f"{split:<8} {of:<{width + 1}}", *(f"{name} {value:.3f} " for name, value in values.items()))
            figures |= {f"{split}, {of}, {name}": value for name, value in values.items()}
        plots.image_rows(workdir / f"{split}.png", rows)
    return figures

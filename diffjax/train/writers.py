"""Where a run's figures and pictures go: `metrics.jsonl`, `samples/*.png`, and both to TensorBoard.

One JSON object a line, `{"step": 100, "loss": 0.31, ...}`: `pandas.read_json(path, lines=True)` reads it. Only process
0 writes. A resumed run removes the lines after the step it goes on from, so that each step stands there once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image
from tensorboardX import SummaryWriter


class Writer:
    """Writes into `workdir`, after forgetting what an earlier run wrote there for steps later than `step`."""

    def __init__(self, workdir: str | Path, step: int = 0):
        self._on = jax.process_index() == 0
        if not self._on:
            return
        self._workdir = Path(workdir)
        self._workdir.mkdir(parents=True, exist_ok=True)
        path = self._workdir / "metrics.jsonl"
        truncate(path, step)
        self._lines = path.open("a")
        self._board = SummaryWriter(str(self._workdir / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._on:
            self._lines.close()
            self._board.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of figures."""
        if not self._on:
            return
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures by name, uint8 [H, W, 1 or 3] (as `plots.image_grid` gives them), to `samples/<name>_<step>.png`."""
        if not self._on:
            return
        for name, image in images.items():
            path = self._workdir / "samples" / f"{name}_{step:07d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(path)
            self._board.add_image(name, image, step, dataformats="HWC")


def truncate(path: Path, step: int) -> None:
    """Drop the lines after `step`, and a last line that a killed run left half written."""
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step(line) <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(line + "\n" for line in kept))
    os.replace(part, path)


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")

"""Where a run's figures and pictures go: `metrics.jsonl`, `samples/*.png`, and both to TensorBoard.

One JSON object a line, `{"step": 100, "loss": 0.31, ...}`: `pandas.read_json(path, lines=True)` reads it. Only process
0 writes. A resumed run removes the lines after the step it goes on from, so that each step stands there once.

TensorBoard is not installed with this library: `pip install tensorboard`, then `tensorboard --logdir runs`.
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

from diffjax.train.disk import writing


class Writer:
    """Writes into `workdir`, after forgetting what an earlier run wrote there for steps later than `step`.

    Raises:
      DiskError: here or later, when the folder cannot be written to; what was being written is named.
    """

    def __init__(self, workdir: str | Path, step: int = 0):
        self._on = jax.process_index() == 0
        if not self._on:
            return
        self._workdir = Path(workdir)
        with self._writing("metrics"):
            self._workdir.mkdir(parents=True, exist_ok=True)
            path = self._workdir / "metrics.jsonl"
            truncate(path, step)
            self._lines = path.open("a")
            self._board = self._tensorboard(step)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._on:
            with self._writing("metrics"):
                try:
                    self._lines.close()
                finally:
                    _close(self._board)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of figures."""
        if not self._on:
            return
        with self._writing("metrics"):
            self._lines.write(json.dumps({"step": step, **values}) + "\n")
            self._lines.flush()
            self._revive(step)
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures by name, uint8 [H, W, 1 or 3] (as `plots.image_grid` gives them), to `samples/<name>_<step>.png`.

        Raises:
          TypeError: `images` is no dict of such pictures.
        """
        check_images(images)
        if not self._on:
            return
        for name, image in images.items():
            path = self._workdir / "samples" / f"{name}_{step:07d}.png"
            with self._writing("pictures"):
                path.parent.mkdir(exist_ok=True)
                Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(path)
                self._board.add_image(name, image, step, dataformats="HWC")

    def _writing(self, what: str) -> Any:
        return writing(what, self._workdir)

    def _tensorboard(self, step: int) -> SummaryWriter:
        return SummaryWriter(str(self._workdir / "tensorboard"), purge_step=step + 1)

    def _revive(self, step: int) -> None:
        """A full disk ends TensorBoard's thread in silence, and its queue would then block: raise, or begin again."""
        worker = getattr(_events(self._board), "_worker", None)
        if worker is not None and not worker.is_alive():
            self._board.flush()  # raises as the thread did
            self._board = self._tensorboard(step - 1)


class Memory:
    """A `Writer` without a folder: the lines stay in `rows`, and pictures go nowhere."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append({"step": step, **values})

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        check_images(images)


def check_images(images: Any) -> None:
    """Raise a TypeError unless `images` is a dict of uint8 pictures [H, W, 1 or 3]."""
    if not isinstance(images, Mapping):
        raise TypeError(f"on_sample must return a dict of pictures by name, or None, got {type(images).__name__}")
    for name, image in images.items():
        shape = getattr(image, "shape", ())
        if getattr(image, "dtype", None) != np.uint8 or len(shape) != 3 or shape[-1] not in (1, 3):
            form = f"{getattr(image, 'dtype', type(image).__name__)}{list(shape)}"
            raise TypeError(
                f"a picture must be uint8 [H, W, 1 or 3], got {form} for {name!r}: `plots.image_grid` makes one of "
                f"images in [-1, 1]"
            )


def _events(board: SummaryWriter) -> Any:
    return getattr(board.file_writer, "event_writer", None)


def _close(board: SummaryWriter) -> None:
    try:
        board.close()
    except OSError:  # its thread is left behind: do not wait for it when the process ends
        queue = getattr(_events(board), "_event_queue", None)
        if queue is not None:
            queue.cancel_join_thread()
        raise


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

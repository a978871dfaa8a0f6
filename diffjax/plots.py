"""Pictures: grids of images, and panels of points in the plane. Nothing here touches pyplot or its global state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from diffjax.checks import check_count, check_number, check_pictures
from diffjax.data.units import to_uint8


def image_grid(x: Any, rows: int | None = None) -> np.ndarray:
    """Images x [B, h, w, 1 or 3] in [-1, 1] -> one uint8 image [H, W, 1 or 3], row by row; empty cells are black.

    Values outside [-1, 1] are clipped; levels 0 ... 255 as uint8 stay as they are. Without `rows` the grid is about as
    high as it is wide.

    Raises:
      TypeError: x holds other integers, `rows` is none.
      ValueError: x is empty, of another shape, holds NaN, or cannot lie in [-1, 1].
    """
    x = np.asarray(x)
    check_pictures(x / np.float32(255) - 0.5 if x.dtype == np.uint8 else x, "image_grid", channels=(1, 3))
    b, h, w, c = x.shape
    rows = math.isqrt(b) if rows is None else rows
    check_count("rows", rows, 1, b, why="no row is without an image")
    columns = math.ceil(b / rows)
    cells = np.zeros((rows * columns, h, w, c), np.uint8)
    cells[:b] = x if x.dtype == np.uint8 else to_uint8(x)
    return cells.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c)


def save_image(path: str | Path, grid: np.ndarray, scale: int = 1) -> None:
    """Write a uint8 image [H, W, 1 or 3], each pixel as a square of `scale` x `scale`; the suffix says the format.

    Raises:
      TypeError: the scale is no integer.
      ValueError: the image has another shape or dtype, or the scale is less than 1.
    """
    grid = np.asarray(grid)
    if grid.ndim != 3 or grid.shape[-1] not in (1, 3) or grid.dtype != np.uint8 or not grid.size:
        raise ValueError(f"expected a uint8 image [H, W, 1 or 3] (see image_grid), got {grid.dtype} {grid.shape}")
    check_count("scale", scale)
    large = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(large[..., 0] if large.shape[-1] == 1 else large).save(path)


def image_rows(path: str | Path, rows: Mapping[str, Any]) -> None:
    """Write a picture of labelled rows of images [n, H, W, 1 or 3] in [-1, 1], all rows of the same length.

    Raises:
      TypeError, ValueError: there is no row, their shapes differ, or as `image_grid`.
    """
    if not rows:
        raise ValueError("there is no row to draw")
    if len({np.shape(x)[:3] for x in rows.values()}) > 1:
        shapes = {name: np.shape(x) for name, x in rows.items()}
        raise ValueError(f"all rows must hold as many images of one size, got {shapes}")
    grids = {name: image_grid(x, rows=1) for name, x in rows.items()}
    height, width = next(iter(grids.values())).shape[:2]
    figure = Figure(figsize=(0.7 * width / height + 1.5, 0.72 * len(rows)), layout="constrained")
    for i, (name, grid) in enumerate(grids.items(), start=1):
        axes = figure.add_subplot(len(rows), 1, i, xticks=[], yticks=[])
        axes.imshow(grid, cmap="gray", vmin=0, vmax=255)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")


def scatter_panels(path: str | Path, panels: Mapping[str, Any], limit: float = 2.2, columns: int = 6) -> None:
    """Write one square panel of points [N, 2] for each title, all over [-limit, limit]^2, in rows of so many columns.

    Points that are NaN or infinite are not drawn; their number is added to the title.

    Raises:
      TypeError, ValueError: there is no panel, points are not [N, 2], the limit or the columns are not positive.
    """
    if not panels:
        raise ValueError("there is no panel to draw")
    check_number("limit", limit, 0, above=True)
    check_count("columns", columns)
    across = min(columns, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(3 * across, 3.4 * down), layout="constrained")
    for i, (title, points) in enumerate(panels.items(), start=1):
        points = np.asarray(points)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"panel {title!r}: expected points [N, 2], got the shape {points.shape}")
        lost = int((~np.isfinite(points).all(1)).sum())
        title = f"{title} ({lost} not finite)" if lost else title
        axes = figure.add_subplot(down, across, i, title=title, xlim=(-limit, limit), ylim=(-limit, limit), aspect=1)
        size = float(np.clip(100 / math.sqrt(max(len(points), 1)), 0.7, 4))  # smaller dots for more points
        axes.plot(points[:, 0], points[:, 1], ".", markersize=size, markeredgewidth=0, color="C0", rasterized=True)
        axes.set(xticks=[], yticks=[])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)

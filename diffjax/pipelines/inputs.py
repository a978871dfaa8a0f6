"""What a pipeline's methods are given besides prompts, checked and in one form: pictures, masks, depth maps, sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.checks import check_pictures
from diffjax.pipelines import solvers


def as_images(image: Any, n: int, channels: int, factor: int, size: tuple[int, int] | None) -> np.ndarray:
    """The image of each of n examples [n, H, W, C].

    Raises:
      ValueError: it is no picture in [-1, 1], its sides are no multiples of `factor`, it has another size than that
        of the settings, or there are neither one nor n.
    """
    image = np.asarray(image)
    batch = image[None] if image.ndim == 3 else image
    check_pictures(batch, "the image", channels=(channels,))
    check_size(batch.shape[1:3], factor)
    if size is not None and batch.shape[1:3] != tuple(size):
        raise ValueError(f"the image is of {list(batch.shape[1:3])} pixels, and the settings' size {size}")
    if len(batch) not in (1, n):
        raise ValueError(f"expected one image, or one for each of {n} prompts, got {len(batch)}")
    return np.broadcast_to(batch.astype(np.float32), (n, *batch.shape[1:]))


def check_size(size: tuple[int, ...], factor: int) -> tuple[int, int]:
    """(height, width); raises a ValueError unless they are multiples of `factor`."""
    if len(size) != 2 or any(side < factor or side % factor for side in size):
        raise ValueError(f"height and width must be multiples of {factor} pixels, got {' x '.join(map(str, size))}")
    return size[0], size[1]


def as_masks(mask: Any, n: int, size: tuple[int, int]) -> np.ndarray:
    """The mask of each of n examples, 0 or 1, [n, H, W, 1].

    Raises:
      ValueError: it has another size, values beyond [0, 1], or no white pixel.
    """
    mask = np.asarray(mask, np.float32)
    batch = mask[None] if mask.ndim == 2 else mask
    if batch.shape[1:] != tuple(size) or len(batch) not in (1, n):
        raise ValueError(f"a mask of {list(size)} pixels is needed, one or one for each of {n}, got {list(mask.shape)}")
    if not (batch.min() >= 0 and batch.max() <= 1):
        raise ValueError(f"a mask has values from 0 (kept) to 1 (painted anew), got {batch.min()} to {batch.max()}")
    white = batch >= 0.5
    if not white.any((1, 2)).all():
        raise ValueError("the mask is black everywhere: white, 1, is what is painted anew")
    return np.broadcast_to(white[..., None].astype(np.float32), (n, *size, 1))


def as_depths(depth: Any, n: int, size: tuple[int, int]) -> np.ndarray:
    """The depth map of each of n examples at the size of latents, in [-1, 1], [n, h, w, 1].

    As in diffusers: PyTorch's bicubic interpolation, then the smallest value of a map becomes -1, the largest 1.

    Raises:
      ValueError: it is no map [H, W] or [B, H, W], has values that are not finite, or is flat.
    """
    depth = np.asarray(depth, np.float64)
    batch = depth[None] if depth.ndim == 2 else depth
    if batch.ndim != 3 or 0 in batch.shape or len(batch) not in (1, n):
        raise ValueError(f"a depth map [H, W] is needed, or one for each of {n} prompts, got {list(depth.shape)}")
    if not np.isfinite(batch).all():
        raise ValueError(f"{(~np.isfinite(batch)).sum()} of {batch.size} depths are NaN or infinite")
    rows, columns = (bicubic(old, new) for old, new in zip(batch.shape[1:], size, strict=True))
    small = rows @ batch @ columns.T
    low, high = small.min((1, 2), keepdims=True), small.max((1, 2), keepdims=True)
    if not (high - low > 1e-9 * np.abs(small).max()).all():
        raise ValueError(f"the depth map is flat, {float(low[0, 0, 0]):g} everywhere: there is nothing to follow")
    small = 2 * (small - low) / (high - low) - 1
    return np.broadcast_to(small[..., None].astype(np.float32), (n, *size, 1))


def bicubic(old: int, new: int, a: float = -0.75) -> np.ndarray:
    """The matrix [new, old] of bicubic interpolation along an axis, as PyTorch has it, align_corners=False.

    Four neighbours count, by the kernel of Keys (1981) with a = -0.75; the first and the last pixel go on beyond the
    ends, and nothing is smoothed before a reduction.
    """
    at = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(at).astype(int)
    matrix = np.zeros((new, old))
    for tap in range(-1, 3):
        d = np.abs(at - first - tap)
        near = ((a + 2) * d - (a + 3)) * d**2 + 1
        far = a * (((d - 5) * d + 8) * d - 4)
        np.add.at(matrix, (np.arange(new), np.clip(first + tap, 0, old - 1)), np.where(d <= 1, near, far))
    return matrix


def tail(plan: solvers.Plan, strength: float) -> solvers.Plan:
    """The last int(n strength) of a run's n steps.

    Raises:
      ValueError: there is none.
    """
    n = len(plan.ts) - 1
    kept = int(n * strength + 1e-6)
    if kept == 0:
        raise ValueError(f"a strength of {strength:g} leaves none of {n} steps: raise it, or take more steps")
    return plan._replace(ts=plan.ts[n - kept :])


def sizes(count: int, size: tuple[int, int]) -> tuple[list[float], list[float]]:
    """XL's sizes of the original, the crop's corner and the target; the refiner's end with a score of the looks.

    The second list is that of the null condition.
    """
    H, W = map(float, size)
    if count == 6:
        return [H, W, 0, 0, H, W], [H, W, 0, 0, H, W]
    return [H, W, 0, 0, 6.0], [H, W, 0, 0, 2.5]

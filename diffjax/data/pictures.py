"""Picture files of any size and kind as square RGB images of one size.

An image of height and width L is averaged over areas: pixel i of S covers the stretch [i L/S, (i + 1) L/S) of the
original, pixels at its ends counted by the part that lies inside. A mean of the stored values, as is usual, and not of
light. Smaller images are enlarged bicubically.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIZES = (8, 64)  # smallest and largest side of the optional sets: the smaller emoji and the identity faces have 64


def check_size(name: str, size: int) -> None:
    """Raise ValueError unless the set `name` can be had at S = size."""
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"the images of {name} can be {SIZES[0]} to {SIZES[1]} pixels wide, not {size}")


def read_square(path: str | Path, size: int, square: tuple[int, int, int] | None = None) -> np.ndarray:
    """The picture in a file, upright, on white, cropped to a square and resized: uint8 [size, size, 3].

    Args:
      path: of the file.
      size: S of the result.
      square: (left, top, side) in the file's pixels; by default the central one.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is no picture, or is damaged.
    """
    try:
        with Image.open(path) as image:
            rgb = to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise
    except Exception as error:  # the decoders of damaged files end in many kinds of errors
        raise ValueError(f"{path} cannot be read as a picture: it is damaged or of another kind ({error})") from error
    centre = min(rgb.size)
    left, top, side = square or ((rgb.width - centre) // 2, (rgb.height - centre) // 2, centre)
    cut = rgb.crop((left, top, left + side, top + side))
    if side < size:
        return np.array(cut.resize((size, size), Image.Resampling.BICUBIC))
    return shrink(np.asarray(cut), size)


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode in RGB; what is transparent becomes white, 16 bits become 8."""
    if image.mode.startswith("I"):  # 16-bit grey levels, which Pillow would clip at 255
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def shrink(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 [L, L, C] -> uint8 [size, size, C] by averaging over areas, size <= L."""
    columns = average(average(image, size).swapaxes(0, 1), size)
    return np.rint(columns.swapaxes(0, 1)).astype(np.uint8)


def average(x: np.ndarray, size: int) -> np.ndarray:
    """[L, M, C] -> float64 [size, M, C], means over stretches of L / size rows."""
    first, part = np.divmod(np.arange(size) * len(x), size)  # where a stretch begins: so many whole rows, and so many
    before = x[first] * (part / size)[:, None, None]  # parts of `size`, by which the row belongs to the one before
    after = np.append(before[1:], np.zeros_like(before[:1]), axis=0)
    return (np.add.reduceat(x, first, axis=0, dtype=np.float64) - before + after) * (size / len(x))

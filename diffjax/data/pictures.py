"""Picture files of any size and kind as square RGB images of one size.

An image of height and width L is averaged over areas: pixel i of S covers the stretch [i L/S, (i + 1) L/S) of the
original, pixels at its ends counted by the part that lies inside. A mean of the stored values, as is usual, and not of
light. Smaller images are enlarged bicubically.

    upright         by the orientation in the EXIF data
    8 bits          of 16, the upper eight; ICC profiles and gamma are not applied
    transparent     becomes white, half transparent is mixed with it
    animations      and files of several pages give their first frame
    refused         floating and 32-bit levels, whose white is not known; truncated, damaged and empty files; more than
                    twice `PIL.Image.MAX_IMAGE_PIXELS` (179 million) pixels; kinds of files that are not in FORMATS
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from diffjax.checks import check_count

SIZES = (8, 64)  # smallest and largest side of the optional sets: the smaller emoji and the identity faces have 64
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
ANIMATED = ("PNG", "WEBP", "GIF", "TIFF", "AVIF")  # an MPO's further pictures are previews
ORIENTATION, BITS, PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
TURNS = {  # what makes a picture upright, by its orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def check_size(name: str, size: int) -> None:
    """Raise ValueError, or TypeError, unless the set `name` can be had at S = size."""
    check_count("size", size, 0)
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"the images of {name} can be {SIZES[0]} to {SIZES[1]} pixels wide, not {size}")


def read_square(path: str | Path, size: int, square: tuple[int, int, int] | None = None) -> np.ndarray:
    """The picture in a file, upright, on white, cropped to a square and resized: uint8 [size, size, 3].

    Args:
      path: of the file.
      size: S of the result.
      square: (left, top, side) in the upright picture's pixels; by default the central one.

    Raises:
      FileNotFoundError, PermissionError: there is no such file, or it may not be read.
      ValueError: the file is no picture, is damaged or too large, or the square reaches beyond it.
    """
    check_count("size", size)
    rgb, _ = read_rgb(path)
    return crop(rgb, size, square, path)


def crop(
    rgb: Image.Image, size: int, square: tuple[int, int, int] | None = None, path: str | Path = "the picture"
) -> np.ndarray:
    """The (central) square of an RGB picture, resized: uint8 [size, size, 3]. Arguments and errors as `read_square`."""
    centre = min(rgb.size)
    left, top, side = square or ((rgb.width - centre) // 2, (rgb.height - centre) // 2, centre)
    if min(left, top) < 0 or left + side > rgb.width or top + side > rgb.height:
        raise ValueError(f"{path} of {rgb.width} x {rgb.height} pixels has no square of {side} at {left}, {top}")
    cut = rgb.crop((left, top, left + side, top + side))
    if side < size:
        return np.array(cut.resize((size, size), Image.Resampling.BICUBIC))
    return shrink(np.asarray(cut), size)


def read_rgb(path: str | Path) -> tuple[Image.Image, int]:
    """The picture in a file, upright and on white, in RGB, and how many frames the file has (the first is taken).

    Raises:
      FileNotFoundError, PermissionError, ValueError: as `read_square`.
    """
    path = Path(path)
    if not path.is_file():
        what = "a link to nothing" if path.is_symlink() else "no file" if path.exists() else "missing"
        raise FileNotFoundError(f"there is no picture {path}: it is {what}")
    if not path.stat().st_size:
        raise ValueError(f"{path} cannot be read as a picture: it is empty (0 bytes)")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            rgb, frames = _decode(path)
    except PermissionError as error:
        raise PermissionError(f"{path} may not be read: {error.strerror}") from error
    except MemoryError as error:
        raise ValueError(f"{path} cannot be read as a picture: there is not enough memory for it") from error
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} cannot be read as a picture: it is too large; make it smaller first ({error})"
        ) from error
    except Exception as error:  # the decoders of damaged files end in many kinds of errors
        raise ValueError(f"{path} cannot be read as a picture: it is damaged or of another kind ({error})") from error
    for warning in caught:  # Pillow's, which do not name the file
        warnings.warn(f"{path}: {warning.message}", stacklevel=2)
    return rgb, frames


def _decode(path: Path) -> tuple[Image.Image, int]:
    Image.init()
    with Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
        frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
        image.load()
        if image.format == "PNG" and "transparency" in image.info:
            rgb = _png_on_white(image, path)
        else:
            rgb = to_rgb(image)
        try:
            turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
        except Exception as error:
            warnings.warn(f"its EXIF data are damaged, so that it may lie on its side ({error})", stacklevel=2)
            turn = None
        return rgb if turn is None else rgb.transpose(turn), frames


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode in RGB; what is transparent becomes white, 16 bits become 8.

    Raises:
      ValueError: the levels are floating, or integers of 32 bits, or in a colour space that Pillow does not convert.
    """
    if image.mode.startswith("I"):
        return Image.fromarray(_upper_byte(image)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its levels are floating, and which of them is white is not known; convert it to 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _upper_byte(image: Image.Image) -> np.ndarray:
    """16-bit grey levels, which Pillow would clip at 255, as uint8 [H, W]; a TIFF may have 12 bits, or be inverted."""
    if image.mode == "I" and image.format != "PNG":
        raise ValueError("its levels have 32 bits, and which of them is white is not known; convert it to 8 or 16 bits")
    tags = getattr(image, "tag_v2", {})
    levels = np.asarray(image).astype(np.int64) >> (tags.get(BITS, (16,))[0] - 8)
    if tags.get(PHOTOMETRIC) == 0:
        levels = 255 - levels
    return levels.clip(0, 255).astype(np.uint8)


def _png_on_white(image: Image.Image, path: Path) -> Image.Image:
    """A PNG with a transparent colour: that is given with the file's bits, Pillow compares eight of them."""
    with path.open("rb") as file:
        bits = file.read(25)[24]
    colour = image.info["transparency"]
    if image.mode.startswith("I"):
        levels = np.where(np.asarray(image) == colour, 255, _upper_byte(image))
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.mode == "RGB" and bits == 16:
        upper = np.asarray(image).astype(np.int64)
        same = (upper * 256 + _lower_byte(path) == np.array(colour)).all(-1, keepdims=True)
        return Image.fromarray(np.where(same, 255, upper).astype(np.uint8))
    if image.mode == "L" and bits in (2, 4):
        image.info["transparency"] = colour * 255 // (2**bits - 1)  # Pillow stretches the levels, but not this one
    return to_rgb(image)


def _lower_byte(path: Path) -> np.ndarray:
    """The lower bytes [H, W, 3] of a PNG of 16 bits a colour: read as if the other byte came first."""
    with Image.open(path) as image:
        image.tile = [(*tile[:3], "RGB;16L") for tile in image.tile]  # pyright: ignore
        return np.asarray(image).astype(np.int64)


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

"""Loading an image set by its name."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from diffjax.checks import check_count
from diffjax.data import cifar10, digits, emoji, faces, fashion_mnist, folder, scenes
from diffjax.data.image_data import ImageData

NAMES = ("auto", "fashion_mnist", "digits", "cifar10", "emoji", "faces", "olivetti", "scenes", "folder")


def load(
    name: str = "auto",
    data_dir: str | Path | None = None,
    *,
    size: int = 32,
    path: str | Path | None = None,
    captions: str | Path | None = None,
) -> ImageData:
    """An image set in memory.

    Args:
      name: "fashion_mnist" (60,000 + 10,000 of 28 x 28), "digits" (1,540 + 257 of 8 x 8), "cifar10" (50,000 + 10,000 of
        32 x 32 x 3), or "auto": Fashion-MNIST, and digits, with a printed notice, where it cannot be had. Of size
        S x S: "emoji" (9,789 + 1,155, RGB, captioned), "faces" (849 + 150, RGB), "olivetti" (320 + 80 of 40 people,
        grey), "scenes" (50,000 + 5,000, RGB, captioned), and "folder" (one's own pictures, RGB, captioned).
      data_dir: where sets are, or will be, kept; `default_data_dir()` if None.
      size: S; sets that have a size of their own ignore it.
      path: the folder of "folder".
      captions: a CSV file with its captions; see `folder`.

    Raises:
      TypeError: the size is no integer.
      ValueError: the name is unknown, or the files are corrupt; "folder" without `path`, or another set with one.
      FileNotFoundError: the set is named and cannot be had; the message says what to do.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}{_suggestion(name)}")
    check_count("size", size, why="the width of the pictures in pixels")
    if name == "folder" and not path:
        raise ValueError("the data set 'folder' needs the path of the folder with your pictures (--data.path DIR)")
    if name != "folder" and (path is not None or captions is not None):
        raise ValueError(f"a path, or captions, are for the data set 'folder', not for {name!r}")
    match name:
        case "digits":
            return digits.load()
        case "cifar10":
            return cifar10.load(data_dir)
        case "emoji":
            return emoji.load(data_dir, size=size)
        case "faces":
            return faces.load(data_dir, size=size)
        case "olivetti":
            return faces.olivetti(data_dir, size=size)
        case "scenes":
            return scenes.load(data_dir, size=size)
        case "folder":
            return folder.load(path or "", size=size, captions=captions)
    try:
        return fashion_mnist.load(data_dir)
    except FileNotFoundError as error:
        if name == "fashion_mnist":
            raise
        print(f"Using scikit-learn's 8 x 8 digits instead of Fashion-MNIST. {error}")
        return digits.load()


def _suggestion(name: Any) -> str:
    if not isinstance(name, str):
        return "; the pictures in a folder are data.load('folder', path=...)"
    if Path(name).expanduser().is_dir():
        return f". Did you mean data.load('folder', path={name!r})?"
    like = name.lower().replace("-", "_").replace(" ", "_")
    near = [n for n in NAMES if like in n.split("_")] + difflib.get_close_matches(like, NAMES, 1, 0.6)
    return f". Did you mean {near[0]!r}?" if near else ""


def image_shape(name: str, size: int = 32) -> tuple[int, int, int]:
    """The shape (H, W, C) of the images of a set, without loading it; of "auto" that of Fashion-MNIST.

    Raises:
      ValueError: the name is unknown.
    """
    if name not in NAMES:
        raise ValueError(f"unknown data set {name!r}; choose one of {', '.join(NAMES)}{_suggestion(name)}")
    own = {"auto": (28, 28, 1), "fashion_mnist": (28, 28, 1), "digits": (8, 8, 1), "cifar10": (32, 32, 3)}
    return own.get(name) or (size, size, 1 if name == "olivetti" else 3)

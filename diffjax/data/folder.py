"""A folder of one's own pictures as an image set: square, RGB, captioned, and split once and for all.

Pictures are the files named .png, .jpg, .jpeg, .webp or .bmp in the folder and all folders below it (links to folders
are not followed), but for those whose name, or whose folder's name, begins with a dot. Each is turned upright, cropped
to its central square and averaged over areas to S x S, or enlarged if it is smaller; what is transparent becomes white.

    classes     the folders directly in it, in alphabetical order; a picture that lies beside them is of a class named
                like the folder itself, and so are all pictures where there are no folders
    captions    from a CSV file with the columns `file` (a path inside the folder) and `caption`: the one that is named,
                or `captions.csv` in the folder. Otherwise from the names of the files: without the ending, and with
                every run of underscores, hyphens and blanks as one blank: red_shoe-03.png -> "red shoe 03"
    split       a tenth is for testing: the pictures to whose path inside the folder sha256 assigns a number below 1/10,
                so that a picture stays on its side when others come or go. Two pictures or more are at least one on
                each side; a single one is for training.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import numpy as np

from diffjax.data.image_data import ImageData, draw, split
from diffjax.data.pictures import read_square

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
CSV = "captions.csv"


def load(path: str | Path, *, size: int = 32, captions: str | Path | None = None) -> ImageData:
    """The pictures in the folder `path` in the order of their names, uint8 [N, S, S, 3] with S = size.

    Args:
      path: the folder.
      size: S, at least 1.
      captions: a CSV file; `captions.csv` in the folder, or the names of the files, if None.

    Raises:
      FileNotFoundError: there is no such folder or CSV file, or no picture in the folder.
      ValueError: the size is not positive; a picture is damaged; the CSV file cannot be read, or names a picture that
        is not there, or one twice; or a picture has no caption.
    """
    folder = Path(path).expanduser()
    if size < 1:
        raise ValueError(f"pictures must be at least one pixel wide, got {size}")
    files = find_pictures(folder)
    texts = captions_of(folder, list(files), captions)
    class_names, labels = np.unique(classes_of(folder, list(files)), return_inverse=True)
    images = np.stack([read_square(file, size) for file in files.values()])
    return split("folder", images, labels, tuple(class_names.tolist()), texts, held_out(list(files)))


def find_pictures(folder: Path) -> dict[str, Path]:
    """The pictures in a folder, {path inside the folder: file}, in the order of these names.

    Raises:
      FileNotFoundError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: give the folder of your pictures as the data's path")
    files = {}
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in (Path(where) / name for name in names if not name.startswith(".")):
            if file.suffix.lower() in ENDINGS:
                files[normalize("NFC", file.relative_to(folder).as_posix())] = file
    if not files:
        raise FileNotFoundError(f"there is no picture ({', '.join(ENDINGS)}) in the folder {folder}")
    return dict(sorted(files.items()))


def classes_of(folder: Path, names: Sequence[str]) -> list[str]:
    """The classes of the pictures `names`, [N]."""
    paths = map(PurePosixPath, names)
    return [name.parts[0] if len(name.parts) > 1 else folder.resolve().name for name in paths]


def captions_of(folder: Path, names: Sequence[str], table: str | Path | None) -> list[str]:
    """The captions of the pictures `names`, from the CSV file `table`, or else as the module says.

    Raises:
      FileNotFoundError, ValueError: as `load`.
    """
    if table is None and not (folder / CSV).is_file():
        source, found = "its file name", {name: caption_from_name(name) for name in names}
    else:
        source = Path(table).expanduser() if table is not None else folder / CSV
        found = read_captions(source)
        if absent := [name for name in found if name not in set(names)]:
            raise ValueError(f"{source} names {listing(absent)}, but there is no such picture in {folder}")
    if without := [name for name in names if not found.get(name)]:
        raise ValueError(f"{source} gives no caption for {listing(without)} in {folder}")
    return [found[name] for name in names]


def caption_from_name(name: str) -> str:
    """ "shoes/red_shoe-03.png" -> "red shoe 03"."""
    return re.sub(r"[\s_-]+", " ", PurePosixPath(name).stem).strip()


def read_captions(path: Path) -> Mapping[str, str]:
    """{path inside the folder: caption} of a CSV file with the columns `file` and `caption`, in UTF-8.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such table, a row has no file, or a file has two rows.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with captions")
    found: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if missing := {"file", "caption"} - set(rows.fieldnames or ()):
                raise ValueError(f"its first line lacks the column {' and '.join(sorted(missing))}")
            for row in rows:
                if None in row:
                    raise ValueError(f"line {rows.line_num} has too many columns: a caption with a comma needs quotes")
                name = normalize("NFC", PurePosixPath((row["file"] or "").strip().replace("\\", "/")).as_posix())
                if name in (".", *found):
                    raise ValueError(f"line {rows.line_num} names {'no file' if name == '.' else f'{name} again'}")
                found[name] = " ".join((row["caption"] or "").split())
    except (ValueError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{path} is no table of captions: {error}") from error
    return found


def held_out(names: Sequence[str]) -> np.ndarray:
    """Which of the pictures are for testing, bool [N]."""
    draws = np.array([draw(name) for name in names])
    test = draws < 0.1
    test[draws.argmax()] = False  # the last to be tested on, the first to be trained on
    if len(names) > 1:
        test[draws.argmin()] = True
    return test


def listing(names: Sequence[str], limit: int = 3) -> str:
    """The first few of many names."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")

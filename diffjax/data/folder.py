"""A folder of one's own pictures as an image set: square, RGB, captioned, and split once and for all.

Pictures are the files in the folder and all folders below it whose names end in one of ENDINGS, in small or capital
letters. Links to files are followed, links to folders are not; names that begin with a dot are passed over. What is
skipped is printed. Each picture is turned upright, cropped to its central square and averaged over areas to S x S, or
enlarged if it is smaller; what is transparent becomes white, and an animation gives its first frame (see `pictures`).

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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import numpy as np

from diffjax.checks import check_count
from diffjax.data.image_data import ImageData, draw, split
from diffjax.data.pictures import crop, read_rgb

ENDINGS = (".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
LARGEST = 2048  # S; the set is held in memory
CSV = "captions.csv"


def load(path: str | Path, *, size: int = 32, captions: str | Path | None = None) -> ImageData:
    """The pictures in the folder `path` in the order of their names, uint8 [N, S, S, 3] with S = size.

    Args:
      path: the folder.
      size: S, from 1 to 2048.
      captions: a CSV file; `captions.csv` in the folder, or the names of the files, if None.

    Raises:
      FileNotFoundError: there is no such folder or CSV file, no picture in the folder, or a link leads nowhere.
      TypeError: the size is no integer.
      ValueError: the size is out of range; a picture is damaged; two names differ in the code of their accents alone;
        the CSV file cannot be read, or names a picture that is not there, or one twice; or a picture has no caption.
    """
    folder = Path(path).expanduser()
    check_count("size", size, 1, LARGEST, why="the width of the pictures in pixels")
    files = find_pictures(folder)
    texts = captions_of(folder, list(files), captions)
    class_names, labels = np.unique(classes_of(folder, list(files)), return_inverse=True)
    images = np.empty((len(files), size, size, 3), np.uint8)
    animations = 0
    for i, file in enumerate(files.values()):
        rgb, frames = read_rgb(file)
        images[i] = crop(rgb, size, None, file)
        animations += frames > 1
    if notice := skipped(folder, files, captions, animations):
        print(f"{folder}: {len(files)} pictures; {notice}")
    return split("folder", images, labels, tuple(class_names.tolist()), texts, held_out(list(files)))


def find_pictures(folder: Path) -> dict[str, Path]:
    """The pictures in a folder, {path inside the folder: file}, in the order of these names.

    Raises:
      FileNotFoundError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        what = f"{folder} is a file" if folder.exists() else f"there is no folder {folder}"
        raise FileNotFoundError(f"{what}: give the folder of your pictures as the data's path")
    files: dict[str, Path] = {}
    for file in walk(folder):
        if file.suffix.lower() in ENDINGS and not hidden(folder, file):
            name = normalize("NFC", file.relative_to(folder).as_posix())
            if name in files:
                raise ValueError(f"{files[name]!r} and {file!r} have the same name in Unicode: rename one of them")
            files[name] = file
    if not files:
        raise FileNotFoundError(f"there is no picture ({', '.join(ENDINGS)}) in the folder {folder}")
    return dict(sorted(files.items()))


def walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, those of hidden folders left out; a folder that cannot be read is an error."""

    def fail(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        yield from (Path(where) / name for name in [*names, *links])


def hidden(folder: Path, file: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def skipped(folder: Path, files: Mapping[str, Path], captions: str | Path | None, animations: int) -> str:
    """What was not taken of a folder, in words; "" if everything was."""
    taken = {*files.values(), folder / CSV, Path(captions or folder / CSV).expanduser()}
    rest = [file for file in walk(folder) if file not in taken]
    visible = sorted(file.relative_to(folder).as_posix() for file in rest if not hidden(folder, file))
    words = []
    if visible:
        words.append(f"skipped {len(visible)} of other kinds ({listing(visible)})")
    if len(rest) > len(visible):
        words.append(f"skipped {len(rest) - len(visible)} hidden")
    if animations:
        words.append(f"took the first frame of {animations} with several")
    return "; ".join(words)


def classes_of(folder: Path, names: Sequence[str]) -> list[str]:
    """The classes of the pictures `names`, [N]."""
    paths = map(PurePosixPath, names)
    found = [name.parts[0] if len(name.parts) > 1 else folder.resolve().name for name in paths]
    return [name.encode(errors="replace").decode() for name in found]


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
    stem = PurePosixPath(name).stem.encode(errors="replace").decode()  # a name that is no UTF-8 gets question marks
    return re.sub(r"[\s_-]+", " ", stem).strip()


def read_captions(path: Path) -> Mapping[str, str]:
    """{path inside the folder: caption} of a CSV file with the columns `file` and `caption`, in UTF-8.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such table, a row has no file, or a file has two rows.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path} with captions, a table (CSV) with the columns file, caption")
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

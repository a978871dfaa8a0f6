"""Emoji with captions: about 10,900 RGB images of 1,911 emoji and their skin tones, in three styles, ten categories.

    style     npm package                        images                  licence
    google    emoji-datasource-google@16.0.0     3,786 of 64 x 64        Apache-2.0 (Noto Emoji, Google)
    twitter   emoji-datasource-twitter@16.0.0    3,786 of 64 x 64        CC-BY 4.0 (Twemoji, Twitter: give credit)
    fluent    @lobehub/fluent-emoji-3d@1.1.0     3,372 of 256 x 256      MIT (Fluent Emoji, Microsoft)

Names and categories are those of `emoji.json` of the first package (MIT). A caption is the name in lower case, and the
skin tones: "waving hand sign, medium-light skin". Each picture is put on white and averaged over areas to S x S.
`make data` fetches the packages; reading them takes seconds, once for each S: the result is kept in `data_dir`.

The split into training and test images is fixed: a tenth of the emoji, chosen by sha256 of their code points, are for
testing, with all their styles and skin tones. For this, emoji that look almost the same count as one: those of one
caption or of one picture (the flags of France and of Saint Martin), and those that differ by gender (artist, man
artist) or by direction (man running, man running facing right). That gives 9,789 and 1,155 images.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.data.image_data import ImageData, default_data_dir, draw, split
from diffjax.data.packages import find
from diffjax.data.pictures import check_size, read_square
from diffjax.data.prepared import cached

VERSION = "1.0.0"
NAMES = "emoji-datasource-google"
FOLDERS = {
    "google": ("emoji-datasource-google", "img/google/64"),
    "twitter": ("emoji-datasource-twitter", "img/twitter/64"),
    "fluent": ("@lobehub/fluent-emoji-3d", "assets"),
}
STYLES = tuple(FOLDERS)
CATEGORIES = (
    "Activities", "Animals & Nature", "Component", "Flags", "Food & Drink",
    "Objects", "People & Body", "Smileys & Emotion", "Symbols", "Travel & Places",
)  # fmt: skip
SKIN = {
    "1F3FB": "light skin",
    "1F3FC": "medium-light skin",
    "1F3FD": "medium skin",
    "1F3FE": "medium-dark skin",
    "1F3FF": "dark skin",
}


class Emoji(NamedTuple):
    """The whole set, style after style, in the order of `emoji.json`."""

    images: np.ndarray  # uint8 [N, S, S, 3]
    labels: np.ndarray  # int32 [N], counted into CATEGORIES
    captions: np.ndarray  # str [N]
    styles: np.ndarray  # str [N], of STYLES
    codes: np.ndarray  # str [N], the code points of the emoji in its neutral skin tone
    test: np.ndarray  # bool [N]


class Row(NamedTuple):
    """One emoji, or a skin tone of it, in the table."""

    file: str  # its name without the ending: the code points
    code: str
    caption: str
    label: int
    links: tuple[str, ...]  # what it shares with emoji that look the same


def load(data_dir: str | Path | None = None, *, size: int = 32, styles: Sequence[str] = STYLES) -> ImageData:
    """The emoji as a captioned image set, S = size; labels are the categories. Arguments and errors as `read`.

    Images are in the order of `read(...)`, those where its `test` is true on one side and the others on the other.
    """
    emoji = read(data_dir, size=size, styles=styles)
    return split("emoji", emoji.images, emoji.labels, CATEGORIES, emoji.captions.tolist(), emoji.test)


def read(data_dir: str | Path | None = None, *, size: int = 32, styles: Sequence[str] = STYLES) -> Emoji:
    """The emoji of the given styles with all that is known of them; kept in `data_dir` (`default_data_dir()`).

    Raises:
      FileNotFoundError: a package is missing; the message names the command that fetches it.
      TypeError: the size is no integer, or the styles are one string.
      ValueError: the size is not in 8..64, a style is unknown, or a picture is damaged.
    """
    check_size("emoji", size)
    if isinstance(styles, str):
        raise TypeError(f"styles must be a list of names, got one string; write ({styles!r},)")
    if not styles or not set(styles) <= set(STYLES):
        raise ValueError(f"styles must be some of {', '.join(STYLES)}, got {', '.join(styles) or 'none'}")
    path = Path(data_dir or default_data_dir()) / "diffjax_emoji" / f"{VERSION}-{size}.npz"
    emoji = Emoji(**cached(path, lambda: build(size)._asdict(), f"Reading the emoji at {size} x {size} pixels"))
    rows = np.isin(emoji.styles, list(styles))
    return Emoji(*(column[rows] for column in emoji))


def build(size: int) -> Emoji:
    """The set from the packages."""
    table = read_table(json.loads(find(NAMES, "emoji.json").read_text(encoding="utf-8")))
    found = [(style, row, path) for style in STYLES for row, path in pictures(style, table)]
    styles, rows, paths = zip(*found, strict=True)
    links = [(*row.links, f"file {digest(path)}") for _, row, path in found]
    return Emoji(
        images=np.stack([read_square(path, size) for path in paths]),
        labels=np.array([row.label for row in rows], np.int32),
        captions=np.array([row.caption for row in rows]),
        styles=np.array(styles),
        codes=np.array([row.code for row in rows]),
        test=np.array([draw(name) < 0.1 for name in groups(links)]),
    )


def read_table(entries: list[dict[str, Any]]) -> list[Row]:
    """The emoji of `emoji.json`, each followed by its skin tones."""
    rows = []
    for entry in entries:
        code = entry["unified"]
        caption = (entry["name"] or entry["short_name"].replace("-", " ")).lower()
        label = CATEGORIES.index(entry["category"])
        links = (code, neutral(code), f"name {caption}")
        rows.append(Row(Path(entry["image"]).stem, code, caption, label, links))
        for tones, variation in (entry.get("skin_variations") or {}).items():
            skin = " and ".join(SKIN[tone] for tone in tones.split("-"))
            rows.append(Row(Path(variation["image"]).stem, code, f"{caption}, {skin}", label, links))
    return rows


def neutral(code: str) -> str:
    """Code points without gender and direction; "man artist" and "woman artist" both become "artist"."""
    return re.sub("1F46[89]", "1F9D1", re.sub("-200D-(2640|2642|27A1)-FE0F", "", code))


def pictures(style: str, table: list[Row]) -> list[tuple[Row, Path]]:
    """The emoji that there are in a style, and their files.

    The two data sources have a picture of every emoji in the table. Fluent lacks some, and now and then leaves out the
    code point FE0F, which selects a picture instead of a letter.
    """
    package, folder = FOLDERS[style]
    if style != "fluent":
        return [(row, find(package, f"{folder}/{row.file}.png")) for row in table]
    files = {plain(path.stem): path for path in sorted(find(package, folder).glob("*.webp"))}
    return [(row, files[plain(row.file)]) for row in table if plain(row.file) in files]


def plain(name: str) -> str:
    """The name of a file without FE0F."""
    return name.replace("-fe0f", "")


def digest(path: Path) -> str:
    """A file's sha256: the same for the same picture."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def groups(links: Sequence[Sequence[str]]) -> list[str]:
    """The group of each of N tuples: those that share a string, or are joined by a chain of such, are one group.

    It is named by the first of all its strings, which for emoji are code points (digits come before small letters).
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name] = parent[parent[name]]
        return name

    for names in links:
        first = min(root(name) for name in names)
        for name in names:
            parent[root(name)] = first
    return [root(names[0]) for names in links]

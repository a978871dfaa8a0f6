"""Scenes: captioned pictures of one to three shapes, drawn here, with masks, boxes and an edited twin of each.

For text to image, layout to image, semantic synthesis and editing. Six shapes in eight colours, three sizes and three
textures stand apart on one of seven backgrounds, in one of two styles ("flat", "sketch"); names are in `scene_drawing`.
The twin is the same picture with one attribute changed (`scene_sampling.EDITS`), and an instruction says which.

Scene number `index` of a split is a pure function of (split, index), and the same picture at every size S; there are as
many as one wants. The splits "train" and "test" have no pair of colour and shape that is in `scene_sampling.HELD_OUT`,
the twins neither; every picture of "heldout" has one. Drawing takes about 0.7 ms for a picture and its twin at 32 x 32.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from diffjax.checks import check_count
from diffjax.data import prepared
from diffjax.data.image_data import ImageData, default_data_dir
from diffjax.data.scene_drawing import BACKGROUNDS, SLOTS, STYLES, Picture, boxes, draw
from diffjax.data.scene_sampling import EDITS, SERIES, SPLITS, caption, instruction, sample

VERSION = f"{SERIES}.0.0"
CLASS_NAMES = ("one object", "two objects", "three objects")
SIZE_RANGE = (16, 1024)  # below, a small object has less than four pixels across
KEPT_FROM = 1000  # scenes; fewer are drawn faster than files are looked after
ATTRIBUTES = ("shape", "colour", "size", "texture")  # of a Thing; "classes", "colours", ... of a picture


@dataclasses.dataclass(frozen=True, eq=False)
class Pictures:
    """N pictures, S x S pixels; slot i of three is the same object in all fields, and -1 where there is none."""

    images: np.ndarray  # uint8 [N, S, S, 3]
    captions: np.ndarray  # str [N]
    masks: np.ndarray  # uint8 [N, 3, S, S], 1 for each pixel that the object touches, 0 elsewhere
    boxes: np.ndarray  # float32 [N, 3, 4] as (x0, y0, x1, y1) in [0, 1], from the upper left; zeros if absent
    classes: np.ndarray  # int32 [N, 3], counted into SHAPES
    colours: np.ndarray  # int32 [N, 3], counted into COLOURS
    sizes: np.ndarray  # int32 [N, 3], counted into SIZES
    textures: np.ndarray  # int32 [N, 3], counted into TEXTURES
    styles: np.ndarray  # int32 [N], counted into STYLES
    backgrounds: np.ndarray  # int32 [N], counted into BACKGROUNDS


@dataclasses.dataclass(frozen=True, eq=False)
class Scenes(Pictures):
    """N pictures with their twins: `scenes.images`, `scenes.twins.images`, `scenes.instructions`."""

    twins: Pictures
    instructions: np.ndarray  # str [N], what makes the twin of the picture
    edits: np.ndarray  # int32 [N], counted into EDITS
    edited: np.ndarray  # int32 [N], the slot of the changed object; -1 for the background and the style


SINGULAR = {"images": "image", "captions": "caption", "styles": "style", "backgrounds": "background"}
EXAMPLE = {field.name: SINGULAR.get(field.name, field.name) for field in dataclasses.fields(Pictures)}
EDIT = {"instructions": "instruction", "edits": "edit", "edited": "edited"}


def scene(index: int, size: int = 32, split: str = "train") -> dict[str, Any]:
    """One scene, a pure function of its arguments.

    The keys are "image", "caption", "masks", "boxes", "classes", "colours", "sizes", "textures", "style",
    "background", "instruction", "edit", "edited", and "twin": a dict of the first ten. Values are as in `Scenes`,
    without the first axis.

    Raises:
      TypeError: the index or the size is no integer.
      ValueError: the index is negative, the size is not in 16..1024, or the split is unknown.
    """
    _check(size, split)
    check_count("index", index, 0, 2**63 - 1)
    drawn = sample(int(index), split)
    twin = _render(drawn.twin, index, size)
    edit = {"instruction": instruction(drawn), "edit": drawn.edit, "edited": drawn.edited}
    return {**_render(drawn.picture, index, size), **edit, "twin": twin}


def make(indices: Iterable[int], size: int = 32, split: str = "train") -> Scenes:
    """The scenes of some indices; arguments and errors as `scene`, and there must be one index at least."""
    if not isinstance(indices, Iterable) or isinstance(indices, str):
        raise TypeError(f"indices must be a list of integers, such as range(100), got {indices!r}")
    examples = [scene(index, size, split) for index in indices]
    if not examples:
        raise ValueError("there is no index: give one or more, such as range(100)")
    twins = _stack([example["twin"] for example in examples], EXAMPLE)
    return Scenes(**_stack(examples, EXAMPLE | EDIT), twins=Pictures(**twins))


def read(n: int, split: str = "train", size: int = 32, data_dir: str | Path | None = None) -> Scenes:
    """The first n scenes of "train", "test" or "heldout".

    From 1,000 on they are kept in `data_dir` (`default_data_dir()`), and read from there the next time; at 32 x 32 a
    thousand need 15 MB.

    Raises:
      TypeError: n or the size is no integer.
      ValueError: n is not positive, the size is not in 16..1024, or the split is unknown.
    """
    check_count("n", n, why="the number of scenes")
    _check(size, split)
    if n < KEPT_FROM:
        return make(range(n), size, split)

    def arrays() -> dict[str, np.ndarray]:
        made = dict(vars(make(range(n), size, split)))
        twins = vars(made.pop("twins"))
        return made | {f"twin_{name}": array for name, array in twins.items()}

    kept = prepared.cached(_path(data_dir, f"{split}-{n}-{size}"), arrays, _what(n, size))
    twins = Pictures(**{name: kept.pop(f"twin_{name}") for name in EXAMPLE})
    return Scenes(**kept, twins=twins)


def load(data_dir: str | Path | None = None, *, size: int = 32, train: int = 50_000, test: int = 5_000) -> ImageData:
    """Pictures and captions of the first scenes of "train" and "test"; the labels are the numbers of objects less one.

    They are drawn once, in about 30 seconds at 32 x 32, and kept in `data_dir` (`default_data_dir()`).

    Raises:
      TypeError: a number or the size is no integer.
      ValueError: a number is not positive, or the size is not in 16..1024.
    """
    _check(size)
    for name, n in (("train", train), ("test", test)):
        check_count(name, n, why="the number of scenes")

    def arrays() -> dict[str, np.ndarray]:
        made = {}
        for split, n in (("train", train), ("test", test)):
            images, labels, captions = np.empty((n, size, size, 3), np.uint8), np.empty(n, np.int32), []
            for index in range(n):
                example = _render(sample(index, split).picture, index, size)
                images[index], labels[index] = example["image"], _label(example)
                captions.append(example["caption"])
            made |= {f"{split}_images": images, f"{split}_labels": labels, f"{split}_captions": np.array(captions)}
        return made

    kept = prepared.cached(_path(data_dir, f"pictures-{train}-{test}-{size}"), arrays, _what(train + test, size))
    for name in ("train_captions", "test_captions"):
        kept[name] = tuple(kept[name].tolist())
    return ImageData(name="scenes", class_names=CLASS_NAMES, **kept)


class SceneBuilder(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder of the first `train`, `test` and `heldout` scenes of the splits, S = `size`.

    `SceneBuilder(size=64, data_dir=d).download_and_prepare()`, then `.as_data_source("heldout")`. Examples are as
    those of `scene`, with a "label" as that of `load`; images are PNG.

    Raises:
      TypeError, ValueError: as `load`.
    """

    name = "diffjax_scenes"
    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self,
        *,
        size: int = 32,
        train: int = 50_000,
        test: int = 5_000,
        heldout: int = 5_000,
        file_format: Any = "array_record",
        **kwargs: Any,
    ):
        _check(size)
        self._size, self._counts = size, {"train": train, "test": test, "heldout": heldout}
        for name, n in self._counts.items():
            check_count(name, n, why="the number of scenes")
        config = tfds.core.BuilderConfig(name=f"{train}-{test}-{heldout}-{size}")  # a folder of its own
        super().__init__(file_format=file_format, config=config, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        text, whole = tfds.features.Text(), tfds.features.Scalar(np.int32)
        slots = tfds.features.Tensor(shape=(SLOTS,), dtype=np.int32)
        picture = {
            "image": tfds.features.Image(shape=(self._size, self._size, 3), encoding_format="png"),
            "caption": text,
            "masks": tfds.features.Tensor(shape=(SLOTS, self._size, self._size), dtype=np.uint8),
            "boxes": tfds.features.Tensor(shape=(SLOTS, 4), dtype=np.float32),
            **dict.fromkeys(("classes", "colours", "sizes", "textures"), slots),
            "style": tfds.features.ClassLabel(names=STYLES),
            "background": tfds.features.ClassLabel(names=tuple(BACKGROUNDS)),
        }
        edit = {"instruction": text, "edit": tfds.features.ClassLabel(names=EDITS), "edited": whole, "twin": picture}
        features = {**picture, "label": tfds.features.ClassLabel(names=CLASS_NAMES), **edit}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
            license="Apache-2.0",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        prepared.announce(_what(sum(self._counts.values()), self._size))
        return {split: self._generate_examples(split, n) for split, n in self._counts.items()}

    def _generate_examples(self, split: str, n: int) -> Iterator[tuple[int, dict]]:
        for index in range(n):
            example = scene(index, self._size, split)
            example["label"] = _label(example)
            for picture in (example, example["twin"]):
                picture["image"] = prepared.to_png(picture["image"])
            yield index, example


def _render(picture: Picture, index: int, size: int) -> dict[str, Any]:
    image, masks = draw(picture, size)
    around = boxes(picture)
    slots = [[getattr(x, name) if x else -1 for x in picture.things] for name in ATTRIBUTES]
    return {
        "image": image,
        "caption": caption(picture, around, index),
        "masks": masks,
        "boxes": around,
        **dict(zip(("classes", "colours", "sizes", "textures"), np.array(slots, np.int32), strict=True)),
        "style": picture.style,
        "background": picture.background,
    }


def _stack(examples: list[dict[str, Any]], names: dict[str, str]) -> dict[str, np.ndarray]:
    """Arrays [N, ...] by their names in `Scenes`; the examples are used up, so that memory is not needed twice."""
    stacked = {field: np.array([example.pop(name) for example in examples]) for field, name in names.items()}
    return {field: x.astype(np.int32) if x.dtype == np.int64 else x for field, x in stacked.items()}


def _label(example: dict[str, Any]) -> int:
    return int((example["classes"] >= 0).sum()) - 1


def _check(size: Any, split: Any = "train") -> None:
    check_count("size", size, *SIZE_RANGE, why="the width of the pictures in pixels")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")


def _path(data_dir: str | Path | None, name: str) -> Path:
    return Path(data_dir or default_data_dir()) / SceneBuilder.name / f"{VERSION}-{name}.npz"


def _what(n: int, size: int) -> str:
    return f"Drawing {n:,} scenes at {size} x {size} pixels"

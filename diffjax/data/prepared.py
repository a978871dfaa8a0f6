"""Image sets that TFDS keeps as array_record shards, written and read without TensorFlow.

TFDS's own image builders open their files and encode their images through TensorFlow. Ours read the files themselves
and hand PNG bytes to TFDS, which writes shards to which `as_data_source` gives random access. TFDS writes into a
temporary directory and renames it, so a broken run leaves nothing behind. Decoding every image takes seconds, so `load`
also keeps them as one .npz file beside the shards; with it a call takes a tenth of a second.
"""

from __future__ import annotations

import contextlib
import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.utils import tqdm_utils

from diffjax.data.image_data import ImageData, default_data_dir
from diffjax.files import replacing

Builder = tfds.core.GeneratorBasedBuilder
SPLITS = ("train", "test")


def info(builder: Builder, shape: tuple[int, int, int], names: tuple[str, ...], **about: Any) -> tfds.core.DatasetInfo:
    """What a set of labelled images of one shape (H, W, C) tells TFDS; `about` is its homepage, licence, citation."""
    features = {
        "image": tfds.features.Image(shape=shape, encoding_format="png"),
        "label": tfds.features.ClassLabel(names=names),
    }
    return tfds.core.DatasetInfo(
        builder=builder,
        features=tfds.features.FeaturesDict(features),
        supervised_keys=("image", "label"),
        disable_shuffling=True,  # the files' own order, and half the time: `pipeline` shuffles when it reads
        **about,
    )


def examples(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
    """uint8 images [N, H, W] or [N, H, W, 3] and integer labels [N], as TFDS takes them."""
    for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        yield i, {"image": to_png(image), "label": label}


def to_png(image: np.ndarray) -> bytes:
    """A uint8 image [H, W] or [H, W, 3] as a PNG file, quickly compressed."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG", compress_level=1)
    return png.getvalue()


def prepare(make: Callable[..., Builder], data_dir: str | Path, source: str | Path | None = None) -> Builder:
    """The builder `make(data_dir=, source=)` of a set that is prepared in `data_dir`, which is done now if need be."""
    builder = make(data_dir=data_dir, source=source)
    try:
        with _calm():
            builder.download_and_prepare()
    except FileExistsError:  # another process was preparing it too, and was quicker
        builder = make(data_dir=data_dir)
    return builder


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Without the bars, and the lines on standard output, of TFDS: `announce` says in one line what is being done."""
    active = getattr(tqdm_utils, "_active", True)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.display_progress_bar(active)


def announce(what: str, path: str | Path | None = None) -> None:
    """Say on standard error, in one line, what takes time and is done once; of a long path only its end."""
    where = ""
    if path is not None:
        text = str(path)
        home = str(Path.home())
        text = "~" + text.removeprefix(home) if text.startswith(home + "/") else text
        where = f" from {text if len(text) <= 60 else '...' + text[-57:]}"
    print(f"{what}{where} (once)", file=sys.stderr, flush=True)


def load(
    name: str,
    class_names: tuple[str, ...],
    make: Callable[..., Builder],
    data_dir: str | Path | None,
    source: str | Path | None,
) -> ImageData:
    """The set in memory; it is prepared in `data_dir` (`default_data_dir()`) at the first call."""
    builder = prepare(make, data_dir or default_data_dir(), source)

    def decode() -> dict[str, np.ndarray]:
        arrays = {}
        for split in SPLITS:
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = read_all(builder, split)
        return arrays

    return ImageData(name=name, class_names=class_names, **cached(Path(f"{builder.data_dir}.npz"), decode))


def cached(path: Path, make: Callable[[], dict[str, np.ndarray]], what: str = "") -> dict[str, Any]:
    """The arrays kept in the .npz file `path`; if there is none, those that `make` returns, which are kept there.

    `what` is announced before they are made. A damaged file is made anew, which is said.
    """
    if path.is_file():
        try:
            with np.load(path) as arrays:
                return dict(arrays)
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError) as error:
            print(f"{path} is damaged ({error}), and is made anew", file=sys.stderr)
    elif what:
        announce(what)
    arrays = make()
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return arrays


def read_all(builder: Builder, split: str, chunk: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, H, W, C] and labels int32 [N] of a prepared split, read in chunks."""
    source: Any = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})  # pyright: ignore
    images, labels = [], []
    for start in range(0, len(source), chunk):
        for example in source.__getitems__(list(range(start, min(start + chunk, len(source))))):
            images.append(np.asarray(Image.open(io.BytesIO(example["image"]))))
            labels.append(example["label"])
    stacked = np.stack(images)
    return stacked.reshape(*stacked.shape[:3], -1), np.array(labels, np.int32)

"""Fashion-MNIST as a TFDS data set of our own that needs no TensorFlow.

70,000 grey images of clothes, 28 x 28, ten classes (Xiao, Rasul and Vollgraf, arXiv:1708.07747; MIT licence).

TFDS's own `fashion_mnist` builder opens its files and encodes its images through TensorFlow. This one reads the four
idx files itself, hands PNG bytes to TFDS and writes array_record shards, to which `as_data_source` gives random access.
The files are taken from the first of
  1. a set that is already prepared in `data_dir`;
  2. the folder given as `source`, or named by the environment variable DIFFJAX_FASHION_MNIST;
  3. Debian's package dataset-fashion-mnist;
  4. the upstream server (31 MB, checked by sha256).
Preparing takes about 8 seconds, once; TFDS writes into a temporary directory and renames it, so a broken run leaves
nothing behind. Reading the 70,000 images back takes about 4 seconds more, so `load` also keeps them as one .npz
file beside the prepared set; with it a call takes a tenth of a second.
"""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from diffjax.data.idx import read_idx
from diffjax.data.image_data import ImageData, default_data_dir
from diffjax.weights import replacing

CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"
)  # fmt: skip
PREFIX = {"train": "train", "test": "t10k"}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SHA256 = {  # of the upstream files, as TFDS registers them; Debian compressed the same data anew
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
FILES = tuple(SHA256)
HELP = (
    "Fashion-MNIST cannot be had here. Either install Debian's package (apt-get install dataset-fashion-mnist), or put "
    f"the four files {', '.join(FILES)} into a folder and name it in the environment variable DIFFJAX_FASHION_MNIST, "
    f"or connect to the network ({URL})."
)


class FashionMnist(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder; `source` is a folder with the four idx files, found as the module says if it is None.

    `FashionMnist(data_dir=d).download_and_prepare()`, then `.as_data_source("train")`.
    """

    name = "diffjax_fashion_mnist"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: str | Path | None = None, file_format: Any = "array_record", **kwargs: Any):
        super().__init__(file_format=file_format, **kwargs)
        self._source = source

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=CLASS_NAMES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # the files' own order, and half the time: `pipeline` shuffles when it reads
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            license="MIT",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        folder = find_files(self._source, Path(dl_manager.download_dir) / self.name)
        return {split: self._generate_examples(*read_split(folder, split)) for split in PREFIX}

    def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            png = io.BytesIO()
            Image.fromarray(image).save(png, "PNG", compress_level=1)
            yield i, {"image": png.getvalue(), "label": label}


def read_split(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 `[N, 28, 28]` and labels uint8 `[N]` of "train" or "test".

    Raises:
      ValueError: a file is truncated or corrupt, or is not Fashion-MNIST's.
    """
    images = read_idx(folder / f"{PREFIX[split]}-images-idx3-ubyte.gz")
    labels = read_idx(folder / f"{PREFIX[split]}-labels-idx1-ubyte.gz")
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or labels.max(initial=0) > 9:
        raise ValueError(f"{folder} holds no Fashion-MNIST: {split} images {images.shape}, labels {labels.shape}")
    return images, labels


def find_files(source: str | Path | None = None, download_dir: str | Path | None = None) -> Path:
    """The folder with the four idx files: `source`, DIFFJAX_FASHION_MNIST, Debian's, or a download, in this order.

    Raises:
      FileNotFoundError: the folder that was named lacks a file, or no source can be reached.
      ValueError: a downloaded file has a wrong checksum.
    """
    named = source or os.environ.get("DIFFJAX_FASHION_MNIST")
    if named:
        folder = Path(named).expanduser()
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(f"{folder}, named as Fashion-MNIST's folder, lacks {', '.join(missing)}")
        return folder
    if all((DEBIAN / name).is_file() for name in FILES):
        return DEBIAN
    return download(download_dir or default_data_dir() / "downloads" / FashionMnist.name)


def download(folder: str | Path, url: str = URL, checksums: dict[str, str] = SHA256) -> Path:
    """Fetch those of the files that `folder` lacks; each appears under its name only when its sha256 is right.

    Raises:
      FileNotFoundError: the server cannot be reached.
      ValueError: the server sent something else.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, checksum in checksums.items():
        if (folder / name).is_file():
            continue
        address = f"{url.rstrip('/')}/{name}"
        try:
            with urllib.request.urlopen(address, timeout=20) as response:
                data = response.read()
        except (OSError, http.client.HTTPException) as error:  # no network, no such file, a broken transfer
            raise FileNotFoundError(f"{HELP} (The download failed: {error}.)") from error
        found = hashlib.sha256(data).hexdigest()
        if found != checksum:
            raise ValueError(f"{address} has the sha256 {found}, not {checksum}: this is not Fashion-MNIST's file")
        with replacing(folder / name) as part:
            part.write_bytes(data)
    return folder


def load(data_dir: str | Path | None = None, source: str | Path | None = None) -> ImageData:
    """Fashion-MNIST in memory, 60,000 + 10,000 images; prepared in `data_dir` (`default_data_dir()`) at the first call.

    Raises:
      FileNotFoundError: no source can be reached; the message says what to do.
      ValueError: a source is corrupt.
    """
    builder = prepare(data_dir or default_data_dir(), source)
    cache = Path(f"{builder.data_dir}.npz")
    if not cache.is_file():
        arrays = {}
        for split in PREFIX:
            arrays[f"{split}_images"], arrays[f"{split}_labels"] = read_all(builder, split)
        with replacing(cache) as part, part.open("wb") as file:
            np.savez(file, **arrays)
    with np.load(cache) as arrays:
        return ImageData(name="fashion_mnist", class_names=CLASS_NAMES, **arrays)


def prepare(data_dir: str | Path, source: str | Path | None = None) -> FashionMnist:
    """The builder of a set that is prepared in `data_dir`, which is done now if need be; errors as `load`."""
    builder = FashionMnist(data_dir=data_dir, source=source)
    try:
        builder.download_and_prepare()
    except FileExistsError:  # another process was preparing it too, and was quicker
        builder = FashionMnist(data_dir=data_dir)
    return builder


def read_all(builder: FashionMnist, split: str, chunk: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 28, 28, 1] and labels int32 [N] of a prepared split, read in chunks."""
    source: Any = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})  # pyright: ignore
    images, labels = [], []
    for start in range(0, len(source), chunk):
        for example in source.__getitems__(list(range(start, min(start + chunk, len(source))))):
            images.append(np.asarray(Image.open(io.BytesIO(example["image"]))))
            labels.append(example["label"])
    return np.stack(images)[..., None], np.array(labels, np.int32)

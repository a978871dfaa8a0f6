"""Stroke paintings made of pictures: SDEdit's guides, without a painter (Meng et al. 2022, Appendix D.3).

The picture is smoothed by a median filter, which leaves patches with sharp borders, and its colours are reduced to a
few by k-means, as if it were painted with that many brushes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter
from sklearn.cluster import KMeans


def paint(images: np.ndarray, colours: int = 6, patch: int = 5, seed: int = 0) -> np.ndarray:
    """Stroke paintings of uint8 images [N, H, W, 1 or 3], of the same shape; `patch` is the filter's odd width.

    Raises:
      TypeError, ValueError: the images are not uint8 [N, H, W, 1 or 3], there is no colour, or the patch is even.
    """
    if images.dtype != np.uint8:
        raise TypeError(f"paintings are made of uint8 images, got {images.dtype}: see `data.to_uint8`")
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or colours < 1 or patch % 2 == 0:
        raise ValueError(
            f"expected images [N, H, W, 1 or 3], a colour or more and an odd patch; got {images.shape}, {colours} and "
            f"{patch}"
        )
    return np.stack([_painted(image, colours, patch, seed) for image in images])


def _painted(image: np.ndarray, colours: int, patch: int, seed: int) -> np.ndarray:
    smooth = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).filter(ImageFilter.MedianFilter(patch))
    pixels = np.asarray(smooth, np.float32).reshape(-1, image.shape[-1])
    n = min(colours, len(np.unique(pixels, axis=0)))
    found = KMeans(n, n_init=1, random_state=seed).fit(pixels)  # pyright: ignore[reportArgumentType]
    return np.rint(found.cluster_centers_[found.labels_]).astype(np.uint8).reshape(image.shape)

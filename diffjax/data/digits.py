"""The handwritten digits that scikit-learn ships: 1,797 grey images, 8 x 8, ten classes, no download.

Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI repository (1998), its test part.
"""

import numpy as np
from sklearn.datasets import load_digits

from diffjax.data.image_data import ImageData


def load() -> ImageData:
    """The digits as uint8 images; every seventh is a test image (257), the others are for training (1,540)."""
    pixels, target = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # 17 grey levels, 0..16
    labels = target.astype(np.int32)
    test = np.arange(len(images)) % 7 == 0  # a period that shares no factor with the ten classes' cycle
    return ImageData(
        name="digits",
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        class_names=tuple("0123456789"),
    )

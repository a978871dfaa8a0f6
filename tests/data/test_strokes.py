"""Stroke paintings: few colours, near the picture, the same each time."""

import numpy as np
import pytest

from diffjax.data.strokes import paint


def test_paintings():
    rng = np.random.default_rng(0)
    image = np.full((1, 16, 16, 3), 200, np.uint8)
    image[:, 4:12, 4:12] = (20, 40, 90)
    noisy = np.clip(image + rng.normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    out = paint(noisy, colours=2)
    assert out.shape == noisy.shape and len(np.unique(out.reshape(-1, 3), axis=0)) == 2
    middle = out[0, 6:10, 6:10].astype(int)
    assert np.abs(middle - (20, 40, 90)).max() < 25 and np.abs(out[0, 0].astype(int) - 200).max() < 25
    np.testing.assert_array_equal(out, paint(noisy, colours=2))
    flat = paint(np.full((1, 8, 8, 1), 7, np.uint8), colours=5)  # fewer colours than `colours`
    assert (flat == 7).all()


def test_errors():
    with pytest.raises(TypeError, match="uint8 images, got float64"):
        paint(np.zeros((1, 8, 8, 1)))
    with pytest.raises(ValueError, match="an odd patch"):
        paint(np.zeros((1, 8, 8, 1), np.uint8), patch=4)

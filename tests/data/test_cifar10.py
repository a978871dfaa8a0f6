"""CIFAR-10's archive and its pickles, on generated batches of two images, written as Python 2 wrote them."""

import gzip
import hashlib
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from diffjax.data import cifar10, load

RNG = np.random.default_rng(0)
PIXELS = {name: RNG.integers(0, 256, (2, 3072), np.uint8) for name in cifar10.FILES}
LABELS = [3, 9]


def string(data):
    return b"T" + struct.pack("<i", len(data)) + data


def python2(pixels, labels, code=b"u1"):
    """The opcodes of the real files: protocol 2, byte strings, NumPy's old module names."""
    ints = b"](" + b"".join(b"K" + bytes([i]) for i in labels) + b"e"
    dtype = (
        b"cnumpy\ndtype\n" + string(code) + b"K\x00K\x01\x87R(K\x03" + string(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2
    )
    dtype += b"K\x00tb"
    shape = b"".join(b"J" + struct.pack("<i", n) for n in pixels.shape) + b"\x86"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + string(b"b") + b"tR"
    array += b"(K\x01" + shape + dtype + b"\x89" + string(pixels.tobytes()) + b"tb"
    return b"\x80\x02}(" + string(b"labels") + ints + string(b"data") + array + b"u."


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv("DIFFJAX_CIFAR10", raising=False)
    monkeypatch.setenv("DIFFJAX_DATA", str(tmp_path / "default"))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / cifar10.FOLDER
    folder.mkdir()
    for name in cifar10.FILES:
        (folder / name).write_bytes(python2(PIXELS[name], LABELS))
    return folder


@pytest.fixture
def archive(folder, tmp_path):
    path = tmp_path / cifar10.ARCHIVE
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, cifar10.FOLDER)
    return path


def check(data):
    assert data.train_images.shape == (10, 32, 32, 3) and data.test_images.shape == (2, 32, 32, 3)
    assert data.train_labels.tolist() == 5 * LABELS and data.test_labels.tolist() == LABELS
    for i, row, column, channel in ((7, 5, 30, 2), (2, 31, 0, 0), (9, 12, 13, 1)):
        pixel = PIXELS[f"data_batch_{1 + i // 2}"][i % 2, 1024 * channel + 32 * row + column]
        assert data.train_images[i, row, column, channel] == pixel
    assert data.name == "cifar10" and data.n_classes == 10


def test_a_folder_is_prepared_once_and_then_needs_no_source(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFJAX_CIFAR10", str(folder))
    check(load("cifar10"))
    monkeypatch.setenv("DIFFJAX_CIFAR10", str(tmp_path / "absent"))
    check(load("cifar10"))  # from the cache
    (tmp_path / "default" / "diffjax_cifar10" / "1.0.0.npz").unlink()
    check(load("cifar10"))  # from the array_record files
    example = cifar10.Cifar10(data_dir=tmp_path / "default").as_data_source("test")[1]
    assert example["image"][5, 7, 2] == PIXELS["test_batch"][1, 2048 + 5 * 32 + 7] and example["label"] == 9


def test_archive_and_download(archive, tmp_path, monkeypatch):
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    found = cifar10.find(None, tmp_path / "downloads", archive.as_uri(), md5)
    assert found.parent == tmp_path / "downloads" and found.read_bytes() == archive.read_bytes()
    check(cifar10.load(tmp_path / "data", source=found))

    with pytest.raises(ValueError, match=f"md5 {md5}, not {cifar10.MD5}"):
        cifar10.find(None, tmp_path / "other", archive.as_uri())
    with pytest.raises(FileNotFoundError, match=r"name cifar-10-python\.tar\.gz.*DIFFJAX_CIFAR10.*download failed"):
        cifar10.find(None, tmp_path / "other", (tmp_path / "absent").as_uri())
    assert not (tmp_path / "other").exists()


def test_named_paths_that_will_not_do(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFJAX_CIFAR10", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match="nothing at"):
        load("cifar10")
    (folder / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match="lacks data_batch_3"):
        cifar10.read_files(folder)


def test_damaged_archives_are_found_out(archive, tmp_path):
    whole = archive.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]  # tarfile alone would not notice
    for damaged in (whole[:-100], flipped, b"<html>sign in</html>", gzip.compress(b"no tar")):
        archive.write_bytes(damaged)
        with pytest.raises(ValueError, match="truncated or corrupt"):
            cifar10.read_files(archive)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / cifar10.FOLDER / "test_batch", f"{cifar10.FOLDER}/test_batch")
    with pytest.raises(ValueError, match="data_batch_1"):
        cifar10.read_files(archive)


def test_batches_of_newer_pythons_and_numpys():
    pixels = PIXELS["test_batch"]
    images, labels = cifar10.read_batch(pickle.dumps({b"data": pixels, b"labels": LABELS}, protocol=4), "here")
    np.testing.assert_array_equal(images[0, :, :, 1].ravel(), pixels[0, 1024:2048])
    assert labels.tolist() == LABELS


def test_nothing_but_uint8_arrays_can_be_built():
    pixels = PIXELS["test_batch"]
    for raw in (
        pickle.dumps({b"data": os.system}),
        pickle.dumps({b"data": np.array([print], object), b"labels": LABELS}, protocol=4),
        python2(pixels, LABELS, code=b"O8"),
        python2(pixels, LABELS)[:-2000],
        b"",
    ):
        with pytest.raises(ValueError, match="here is truncated or corrupt, or is not CIFAR-10's"):
            cifar10.read_batch(raw, "here")
    for raw in (python2(pixels[:, :-1], LABELS), python2(pixels, [1]), python2(pixels, [1, 10])):
        with pytest.raises(ValueError, match="here holds no CIFAR-10"):
            cifar10.read_batch(raw, "here")

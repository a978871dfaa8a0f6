import gzip
import hashlib
import http.server
import re
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from diffjax.data import fashion_mnist
from diffjax.data.fashion_mnist import FILES, FashionMnist, download, find_files, load

RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (13, 28, 28), np.uint8), RNG.integers(0, 10, 13, np.uint8)
TEST = RNG.integers(0, 256, (5, 28, 28), np.uint8), RNG.integers(0, 10, 5, np.uint8)


def write_idx(path, x):
    header = bytes([0, 0, 8, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape)
    path.write_bytes(gzip.compress(header + x.tobytes(), mtime=0))


@pytest.fixture
def folder(tmp_path):
    """A tiny set in the four files."""
    path = tmp_path / "idx"
    path.mkdir()
    for prefix, (images, labels) in {"train": TRAIN, "t10k": TEST}.items():
        write_idx(path / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(path / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return path


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    """No environment variable, no Debian package, no network: each test names the sources that it wants."""
    monkeypatch.delenv("DIFFJAX_FASHION_MNIST", raising=False)
    monkeypatch.setenv("DIFFJAX_DATA", str(tmp_path / "default"))
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "no-package")
    monkeypatch.setattr("urllib.request.urlopen", _no_network)


def _no_network(*args, **kwargs):
    raise OSError("no route")


def check(data):
    np.testing.assert_array_equal(data.train_images[..., 0], TRAIN[0])
    np.testing.assert_array_equal(data.train_labels, TRAIN[1])
    np.testing.assert_array_equal(data.test_images[..., 0], TEST[0])
    np.testing.assert_array_equal(data.test_labels, TEST[1])
    assert data.shape == (28, 28, 1) and data.n_classes == 10 and data.name == "fashion_mnist"


def test_prepares_from_a_folder_and_then_needs_no_source(folder, tmp_path, capsys):
    check(load(tmp_path / "data", source=folder))
    said = capsys.readouterr()  # one line, no bar, no path of a hundred columns
    assert said.out == "" and re.fullmatch(
        r"Preparing Fashion-MNIST, about 8 seconds, from \S+/idx \(once\)\n", said.err
    )
    assert len(said.err) < 120
    prepared = tmp_path / "data" / "diffjax_fashion_mnist"
    assert {p.name for p in prepared.iterdir()} == {"1.0.0", "1.0.0.npz"}
    check(load(tmp_path / "data"))  # from the cache
    (prepared / "1.0.0.npz").unlink()
    check(load(tmp_path / "data"))  # from the array_record files
    assert capsys.readouterr() == ("", "")
    for damaged in (b"", b"no archive", (prepared / "1.0.0.npz").read_bytes()[:-50]):
        (prepared / "1.0.0.npz").write_bytes(damaged)
        check(load(tmp_path / "data"))
        assert "is damaged" in capsys.readouterr().err
        check(load(tmp_path / "data"))
        assert capsys.readouterr() == ("", "")
    source = FashionMnist(data_dir=tmp_path / "data").as_data_source("train")
    assert len(source) == 13
    np.testing.assert_array_equal(source[7]["image"][..., 0], TRAIN[0][7])
    assert source[7]["label"] == TRAIN[1][7]


def test_default_directory_and_environment(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFJAX_FASHION_MNIST", str(folder))
    check(load())
    assert (tmp_path / "default" / "diffjax_fashion_mnist" / "1.0.0").is_dir()


def test_order_of_sources(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", folder)
    assert find_files() == folder
    other = tmp_path / "other"
    other.mkdir()
    for name in FILES:
        (other / name).write_bytes((folder / name).read_bytes())
    monkeypatch.setenv("DIFFJAX_FASHION_MNIST", str(other))
    assert find_files() == other
    assert find_files(source=folder) == folder


def test_a_named_folder_that_lacks_a_file_is_an_error(folder, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", folder.parent / "copy")
    folder.rename(folder.parent / "copy")
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"lacks train-images-idx3-ubyte\.gz"):
        find_files(source=folder)


def test_no_source_says_what_to_do_and_leaves_nothing(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"apt-get install dataset-fashion-mnist.*DIFFJAX_FASHION_MNIST.*network"
    ):
        load(tmp_path / "data")
    assert not (tmp_path / "data" / "diffjax_fashion_mnist" / "1.0.0").exists()


def test_a_corrupt_file_leaves_nothing_and_can_be_repaired(folder, tmp_path):
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz is truncated or corrupt"):
        load(tmp_path / "data", source=folder)
    path.write_bytes(whole)
    check(load(tmp_path / "data", source=folder))


@pytest.mark.parametrize("wrong", [np.zeros((13, 28, 27), np.uint8), np.zeros((12, 28, 28), np.uint8)])
def test_another_set_is_rejected(folder, tmp_path, wrong):
    write_idx(folder / "train-images-idx3-ubyte.gz", wrong)
    with pytest.raises(ValueError, match="holds no Fashion-MNIST"):
        load(tmp_path / "data", source=folder)


def test_download_checks_and_resumes(folder, tmp_path, monkeypatch):
    monkeypatch.undo()  # the real urlopen, on file:// addresses
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    target = tmp_path / "downloads"
    assert download(target, folder.as_uri(), sums) == target
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {name: (folder / name).read_bytes() for name in FILES}

    (target / FILES[0]).unlink()
    (folder / FILES[1]).unlink()  # already there: not fetched again
    download(target, folder.as_uri(), sums)
    assert (target / FILES[0]).is_file()

    (target / FILES[0]).unlink()
    (folder / FILES[0]).write_bytes(b"<html>sign in</html>")
    with pytest.raises(ValueError, match="has the sha256"):
        download(target, folder.as_uri(), sums)
    assert not (target / FILES[0]).exists()


def test_a_download_that_breaks_off_leaves_nothing(tmp_path, monkeypatch):
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")

        def log_message(self, *args):
            pass

    monkeypatch.undo()
    with http.server.HTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(FileNotFoundError, match="The download failed: IncompleteRead"):
            download(tmp_path / "downloads", f"http://127.0.0.1:{server.server_port}")
    assert not list((tmp_path / "downloads").iterdir())


@pytest.mark.slow
def test_no_tensorflow_and_no_name_clash():
    code = (
        "import sys, tensorflow_datasets as tfds, diffjax.data.fashion_mnist as f;"
        "assert tfds.builder_cls('diffjax_fashion_mnist') is f.FashionMnist;"
        "assert tfds.builder_cls('fashion_mnist') is not f.FashionMnist;"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

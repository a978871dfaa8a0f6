import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from diffjax.data import ImageData, digits, emoji, faces, fashion_mnist, folder, image_shape, load, sources
from diffjax.data.image_data import default_data_dir, draw
from diffjax.runs.experiment import configure
from diffjax.runs.image_run import ImageRun


def test_digits_are_split_once_and_for_all():
    a, b = load("digits"), load("digits")
    assert a.train_images.shape == (1540, 8, 8, 1) and a.test_images.shape == (257, 8, 8, 1)
    assert a.train_images.dtype == np.uint8 and a.train_images.min() == 0 and a.train_images.max() == 255
    assert len(np.unique(a.train_images)) == 17
    np.testing.assert_array_equal(a.test_images, b.test_images)
    counts = np.bincount(a.test_labels, minlength=10)
    assert counts.min() >= 20 and counts.max() <= 32  # every class, about 26 each
    assert a.shape == (8, 8, 1) and a.n_classes == 10


def test_unknown_names_and_sizes_say_what_to_write(tmp_path):
    with pytest.raises(ValueError, match="unknown data set 'mnist'; choose one of auto, fashion_mnist, digits"):
        load("mnist")
    near = {"mnist": "fashion_mnist", "Digits": "digits", "CIFAR-10": "cifar10", "face": "faces", "emojis": "emoji"}
    for name, meant in near.items():
        for call in (load, image_shape):
            with pytest.raises(ValueError, match=f"Did you mean '{meant}'"):
                call(name)
    with pytest.raises(ValueError, match=r"Did you mean data\.load\('folder', path="):
        load(str(tmp_path))
    with pytest.raises(ValueError, match=r"a folder are data\.load\('folder', path="):
        load(tmp_path)
    with pytest.raises(ValueError, match=r"unknown data set 'x9'; choose one of .*folder$"):
        load("x9")
    for name in ("digits", "emoji", "faces", "olivetti"):
        with pytest.raises(TypeError, match="size must be an integer"):
            load(name, size=32.0)
    with pytest.raises(ValueError, match="needs the path of the folder"):
        load("folder", path="")


def test_auto_falls_back_with_a_notice(monkeypatch, capsys):
    def none(data_dir):
        raise FileNotFoundError("Fashion-MNIST cannot be had here.")

    monkeypatch.setattr(fashion_mnist, "load", none)
    assert load("auto").name == "digits"
    assert "digits instead of Fashion-MNIST" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        load("fashion_mnist")


def test_auto_does_not_hide_corrupt_files(monkeypatch):
    def corrupt(data_dir):
        raise ValueError("train-images is corrupt")

    monkeypatch.setattr(fashion_mnist, "load", corrupt)
    with pytest.raises(ValueError, match="corrupt"):
        load("auto")


def test_auto_prefers_fashion_mnist(monkeypatch):
    monkeypatch.setattr(fashion_mnist, "load", lambda data_dir: (data_dir, "whole"))
    assert load("auto", "here") == ("here", "whole")
    assert sources.NAMES[:4] == ("auto", "fashion_mnist", "digits", "cifar10")


def test_image_data_checks_itself():
    d = digits.load()
    parts = (d.train_images, d.train_labels, d.test_images, d.test_labels)
    with pytest.raises(ValueError, match=r"x, train split: images must be uint8"):
        ImageData("x", parts[0].astype(np.float32), *parts[1:], d.class_names)
    for change, message in (
        ((parts[0].tolist(), *parts[1:], d.class_names), "x, train split: images and labels must be NumPy arrays"),
        ((parts[0], parts[1] * 1.0, *parts[2:], d.class_names), "labels must be integers, got float64"),
        ((*parts, list(d.class_names)), "class_names must be a tuple of strings"),
        ((*parts, "0123456789"), "class_names must be a tuple of strings"),
    ):
        with pytest.raises(TypeError, match=message):
            ImageData("x", *change)
    with pytest.raises(ValueError, match="two classes have the same name"):
        ImageData("x", *parts, (*d.class_names[:9], "0"))
    with pytest.raises(ValueError, match="257 images, but labels of shape"):
        ImageData("x", *parts[:3], parts[3][:-1], d.class_names)
    with pytest.raises(ValueError, match=r"outside 0\.\.8"):
        ImageData("x", *parts, d.class_names[:9])
    with pytest.raises(ValueError, match="differ in shape"):
        ImageData("x", *parts[:2], parts[2][:, :4], parts[3], d.class_names)
    with pytest.raises(ValueError, match="test split: 257 images, but 1 captions"):
        ImageData("x", *parts, d.class_names, ("a digit",) * 1540, ("a digit",))
    with pytest.raises(ValueError, match="one split has captions and the other has none"):
        ImageData("x", *parts, d.class_names, ("a digit",) * 1540)
    assert d.train_captions is d.test_captions is None


def test_sizes_and_paths_reach_the_sets_that_have_them(monkeypatch, tmp_path):
    for module, loader in ((emoji, "load"), (faces, "load"), (faces, "olivetti")):
        monkeypatch.setattr(module, loader, lambda data_dir, loader=loader, **options: (loader, data_dir, options))
    monkeypatch.setattr(folder, "load", lambda path, **options: (path, options))
    assert load("emoji", "here", size=64) == ("load", "here", {"size": 64})
    assert load("faces", "here") == ("load", "here", {"size": 32})
    assert load("olivetti", "here", size=16) == ("olivetti", "here", {"size": 16})
    assert load("folder", path="mine", captions="c.csv") == ("mine", {"size": 32, "captions": "c.csv"})
    with pytest.raises(ValueError, match=r"needs the path of the folder with your pictures \(--data\.path DIR\)"):
        load("folder")
    for options in ({"path": tmp_path}, {"captions": "c.csv"}):
        with pytest.raises(ValueError, match="are for the data set 'folder', not for 'emoji'"):
            load("emoji", **options)


def test_shapes_are_known_without_the_images():
    assert image_shape("digits") == load("digits").shape
    shapes = [image_shape(name, 64) for name in ("auto", "cifar10", "emoji", "faces", "olivetti", "folder")]
    assert shapes == [(28, 28, 1), (32, 32, 3), *[(64, 64, 3)] * 2, (64, 64, 1), (64, 64, 3)]


def test_the_splits_by_name_are_fair_and_fixed():
    first = int(hashlib.sha256(b"red_shoe-03.png").hexdigest()[:12], 16)
    assert draw("red_shoe-03.png") == first / 16**12
    draws = np.array([draw(f"{i}.png") for i in range(10_000)])
    assert abs((draws < 0.1).sum() - 1000) < 4 * np.sqrt(900)  # 4 sigma


def test_the_experiments_take_a_folder_by_either_spelling(tmp_path):
    presets = {"only": lambda: ImageRun(net=None)}
    for flags in (["--data.path", str(tmp_path), "--data.size", "64"], [f"--data-path={tmp_path}", "--data-size=64"]):
        config = configure(presets, None, ["--data", "folder", *flags])
        assert (config.data, config.data_path, config.data_size) == ("folder", tmp_path, 64)
    assert configure(presets, None, ["--data", "fashion_mnist"]).data_path is None


def test_default_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFJAX_DATA", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("DIFFJAX_DATA")
    assert default_data_dir().parts[-2:] == (".cache", "diffjax")


def test_the_page_on_data_is_right():
    page = (Path(__file__).parents[2] / "experiments" / "DATA.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    names = {}
    exec(code.replace('"fashion_mnist")', '"digits")'), names)
    batch = names["batch"]
    assert batch["image"].shape == (64, 8, 8, 1) and abs(batch["image"]).max() == 1 and batch["label"].dtype == np.int32
    assert set(re.findall(r"^\| `(\w+)` \| (?:RGB|grey)", page, re.M)) == set(sources.NAMES) - {"auto"}

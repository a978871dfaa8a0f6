import numpy as np
import pytest

from diffjax.data import ImageData, digits, fashion_mnist, load, sources
from diffjax.data.image_data import default_data_dir


def test_digits_are_split_once_and_for_all():
    a, b = load("digits"), load("digits")
    assert a.train_images.shape == (1540, 8, 8, 1) and a.test_images.shape == (257, 8, 8, 1)
    assert a.train_images.dtype == np.uint8 and a.train_images.min() == 0 and a.train_images.max() == 255
    assert len(np.unique(a.train_images)) == 17
    np.testing.assert_array_equal(a.test_images, b.test_images)
    counts = np.bincount(a.test_labels, minlength=10)
    assert counts.min() >= 20 and counts.max() <= 32  # every class, about 26 each
    assert a.shape == (8, 8, 1) and a.n_classes == 10


def test_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match="unknown data set 'mnist'; choose one of auto, fashion_mnist, digits"):
        load("mnist")


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
    assert sources.NAMES == ("auto", "fashion_mnist", "digits", "cifar10")


def test_image_data_checks_itself():
    d = digits.load()
    parts = (d.train_images, d.train_labels, d.test_images, d.test_labels)
    with pytest.raises(ValueError, match=r"x, train split: images must be uint8"):
        ImageData("x", parts[0].astype(np.float32), *parts[1:], d.class_names)
    with pytest.raises(ValueError, match="257 images, but labels of shape"):
        ImageData("x", *parts[:3], parts[3][:-1], d.class_names)
    with pytest.raises(ValueError, match=r"outside 0\.\.8"):
        ImageData("x", *parts, d.class_names[:9])
    with pytest.raises(ValueError, match="differ in shape"):
        ImageData("x", *parts[:2], parts[2][:, :4], parts[3], d.class_names)


def test_default_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("DIFFJAX_DATA", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("DIFFJAX_DATA")
    assert default_data_dir().parts[-2:] == (".cache", "diffjax")

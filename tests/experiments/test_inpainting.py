"""Inpainting and colorization end to end, on made-up pictures and untrained networks, at a size of seconds."""

import dataclasses

import jax
import numpy as np
import pytest

import diffjax as dj
from diffjax import data, precondition
from diffjax.data.image_data import ImageData


@pytest.fixture
def pictures(monkeypatch):
    """Grey garments and colourful emoji, of noise."""
    rng = np.random.default_rng(0)

    def made(name, *_, **__):
        shape, labels = (28, 28, 1) if name == "fashion_mnist" else (32, 32, 3), np.arange(40) % 10
        images = rng.integers(0, 256, (40, *shape), np.uint8)
        return ImageData(name, images, labels, images, labels, tuple("0123456789"))

    monkeypatch.setattr(data, "load", made)


@pytest.fixture
def inpainting(load, pixelwise, monkeypatch, tmp_path):
    """The experiment with a network of one linear map, and its configuration."""
    module = load("inpainting")
    monkeypatch.setattr(module, "WEIGHTS", tmp_path)
    monkeypatch.setattr(module, "SHIPPED", tmp_path)
    for name, shape in (("fashion-vp", (1, 28, 28, 1)), ("emoji", (1, 32, 32, 3))):
        args = jax.random.key(0), pixelwise(shape[-1]), dj.VP(), precondition.from_v
        dj.save(tmp_path / name, dj.Model.init(*args, np.zeros(shape, np.float32)))
    methods, problems = ("PC", "RePaint, j = 5"), ("upper half", "grey")
    weights = tmp_path / "emoji.safetensors"
    return module, module.Config(12, methods, problems, emoji_weights=weights, workdir=tmp_path / "run")


@pytest.mark.slow
def test_inpainting(inpainting, pictures):
    module, config = inpainting
    summary = module.main(config)
    assert np.isfinite(list(summary.values())).all() and (config.workdir / "inpainting.png").is_file()
    assert summary["upper half, original, agreement"] == 1
    assert {f"upper half, {name}, psnr" for name in (*config.methods, "unconditional")} <= set(summary)
    assert summary["grey, grey, chroma"] < 1e-6 < summary["grey, original, chroma"]
    for name in config.methods:
        assert summary[f"grey, {name}, grey"] < 1e-5, name
    with pytest.raises(SystemExit, match=r"unknown: \['RePant'\]"):
        module.main(dataclasses.replace(config, methods=("RePant",)))
    with pytest.raises(SystemExit, match=r"--emoji-weights: there is no .*none.*--preset cpu-emoji"):
        module.main(dataclasses.replace(config, problems=("grey",), emoji_weights=config.workdir / "none"))


def test_every_method_but_ddrm_costs_about_fifty_evaluations(load):
    module = load("inpainting")
    for name, method in module.METHODS.items():
        ts = module.times.repaint(module.times.uniform(module.SDE, method.n), method.j, method.r)
        evaluations = int((np.diff(ts) < 0).sum()) * (1 + (name == "PC"))
        assert evaluations in (49, 50) or name == "DDRM"


def test_missing_emoji_are_said_before_anything_is_drawn(inpainting, pictures, monkeypatch, capsys):
    module, config = inpainting
    made = data.load

    def load(name, *args, **options):
        if name == "emoji":
            raise FileNotFoundError("no emoji: make data")
        return made(name, *args, **options)

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(module, "inpainting", lambda config, pictures: {"inpainted": 1.0})
    monkeypatch.setattr(module, "figure", lambda pictures, path: None)
    assert module.main(config) == {"inpainted": 1.0}
    assert "Colorization is left out. no emoji: make data" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no emoji: make data"):
        module.main(dataclasses.replace(config, problems=("grey",)))

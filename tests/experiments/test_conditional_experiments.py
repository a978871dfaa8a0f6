"""The experiments of guidance, inverse problems and SDEdit end to end, on made-up pictures, at a size of seconds."""

import dataclasses

import numpy as np
import pytest

from diffjax import data
from diffjax.data.image_data import ImageData


@pytest.fixture
def garments(monkeypatch):
    """In place of Fashion-MNIST, wherever an experiment asks for it."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (200, 28, 28, 1), np.uint8), np.arange(200) % 10
    made = ImageData("fashion_mnist", images, labels, images, labels, tuple("0123456789"))
    monkeypatch.setattr(data, "load", lambda *_, **__: made)


@pytest.mark.slow
def test_guidance(load, garments, tmp_path):
    guidance = load("guidance")
    config = guidance.Config(
        samples=20, steps=3, cfg=(2.0,), classifier=(), ordinary=(), dps=(), mpgd=(0.05,), workdir=tmp_path
    )
    summary = guidance.main(config)
    assert {"cfg 2, accuracy", "ordinary, MPGD 0.05, diversity"} <= set(summary)
    assert (tmp_path / "guidance.png").is_file() and np.isfinite(list(summary.values())).all()


@pytest.mark.slow
def test_inverse_problems(load, garments, tmp_path):
    inverse = load("inverse_problems")
    config = inverse.Config(images=8, methods=("DDRM",), problems=("pool x 4", "HDR"), workdir=tmp_path)
    summary = inverse.main(config)
    assert summary["pool x 4, A+ y, residual"] < 1e-3  # the pseudo-inverse meets the measurement, noise included
    assert 0.5 < summary["pool x 4, DDRM, residual"] < 1.5 and "HDR, y, psnr" in summary
    assert (tmp_path / "inverse_problems.png").is_file()
    with pytest.raises(SystemExit, match=r"unknown: \['DDRN'\]"):
        inverse.main(dataclasses.replace(config, methods=("DDRN",)))


@pytest.mark.slow
def test_sdedit(load, garments, tmp_path):
    sdedit = load("sdedit")
    summary = sdedit.main(sdedit.Config(images=140, steps=1, t_0=(0.1, 0.5), workdir=tmp_path))
    assert summary["t_0 0.1, distance"] < summary["t_0 0.5, distance"]
    assert np.isfinite(list(summary.values())).all()
    assert (tmp_path / "sdedit.png").is_file()


def test_the_seam_is_the_step_across_the_box(load):
    sdedit, x = load("sdedit"), np.zeros((2, 28, 28, 1), np.float32)
    x[:, sdedit.BOX, sdedit.BOX] = [[[[0.5]]], [[[-1.5]]]]
    assert sdedit.seam(x) == pytest.approx(np.sqrt((0.5**2 + 1.5**2) / 2))


def test_the_knee(load):
    assert load("sdedit").knee((0.1, 0.2, 0.3, 0.4), [10.0, 4.0, 1.4, 1.0]) == 0.3


@pytest.mark.slow
def test_noisy_classifier(load, garments, tmp_path):
    noisy = load("noisy_classifier")
    config = noisy.Config(batch_size=8, test_images=10, test_times=(0.0, 1.0), workdir=tmp_path)
    config = dataclasses.replace(
        config, loop=dataclasses.replace(config.loop, steps=2, log_every=2, checkpoint_every=2)
    )
    summary = noisy.main(config)
    assert summary["steps"] == 2 and 0 <= summary["accuracy at t = 1"] <= 1
    assert (tmp_path / "ema.safetensors").is_file()

"""Every Python block of the README runs, one after the other, and a classifier looks at the pictures they draw."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import diffjax as dj

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHORTER = {  # what takes long, with less accuracy
    "steps=2000": "steps=2",
    "log_likelihood(key, x[:2])": "log_likelihood(key, x[:2], tol=0.1)",
    "invert(x)": "invert(x, steps=20)",
}


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the blocks leave, where they are made shorter, and trained on made-up pictures."""
    found, folder = {}, tmp_path_factory.mktemp("readme")
    np.save(folder / "images.npy", np.random.default_rng(0).integers(0, 256, (70, 8, 8, 1), np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for long in SHORTER:
            assert sum(long in block for block in BLOCKS) == 1, long
        for block in BLOCKS:
            for long, short in SHORTER.items():
                block = block.replace(long, short)
            exec(block, found)
        return {**found, "folder": folder}


@pytest.mark.slow
def test_its_pictures_are_garments(names):
    """The classifier is sure of pictures (0.87 on average for the test images' first 16), not of noise (0.5)."""
    classifier, model = jax.jit(dj.load("fashion-classifier")), dj.load("fashion-vp")

    def sure(x):
        return float(jax.nn.softmax(classifier(x.clip(-1, 1))[0]).max(-1).mean())

    for name in ("x", "restored", "filled", "edited"):
        assert names[name].shape == (16, 28, 28, 1)
        assert sure(names[name]) > 0.7, name
    assert sure(dj.prior_sample(names["key"], model.sde, (16, 28, 28, 1))) < 0.6
    np.testing.assert_allclose(names["filled"][:, :14], names["x"][:, :14], atol=1e-5)
    assert np.isfinite(names["logp"]).all() and abs(float(names["z"].std()) - 1) < 0.2


@pytest.mark.slow
def test_its_training_leaves_a_model(names):
    model = dj.load(names["folder"] / "mine.safetensors")
    assert model.sample(names["key"], 2, steps=2).shape == (2, 8, 8, 1)
    assert names["summary"]["steps"] == 2 and (names["folder"] / "runs" / "mine" / "metrics.jsonl").is_file()


def test_it_is_short_and_its_links_lead_somewhere():
    assert len(README.encode()) <= 9000
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (Path(__file__).parents[1] / link).exists(), link
    for script in re.findall(r"`(\w+\.py)`", README):
        assert list((Path(__file__).parents[1]).glob(f"*/{script}")) or script == "model.py", script

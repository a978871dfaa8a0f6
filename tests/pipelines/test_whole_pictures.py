"""Pictures against diffusers' pipelines on the same folders (`make_pictures.py`): prompts, times, masks."""

from pathlib import Path

import hub_folders
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import pipelines
from diffjax.formats.tensors import read_tensors
from diffjax.pipelines import Settings

FILE = Path(__file__).with_name("pictures.safetensors")
PROMPTS, NEGATIVE = ["a red fox", "Two dogs, at night!"], "blurry"
NOISE = ("pipelines.drawing", "samplers.sdedit", "samplers.ddim", "nn.kl_autoencoder", "constraints.known")
FOLDERS = {
    "text": "one",
    "image": "ddim",
    "inpaint 9": "nine",
    "inpaint 4": "ddim",
    "xl": "xl",
    "xl, no negative": "xl",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "hub"
    hub_folders.write_all(path)
    jax.clear_caches()  # of programs with true noise, and after these tests of those without
    yield path
    jax.clear_caches()


@pytest.mark.slow
@pytest.mark.parametrize("case", FOLDERS)
def test_a_picture_is_that_of_diffusers(folders, monkeypatch, key, case):
    for module in NOISE:
        monkeypatch.setattr(f"diffjax.{module}.normal", lambda key, x: jnp.ones_like(x))
    arrays = read_tensors(FILE)
    image, mask = np.asarray(2 * arrays["in/image"][0] - 1), np.asarray(arrays["in/mask"][0])
    pipe = pipelines.load_stable_diffusion(folders / FOLDERS[case], split_padding=True)
    size = None if case.startswith("i") else (16, 24)
    settings = Settings(steps=4, scale=5.0, size=size)
    negative = None if "no" in case else NEGATIVE
    if case == "image":
        x = pipe.image_to_image(key, PROMPTS, image, 0.8, negative, settings)
    elif "inpaint" in case:
        x = pipe.inpaint(key, PROMPTS, image, mask, negative, settings)
    else:
        x = pipe.text_to_image(key, PROMPTS, negative, settings)
    expected = np.asarray(arrays[case])
    assert ((expected > 0) & (expected < 1)).mean() > 0.3  # not all is clipped
    error = np.abs(np.clip(x / 2 + 0.5, 0, 1) - expected).max()
    assert error < 2e-5, error

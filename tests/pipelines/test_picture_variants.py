"""Pictures of U-Nets with more inputs, LCM and XL's refiner, against diffusers' in float64 (`make_variants.py`)."""

import dataclasses
from pathlib import Path
from typing import Any

import hub_folders
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import pipelines
from diffjax.formats.tensors import read_tensors
from diffjax.pipelines import Settings, StableDiffusion
from diffjax.pipelines.stable_diffusion import Encoded

FILE = Path(__file__).with_name("variants.safetensors")
NOISE = ("pipelines.drawing", "samplers.sdedit", "samplers.ddim", "samplers.renoise", "nn.kl_autoencoder")
PROMPTS = ["a fox", "two dogs"]


@pytest.fixture(autouse=True, scope="module")
def noise_of_ones():
    """No program with true noise is used here, and after these tests none without."""
    jax.clear_caches()
    yield
    jax.clear_caches()


@dataclasses.dataclass(frozen=True)
class Undecoded:
    """An autoencoder whose decoder returns the latents, and takes no time to compile."""

    net: Any

    def apply(self, params, x, method):
        return x if method == "decode" else self.net.apply(params, x, method=method)

    encode = decode = apply


def load(folder):
    """The pipeline in float64, without a decoder."""
    pipe = pipelines.load_stable_diffusion(folder, jnp.float64)
    codec = pipe.codec
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), codec.params)
    codec = codec.replace(network=Undecoded(codec.network.clone(dtype=jnp.float64)), params=params)
    return dataclasses.replace(pipe, model=pipe.model.replace(codec=codec))


def of_xl(context, null, pooled, sizes, null_sizes):
    """Conditions of two prompts; the vectors of the null condition are the last two."""
    cond = {"context": context, "pooled": pooled[:2], "sizes": np.array([sizes] * 2)}
    return Encoded(cond, {"context": null, "pooled": pooled[2:], "sizes": np.array([null_sizes] * 2)})


@pytest.mark.slow
@pytest.mark.parametrize("case", ["depth", "edit", "upscale", "lcm", "refiner"])
def test_a_picture_is_that_of_diffusers_to_1e_6(tmp_path, monkeypatch, key, x64, case):
    for module in NOISE:
        monkeypatch.setattr(f"diffjax.{module}.normal", lambda key, x: jnp.ones_like(x))
    arrays = {name: np.asarray(x) for name, x in read_tensors(FILE).items()}
    conds = [{"context": arrays[f"in/{name}"]} for name in ("context", "null")]
    monkeypatch.setattr(StableDiffusion, "encode", lambda *_, **__: Encoded(*conds))
    pipe = load(hub_folders.write(tmp_path / case, **hub_folders.CASES[case]))
    image, settings = 2 * arrays["in/image"][0] - 1, Settings(steps=4, scale=5.0)
    if case == "depth":
        x = pipe.depth_to_image(key, PROMPTS, image, arrays["in/depth"], 0.8, settings=settings)
    elif case == "upscale":
        x = pipe.upscale(key, PROMPTS, 2 * arrays["in/small"][0] - 1, 20, settings=settings)
    elif case == "lcm":
        x = pipe.text_to_image(key, PROMPTS, settings=Settings(steps=4, scale=8.5, size=(16, 24)))
    elif case == "refiner":
        base = load(hub_folders.write(tmp_path / "xl", **hub_folders.CASES["xl"]))
        pooled, size = arrays["in/pooled"], [16.0, 24.0, 0.0, 0.0]
        of_base = of_xl(arrays["in/wide"][:2], arrays["in/wide"][2:], pooled, [*size, 16, 24], [*size, 16, 24])
        of_refiner = of_xl(arrays["in/context"], arrays["in/null"], pooled, [*size, 6], [*size, 2.5])
        both = {2: of_base, 1: of_refiner}
        monkeypatch.setattr(StableDiffusion, "encode", lambda self, *_, **__: both[len(self.towers)])
        settings = dataclasses.replace(settings, size=(16, 24))
        x = pipelines.refined_text_to_image(base, pipe, key, PROMPTS, settings=settings, share=0.5)
    else:
        x = pipe.edit(key, PROMPTS, image, settings=settings)
    assert x.dtype == np.float64
    x = x * pipe.codec.scale
    error = np.abs(x - arrays[case]).max() / np.abs(arrays[case]).max()
    assert error < 1e-6, error

"""From a picture: strength, masks of both kinds of U-Nets, and the two text towers of XL."""

import dataclasses
from typing import Any

import flax.linen as nn
import hub_folders
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import pipelines
from diffjax.pipelines import Settings, inputs, loading, solvers
from diffjax.pretrained import stable_diffusion as sd

SETTINGS = Settings("ddim", steps=4, scale=2.0)
# torch.nn.functional.interpolate of 0 ... 7, bicubic, align_corners=False: the first 5 of 16, and all of 3
LARGER = [-0.10546875, 0.19140625, 0.66796875, 1.296875, 1.703125]
SMALLER = [0.76967591, 3.5, 6.23032331]


class Pool(nn.Module):
    """An autoencoder without parameters: the mean of each cell of 8 x 8 pixels, and back."""

    def encode(self, x: Any) -> Any:
        B, H, W, C = x.shape
        z = x.reshape(B, H // 8, 8, W // 8, 8, C).mean((2, 4))
        return jnp.pad(z, ((0, 0), (0, 0), (0, 0), (0, 1)))

    def decode(self, z: Any) -> Any:
        return z.repeat(8, 1).repeat(8, 2)[..., :3]


def pooled(pipe):
    codec = dj.Codec(Pool(), {}, (512, 512, 3), 0.5)
    return dataclasses.replace(pipe, model=pipe.model.replace(codec=codec))


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return pooled(pipelines.load_stable_diffusion(hub_folders.write(tmp_path_factory.mktemp("sd") / "one")))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(-1, 1, (2, 2, 3)).repeat(8, 0).repeat(8, 1).astype(np.float32)


@pytest.mark.slow
def test_strength(pipe, key, image):
    plan = solvers.plan("ddim", pipe.schedule, 4)
    assert inputs.tail(plan, 0.8).ts.tolist() == [502, 252, 2, 1]  # int(4 x .8) = 3 steps
    near, far = (pipe.image_to_image(key, ["a"], image, s, settings=SETTINGS)[0] for s in (0.25, 1.0))
    assert near.shape == image.shape
    assert np.abs(near - image).max() < 0.3 < np.abs(far - image).max()  # one step from t = 2, four from 752
    again = pipe.image_to_image(key, ["a"], -image, 1.0, settings=SETTINGS)[0]
    assert np.abs(far - again).max() > 1e-3  # even then the image is seen
    two = pipe.image_to_image(jax.random.split(key), ["a", "b"], np.stack([image, -image]), 0.25, settings=SETTINGS)
    assert np.abs(two[1] + image).max() < 0.3


@pytest.mark.parametrize("solver", ["ddim", "euler_a"])
@pytest.mark.slow
def test_a_u_net_of_4_channels_keeps_what_is_black(pipe, key, image, solver):
    mask = np.zeros((16, 16))
    mask[:8, :8] = 1
    settings = dataclasses.replace(SETTINGS, solver=solver)
    x = pipe.inpaint(key, ["a"], image, mask, settings=settings)[0]
    np.testing.assert_allclose(x[mask == 0], image[mask == 0], atol=1e-5)
    assert np.abs(x - image)[mask == 1].max() > 0.1
    under = np.where(mask[..., None] == 1, 0, image)
    np.testing.assert_allclose(pipe.inpaint(key, ["a"], under, mask, settings=settings)[0], x, atol=1e-4)
    thin = np.zeros((16, 16))
    thin[3:5, 2] = 1  # a cell is painted anew if one of its pixels is
    np.testing.assert_array_equal(pipe.inpaint(key, ["a"], image, thin, settings=settings)[0], x)


@pytest.mark.slow
def test_a_u_net_of_9_channels_sees_the_rest_of_the_image(tmp_path, key, image):
    pipe = pooled(pipelines.load_stable_diffusion(hub_folders.write(tmp_path / "nine", in_channels=9)))
    mask = np.zeros((16, 16))
    mask[:8, :8] = 1
    draw = lambda image, mask=mask, **more: pipe.inpaint(  # noqa: E731
        key, ["a"], image, mask, settings=SETTINGS, **more
    )
    x = draw(image)
    np.testing.assert_allclose(draw(np.where(mask[..., None] == 1, 0, image)), x, atol=1e-5)
    assert np.abs(draw(np.where(mask[..., None] == 0, 0, image)) - x).max() > 1e-3
    assert np.abs(draw(image, np.ones((16, 16))) - x).max() > 1e-3
    assert np.abs(draw(image, strength=0.5) - x).max() > 1e-3
    with pytest.raises(ValueError, match="in_channels = 9, and was made for inpainting"):
        pipe.text_to_image(key, ["a"])


def test_pictures_and_masks_that_do_not_fit(pipe, key, image):
    ones = np.ones((16, 16))
    for call, message in (
        (lambda: pipe.image_to_image(key, ["a"], image, 0.2, settings=SETTINGS), "leaves none of 4 steps"),
        (lambda: pipe.image_to_image(key, ["a"], image, 1.5), "strength"),
        (lambda: pipe.image_to_image(key, ["a"], image[:12], 0.5), "multiples of 8 pixels, got 12 x 16"),
        (lambda: pipe.image_to_image(key, ["a"], image, 0.5, settings=Settings(size=(8, 8))), "settings' size"),
        (lambda: pipe.image_to_image(key, ["a"], image[None].repeat(3, 0), 0.5), "1 prompts, got 3"),
        (lambda: pipe.image_to_image(key, ["a"], 128 * (image + 1), 0.5), "the image"),
        (lambda: pipe.inpaint(key, ["a"], image, 0 * ones), "black everywhere"),
        (lambda: pipe.inpaint(key, ["a"], image, 255 * ones), "from 0 .kept. to 1"),
        (lambda: pipe.inpaint(key, ["a"], image, ones[:8]), "a mask of .16, 16. pixels"),
        (lambda: Settings(scale=0), "None is for no guidance"),
        (lambda: Settings(size=512), "size is .height, width."),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.slow
def test_xl_has_two_towers_a_pooled_vector_and_sizes(tmp_path, key):
    pipe = pipelines.load_stable_diffusion(hub_folders.write(tmp_path / "xl", xl=True))
    settings = Settings(steps=2, size=(16, 8))
    found = pipe.encode(["fox"], settings=settings)
    assert {n: x.shape for n, x in found.cond.items()} == {"context": (1, 77, 16), "pooled": (1, 6), "sizes": (1, 6)}
    assert found.cond["sizes"].tolist() == found.null["sizes"].tolist() == [[16, 8, 0, 0, 16, 8]]
    assert not found.null["context"].any() and not found.null["pooled"].any()  # no negative prompt: zeros
    assert pipe.encode(["fox"], "", settings).null["pooled"].any()
    ids = [jnp.asarray(tokenizer(["fox"])) for tokenizer in pipe.tokenizers]
    assert ids[0][0, -1] == 513 and ids[1][0, -1] == 0  # padded by the end token, and by "!"
    states = [t.net.apply(t.params, i) for t, i in zip(pipe.towers, ids, strict=True)]
    both = np.concatenate([s.states[-2] for s in states], -1)
    np.testing.assert_allclose(found.cond["context"], both, atol=1e-5)
    np.testing.assert_allclose(found.cond["pooled"], states[1].projected, atol=1e-5)
    assert pipe.codec.scale == 0.13025
    x = pipe.text_to_image(key, ["fox"], settings=settings)
    assert x.shape == (1, 16, 8, 3) and np.isfinite(x).all()
    assert isinstance(pipe.schedule, sd.Schedule) and solvers.own_solver(pipe.schedule) == "euler"


MADE_FOR = {5: "depth_to_image", 8: "edit", 7: "upscale", 9: "inpaint", 4: "text_to_image"}


@pytest.mark.parametrize("in_channels", MADE_FOR)
def test_a_u_net_names_the_methods_it_was_made_for(key, image, in_channels):
    pipe = made(in_channels)
    given = key, ["a"], image
    calls = {
        "text_to_image": lambda: pipe.text_to_image(*given[:2]),
        "inpaint": lambda: pipe.inpaint(*given, np.ones((16, 16))),
        "depth_to_image": lambda: pipe.depth_to_image(*given, image[..., 0], 0.5),
        "edit": lambda: pipe.edit(*given),
        "upscale": lambda: pipe.upscale(*given),
    }
    own = MADE_FOR[in_channels]
    for name, call in calls.items():
        if name != own and not (own == "text_to_image" and name == "inpaint"):
            with pytest.raises(ValueError, match=f"in_channels = {in_channels}, and was made for .*: .*`{own}`"):
                call()


def made(in_channels):
    """A pipeline that is never run, without parameters and text."""
    levels, classes = (3, 1000) if in_channels == 7 else (4, 0)
    unet = sd.Part(dj.nn.ConditionalUNet(in_channels, 4, (8, 8), attention=(False, True), num_classes=classes), {})
    vae = sd.Part(dj.nn.KLAutoencoder(channels=(4,) * levels), {}, latents=(0.5, 0.0))
    schedule = sd.schedule_from_config(hub_folders.DDIM)
    return pipelines.StableDiffusion(loading.latent_model(unet, vae, schedule), (), (), schedule)


def test_depth_maps():
    """Maps of any unit end in [-1, 1]; the numbers of a ramp are PyTorch's."""
    ramp = np.add.outer(np.arange(8.0), np.zeros(12))
    found = inputs.as_depths(3 + 1e-3 * ramp, 2, (4, 6))
    assert found.shape == (2, 4, 6, 1) and found.min() == -1 and found.max() == 1
    np.testing.assert_allclose(found[0, :, 0, 0], found[1, :, 5, 0])
    np.testing.assert_allclose(inputs.bicubic(5, 5), np.eye(5))
    larger, smaller = (inputs.bicubic(8, n) @ np.arange(8.0) for n in (16, 3))
    np.testing.assert_allclose(larger[:5], LARGER, atol=1e-6)
    np.testing.assert_allclose(smaller, SMALLER, atol=1e-6)
    for depth, message in (
        (np.ones((8, 8)), "the depth map is flat, 1 everywhere"), (np.ones((3, 8, 8)), "one for each of 2 prompts"),
        (np.ones(8), "a depth map .H, W. is needed"), (np.where(ramp == 3, np.nan, ramp), "12 of 96 depths are NaN"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            inputs.as_depths(depth, 2, (4, 6))


def test_what_an_upscaler_refuses(key, image):
    pipe = dataclasses.replace(made(7), low_res=sd.schedule_from_config(hub_folders.LOW_RES))
    assert pipe.factor == 4 and pipe.codec.shape == (256, 256, 3)
    with pytest.raises(ValueError, match="noise_level must be from 0 to 350, got 351"):
        pipe.upscale(key, ["a"], image, 351)
    with pytest.raises(ValueError, match=r"the image is of \[16, 16\] pixels, and the settings' size \(4, 4\)"):
        pipe.upscale(key, ["a"], image, settings=Settings(size=(16, 16)))


def test_a_single_file_of_the_upscaler_has_its_own_schedule(tmp_path):
    parts = hub_folders.parts(in_channels=7)
    networks = {name: part.net for name, part in parts.items()}
    sd.write_single_file(tmp_path / "a.safetensors", parts)
    hub_folders.write_tokenizer(tmp_path / "tokenizer")
    pipe = pipelines.load_single_file(tmp_path / "a.safetensors", tokenizer=tmp_path / "tokenizer", networks=networks)
    assert pipe.purpose == "upscale" and pipe.schedule.prediction == "v" and pipe.codec.scale == 0.08333
    assert pipe.model.shape == (128, 128, 4) and pipe.tokenizers[0].pad == 0
    np.testing.assert_allclose(pipe.low_res.betas[[0, -1]], [1e-4, 0.02])


def test_a_base_and_a_refiner_that_do_not_fit(key):
    base = made(4)
    levels = dataclasses.replace(base, schedule=sd.schedule_from_config(hub_folders.LOW_RES))
    for refiner, share, message in (
        (levels, 0.8, "do not belong together"), (made(8), 0.8, "made for editing"),
        (base, 0.01, "leaves 0 of 4 steps"), (base, 1.0, "leaves 4 of 4 steps"), (base, 1.5, "share must be"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            pipelines.refined_text_to_image(base, refiner, key, ["a"], settings=SETTINGS, share=share)

"""The command line of Stable Diffusion, on a folder of tiny networks that the test writes."""

import dataclasses
import json

import hub_folders
import numpy as np
import pytest
from PIL import Image

from diffjax.formats.tensors import read_tensors, write_tensors
from diffjax.runs import experiment

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hub_folders.write(tmp_path_factory.mktemp("sd") / "tiny")


@pytest.fixture
def run(load, folder, tmp_path):
    """main() with a few options changed; the pictures as uint8, in order, and their text chunks."""
    module = load("stable_diffusion")

    def run(**changes):
        base = module.Config(folder, ("a fox",), seeds=(3, 4), solver="ddim", steps=2, size=(16, 16))
        config = dataclasses.replace(base, workdir=tmp_path / f"run{len(list(tmp_path.iterdir()))}", **changes)
        module.main(config)
        files = sorted(config.workdir.glob("0*.png"))
        return [np.asarray(Image.open(f)) for f in files], [Image.open(f).text for f in files]

    return run


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    levels = np.random.default_rng(0).integers(0, 256, (2, 2, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    Image.fromarray(levels).save(path)
    return path


@pytest.mark.slow
def test_pictures_with_their_settings_whatever_the_batch(run, folder):
    one, texts = run(negative="blurry")
    assert [x.shape for x in one] == [(16, 16, 3)] * 2 and (one[0] != one[1]).any()
    first = texts[0]["parameters"].splitlines()
    assert first[:2] == ["a fox", "Negative prompt: blurry"]
    assert first[2] == "Steps: 2, Sampler: ddim, CFG scale: 7.5, Seed: 3, Size: 16x16, Model: tiny"
    about = json.loads(texts[1]["diffjax"])
    assert (
        about["seed"] == 4 and about["solver"] == "ddim" and about["prompt"] == "a fox" and "jax" in about["versions"]
    )
    assert str(folder.parent) not in json.dumps(texts)
    two, _ = run(negative="blurry", batch_size=2, seeds=(4, 3))
    for a, b in zip(one, two[::-1], strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.slow
def test_a_picture_and_a_mask(run, photo, tmp_path, capsys):
    x, texts = run(image=photo, strength=0.5, seeds=(0,))
    assert x[0].shape == (16, 16, 3) and "Denoising strength: 0.5" in texts[0]["parameters"]
    mask = np.zeros((24, 24), np.uint8)
    mask[:12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    x, texts = run(image=photo, mask=tmp_path / "mask.png", seeds=(0,))
    assert "THE WHITE PART OF THE MASK IS PAINTED ANEW (50 %" in capsys.readouterr().out
    assert "Denoising strength: 1.0" in texts[0]["parameters"] and x[0].shape == (16, 16, 3)
    with pytest.raises(SystemExit, match="black everywhere"):
        run(image=photo, mask=black(tmp_path))
    with pytest.raises(SystemExit, match="multiples of 8 pixels, got 20 x 20"):
        run(image=odd(photo, tmp_path), size=None)


def black(folder):
    Image.new("L", (24, 24)).save(folder / "black.png")
    return folder / "black.png"


def odd(photo, folder):
    Image.open(photo).crop((0, 0, 20, 20)).save(folder / "odd.png")
    return folder / "odd.png"


@pytest.mark.slow
def test_a_lora(run, tmp_path):
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    rng = np.random.default_rng(0)
    tensors = {f"{name}.lora_B.weight": rng.normal(size=(8, 2)), f"{name}.lora_A.weight": rng.normal(size=(2, 8))}
    write_tensors(tmp_path / "style.safetensors", {n: x.astype(np.float32) for n, x in tensors.items()})
    style = (tmp_path / "style.safetensors",)
    given = ((), 1.0), (style, 0.0), (style, 3.0)
    plain, none, strong = (run(seeds=(3,), lora=lora, lora_strength=(strength,)) for lora, strength in given)
    np.testing.assert_array_equal(plain[0], none[0])
    assert (plain[0][0] != strong[0][0]).any() and "<lora:style:3>" in strong[1][0]["parameters"]
    write_tensors(tmp_path / "other.safetensors", {n.replace("attn2", "attn9"): x for n, x in tensors.items()})
    with pytest.raises(SystemExit, match=r"none fit these networks.*attn2.to_v"):
        run(lora=(tmp_path / "other.safetensors",))
    with pytest.raises(SystemExit, match="2 values for 1 files"):
        run(lora=style, lora_strength=(1.0, 2.0))


@pytest.mark.slow
def test_a_token_of_textual_inversion(run, tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    write_tensors(tmp_path / "toy.safetensors", {"<cat-toy>": x})
    given = dict(prompt=("a <cat-toy>",), seeds=(3,))
    _, texts = run(**given, textual_inversion=(tmp_path / "toy.safetensors",))
    assert "toy.safetensors: <cat-toy> in a prompt" in capsys.readouterr().out
    assert json.loads(texts[0]["diffjax"])["textual_inversion"] == ["toy.safetensors"]
    with pytest.raises(SystemExit, match="2 names for 1 files"):
        run(**given, textual_inversion=(tmp_path / "toy.safetensors",), token=("<a>", "<b>"))
    with pytest.raises(SystemExit, match="pickle"):
        run(**given, textual_inversion=(tmp_path / "toy.pt",))


@pytest.mark.parametrize(("damage", "message"), [
    ("missing", r"lacks 'conv_in.bias'"), ("extra", r"holds 'conv_in.bias2' \(similar: 'conv_in.bias'"),
    ("shape", r"'conv_in.bias' has the shape \(4,\), but the network needs \(8,\)"), ("truncated", "damaged|truncated"),
    ("pickle", "pickle"), ("folder", "lacks the folder vae"),
])  # fmt: skip
def test_damaged_weights_are_refused(run, tmp_path, damage, message):
    copy = hub_folders.write(tmp_path / "copy")
    file = copy / UNET
    tensors = {n: np.array(x) for n, x in read_tensors(file).items()}
    if damage == "missing":
        del tensors["conv_in.bias"]
    elif damage == "extra":
        tensors["conv_in.bias2"] = tensors["conv_in.bias"]
    elif damage == "shape":
        tensors["conv_in.bias"] = tensors["conv_in.bias"][:4]
    if damage in ("missing", "extra", "shape"):
        write_tensors(file, tensors)
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "pickle":
        file.rename(file.with_name("diffusion_pytorch_model.bin"))
    else:
        index = json.loads((copy / "model_index.json").read_text()) | {"vae": [None, None]}
        (copy / "model_index.json").write_text(json.dumps(index))
        (copy / "vae").rename(tmp_path / "vae")
    with pytest.raises(SystemExit, match=message):
        run(weights=copy)


def test_a_depth_map_of_16_bits(load, tmp_path):
    module = load("stable_diffusion")
    depth = np.add.outer(np.arange(6), 3 * np.arange(8)).astype(np.uint16)  # of one byte it would be flat
    Image.fromarray(depth).save(tmp_path / "depth.png")
    read = module.read_depth(module.Config(depth=tmp_path / "depth.png"))
    np.testing.assert_array_equal(read, depth)
    assert module.read_depth(module.Config(depth=tmp_path / "depth.png", size=(3, 3))).shape == (3, 3)
    Image.fromarray(depth.astype(np.uint8)).convert("RGB").save(tmp_path / "grey.png")
    np.testing.assert_array_equal(module.read_depth(module.Config(depth=tmp_path / "grey.png")), depth)


@pytest.mark.parametrize(("kind", "given", "message"), [
    ("one", ("depth",), "for text and images, and takes --image, --mask, --strength; --depth is for models of images "
     "with a depth map"),
    ("one", ("noise_level",), "--noise-level is for models of enlarging images"),
    ("depth", ("image",), "images with a depth map: it needs --depth"),
    ("edit", (), "editing by instructions: it needs --image"),
    ("edit", ("image", "strength"), "takes --image, --image-guidance-scale; --strength is for models of text and im"),
    ("upscale", ("image", "mask"), "enlarging images, and takes --image, --noise-level; --mask is for models of text"),
    ("nine", ("image",), "for inpainting: it needs --mask"), ("one", ("refiner", "image"), "leave out --image"),
])  # fmt: skip
def test_options_of_another_model(load, kind, given, message):
    module = load("stable_diffusion")
    options = dict(refiner="r", image="a", mask="b", depth="c", strength=0.5, image_guidance_scale=1.0, noise_level=3)
    config = module.Config(**{name: options[name] for name in given})
    purpose = {"one": "text", "nine": "inpaint"}.get(kind, kind)
    with pytest.raises(ValueError, match=message):
        module.check_options(config, purpose)


def test_options_that_cannot_be_meant(run, load, tmp_path, photo):
    paint = tmp_path / "paint.png"
    Image.fromarray(np.full((16, 16, 4), [255, 255, 255, 0], np.uint8)).save(paint)
    for changes, message in (
        (dict(weights=tmp_path / "none"), "there is no folder"), (dict(weights=tmp_path / "v1.ckpt"), "pickle"),
        (dict(prompt=()), "--prompt"), (dict(mask=photo), "--mask needs --image"),
        (dict(size=(20, 16)), "multiples of 8"), (dict(seeds=(2**32,)), "a seed must be from 0"),
        (dict(image=photo, mask=paint), "is transparent in parts"),
        (dict(solver="eular"), r"perhaps \['euler"), (dict(image=tmp_path / "none.png"), "there is no picture"),
        (dict(image=photo, strength=0.1), "leaves none of 2 steps"), (dict(steps=0), "steps"),
        (dict(strength=0.5), "--strength has no effect without --image"),
        (dict(share=0.5), "--share has no effect without --refiner"),
        (dict(lora_strength=(0.5,)), "--lora-strength has no effect without --lora"),
        (dict(negative="blurry", scale=1.0), "--negative has no effect without guidance"),
        (dict(scale=float("nan")), "--scale must be a finite number"),
        (dict(rescale=2.0), r"rescale must be a finite number in \[0, 1\]"),
        (dict(seeds=(-1,)), "a seed must be from 0"),
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=message):
            run(**changes)
    options = ["--prompt", "a", "b", "--size", "8", "16", "--seeds", "1", "2"]
    config = experiment.configure({"default": load("stable_diffusion").Config}, None, options)
    assert config.prompt == ("a", "b") and config.size == (8, 16) and config.seeds == (1, 2)

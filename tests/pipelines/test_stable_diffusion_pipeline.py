"""Prompts to pictures with tiny networks: what decides a picture, what compiles, and what is refused."""

import dataclasses
import json
import warnings

import hub_folders
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import pipelines
from diffjax.formats.tensors import read_tensors, write_tensors
from diffjax.pipelines import Settings, drawing, loading
from diffjax.pretrained import stable_diffusion as sd

SMALL = Settings("ddim", steps=2, size=(16, 24), scale=5.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return hub_folders.write(tmp_path_factory.mktemp("sd") / "one")


@pytest.fixture(scope="module")
def pipe(folder):
    return pipelines.load_stable_diffusion(folder)


def close(a, b):
    np.testing.assert_allclose(a, b, atol=2e-5)


def test_what_is_loaded(pipe):
    model = pipe.model
    assert model.sde.T == 1000 and model.shape == (64, 64, 4) and model.codec.shape == (512, 512, 3)
    assert model.codec.scale == 0.18215 and pipe.factor == 8 and pipe.schedule.solver == "PNDMScheduler"
    assert float(model.sde.alpha(1.0)) ** 2 == pytest.approx(0.99915)  # the network's index 0
    assert model.denoise.c_noise(model.sde, jnp.array([1.0, 982.5])).tolist() == [0, 981.5]


@pytest.mark.slow
def test_a_picture_is_its_seed_s_whatever_the_batch(pipe, key):
    """Prompt and key decide a picture: not its place, nor its neighbours, nor how many are drawn at a time."""
    prompts = ["a fox", "a dog", "a red fox"]
    keys = jax.vmap(jax.random.key)(jnp.array([3, 1, 2]))
    in_twos, by_one = (dataclasses.replace(SMALL, batch_size=n) for n in (2, 1))
    together = pipe.text_to_image(keys, prompts, settings=in_twos)
    assert together.shape == (3, 16, 24, 3) and np.isfinite(together).all()
    close(together, pipe.text_to_image(keys, prompts, settings=by_one))
    close(together[1:2], pipe.text_to_image(keys[1:2], prompts[1:2], settings=SMALL))
    assert np.abs(together[0] - pipe.text_to_image(keys[1:2], prompts[:1], settings=SMALL)[0]).max() > 1e-3
    close(
        pipe.text_to_image(key, prompts[:2], settings=SMALL)[:1], pipe.text_to_image(key, prompts[:1], settings=SMALL)
    )
    long = ["b" * 100, "c" * 200]  # of two and three chunks
    close(
        pipe.text_to_image(keys, ["a fox", *long], settings=SMALL)[:1],
        pipe.text_to_image(keys[:1], ["a fox"], settings=SMALL),
    )


@pytest.mark.slow
def test_prompt_negative_prompt_and_scale_count(pipe, key):
    draw = lambda *args, **changes: pipe.text_to_image(  # noqa: E731
        key, *args, settings=dataclasses.replace(SMALL, **changes)
    )
    base = draw(["a fox"])
    assert np.abs(base - draw(["a cat"])).max() > 1e-4
    assert np.abs(base - draw(["a fox"], "a cat")).max() > 1e-4
    close(base, draw(["a fox"], ""))
    assert np.abs(base - draw(["a fox"], scale=2.0)).max() > 1e-4
    assert np.abs(base - draw(["a (fox:1.5)"])).max() > 1e-4
    assert np.abs(base - draw(["a fox"], clip_skip=1)).max() > 1e-4
    close(draw(["a fox"], scale=1.0), draw(["a fox"], scale=None))
    close(draw(["a fox"], "a fox"), draw(["a fox"], scale=None))  # guidance away from the prompt itself


@pytest.mark.slow
def test_large_pictures_are_decoded_in_tiles(pipe, key):
    large, prompts = dataclasses.replace(SMALL, size=(32, 64)), ["a fox"]
    draw = lambda tile: pipe.text_to_image(  # noqa: E731
        key, prompts, settings=dataclasses.replace(large, tile=tile)
    )
    start, conds = {"keys": pipe.keys_of(key, prompts)}, pipe.encode(prompts)
    z = drawing.draw(pipe.model, pipe.plan(large), (32, 64), large, start, conds, decoded=False)
    close(draw(32), pipe.codec.decode(z, tile=4))
    close(draw(64), pipe.codec.decode(z))  # no picture is larger than the tile
    with pytest.raises(ValueError, match="a multiple of 8 pixels"):
        draw(36)


def test_the_condition(pipe):
    encoded = pipe.encode(["fox", "x" * 100], ["", "y"])
    assert encoded.cond["context"].shape == encoded.null["context"].shape == (2, 154, 8)
    alone = pipe.encode(["fox"]).cond["context"]
    close(encoded.cond["context"][0], np.concatenate([alone[0]] * 2))  # repeated: the same to attention
    close(encoded.cond["context"][1:], pipe.encode(["x" * 100], "y").cond["context"])
    assert pipe.encode(["fox", "x" * 100, "y" * 200]).cond["context"].shape == (3, 6 * 77, 8)
    with pytest.raises(ValueError, match=r"of \[7, 9\] chunks .* common multiple 63"):
        pipe.encode(["x" * 500, "x" * 650])
    plain, weighed = (pipe.encode(["a (fox:1.5)"], settings=Settings(restore_mean=m)).cond["context"] for m in (1, 0))
    assert np.abs(plain - weighed).max() > 1e-3
    assert list(encoded.cond) == ["context"]
    tower, tokenizer = pipe.towers[0], pipe.tokenizers[0]
    states = tower.net.apply(tower.params, jnp.asarray(tokenizer(["fox"]))).context
    close(pipe.encode(["fox"]).cond["context"], states)
    close(pipe.encode(["fox"]).null["context"], tower.net.apply(tower.params, jnp.asarray(tokenizer([""]))).context)


@pytest.mark.slow
def test_a_changed_scale_number_of_steps_prompt_or_seed_compiles_nothing(pipe, key):
    settings = dataclasses.replace(SMALL, size=(16, 16), solver="dpmpp_2m_karras")
    pipe.text_to_image(key, ["a fox"], "blurry", settings)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    try:
        for change in (dict(scale=3.0), dict(steps=3), dict(steps=60), dict(solver="dpmpp_2m", spacing="trailing")):
            pipe.text_to_image(jax.random.key(7), ["a blue dog"], "dull", dataclasses.replace(settings, **change))
        assert not [name for name in compiled if "jaxpr_trace" in name or "backend_compile" in name]
        pipe.text_to_image(key, ["a fox"], "blurry", dataclasses.replace(settings, steps=65, size=(16, 8)))
        assert [name for name in compiled if "backend_compile" in name]  # it would have been seen
    finally:
        jax.monitoring.clear_event_listeners()


def test_what_cannot_be_drawn_is_refused(pipe, key, folder, tmp_path):
    for settings, message in (
        (dict(size=(20, 16)), "multiples of 8 pixels, got 20 x 16"), (dict(solver="ddimm"), r"perhaps \['ddim"),
        (dict(spacing="even"), "leading, trailing or linspace"), (dict(steps=1001), "number of steps"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            pipe.text_to_image(key, ["a"], settings=dataclasses.replace(SMALL, **settings))
    for settings, message in ((dict(size=16), "size is"), (dict(scale=0.0), "None is for no guidance")):
        with pytest.raises(ValueError, match=message):
            Settings(**settings)
    for dtype in (jnp.float16, "int8", "fp16", None):
        with pytest.raises(ValueError, match="dtype is float32 or bfloat16"):
            pipelines.load_stable_diffusion(folder, dtype)
    with pytest.raises(TypeError, match="write \\[text\\]"):
        pipe.text_to_image(key, "a fox")
    with pytest.raises(ValueError, match="2 keys"):
        pipe.text_to_image(jax.random.split(key, 3), ["a", "b"], settings=SMALL)
    with pytest.raises(ValueError, match="one negative prompt, or 2, got 3"):
        pipe.encode(["a", "b"], ["c"] * 3)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        pipelines.load_stable_diffusion(tmp_path / "none")
    (tmp_path / "models--a" / "snapshots" / "1f").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"did you mean .*snapshots.1f"):
        pipelines.load_stable_diffusion(tmp_path / "models--a")
    with pytest.raises(ValueError, match="pickle"):
        pipelines.load_stable_diffusion(tmp_path / "v1.ckpt")
    single = tmp_path / "v1.safetensors"
    single.write_bytes(b"")
    with pytest.raises(ValueError, match="`load_single_file` reads it"):
        pipelines.load_stable_diffusion(single)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text((folder / "unet" / "config.json").read_text())
    with pytest.raises(FileNotFoundError, match="no weights at"):
        pipelines.load_stable_diffusion(tmp_path)
    wrong = json.loads((folder / "unet" / "config.json").read_text()) | {"cross_attention_dim": 12}
    (tmp_path / "unet" / "config.json").write_text(json.dumps(wrong))


@pytest.mark.slow
def test_a_single_file_draws_what_its_folder_does(tmp_path, key, folder, pipe):
    parts = sd.read_hub(folder)
    sd.write_single_file(tmp_path / "a.safetensors", parts)
    networks = {name: part.net for name, part in parts.items()}
    single = pipelines.load_single_file(tmp_path / "a.safetensors", tokenizer=folder / "tokenizer", networks=networks)
    assert single.model.shape == (64, 64, 4) and single.codec.scale == 0.18215
    np.testing.assert_array_equal(*(one.text_to_image(key, ["a fox"], settings=SMALL) for one in (single, pipe)))


def test_a_single_file_of_version_2_does_not_say_what_it_predicts(tmp_path):
    parts = hub_folders.parts()
    parts["unet"] = parts["unet"]._replace(net=parts["unet"].net.clone(linear_projection=True))
    networks = {name: part.net for name, part in parts.items()}
    sd.write_single_file(tmp_path / "a.safetensors", parts)
    hub_folders.write_tokenizer(tmp_path / "tokenizer")
    given = dict(tokenizer=tmp_path / "tokenizer", networks=networks)
    with pytest.raises(ValueError, match=r"is of version 2, which predicts eps \(512 pixels\) or v"):
        pipelines.load_single_file(tmp_path / "a.safetensors", **given)
    pipe = pipelines.load_single_file(tmp_path / "a.safetensors", prediction="v", **given)
    assert pipe.schedule.prediction == "v" and pipe.model.shape == (96, 96, 4) and pipe.tokenizers[0].pad == 0


def test_a_single_file_of_xl_may_say_that_it_predicts_v(tmp_path):
    """By empty tensors, as NoobAI-XL's; a projection of CLIP-L's, which XL does not use, is left out."""
    parts, file = hub_folders.parts(xl=True), tmp_path / "a.safetensors"
    sd.write_single_file(file, parts)
    more = {name: np.zeros(0, np.float32) for name in ("v_pred", "ztsnr")}
    more["conditioner.embedders.0.transformer.text_projection.weight"] = np.zeros((8, 8), np.float32)
    write_tensors(file, read_tensors(file) | more)
    hub_folders.write_tokenizer(tmp_path / "tokenizer")
    networks = {name: part.net for name, part in parts.items()}
    pipe = pipelines.load_single_file(file, tokenizer=tmp_path / "tokenizer", networks=networks)
    assert pipe.schedule.prediction == "v" and pipe.schedule.spacing == "trailing"
    assert pipe.schedule.betas[-1] == 1


@pytest.mark.parametrize(("said", "prediction"), [("v", "v"), ("epsilon", "eps"), ("else", "eps")])
def test_a_single_file_may_say_what_it_predicts_in_its_metadata(tmp_path, said, prediction):
    """sd-scripts' and other trainers' files do (ComfyUI, issue 12579)."""
    parts, file = hub_folders.parts(), tmp_path / "a.safetensors"
    sd.write_single_file(file, parts)
    write_tensors(file, read_tensors(file), {"modelspec.prediction_type": said})
    hub_folders.write_tokenizer(tmp_path / "tokenizer")
    networks = {name: part.net for name, part in parts.items()}
    pipe = pipelines.load_single_file(file, tokenizer=tmp_path / "tokenizer", networks=networks)
    assert pipe.schedule.prediction == prediction


@pytest.mark.parametrize(("size", "version", "pixels"), [
    (16, "0.42.1", (128, 128)), ([48, 96], "0.19.0", (384, 768)), (32, "0.6.0", (512, 512)), (32, None, (256, 256)),
    (None, "0.42.1", (512, 512)),
])  # fmt: skip
def test_a_model_s_own_size(folder, size, version, pixels):
    """Files of diffusers before 0.9 say 32 for 64 (its pull request 1406)."""
    config = json.loads((folder / "unet" / "config.json").read_text()) | {"sample_size": size}
    config = config | {"_diffusers_version": version} if version else config
    if not version:
        config.pop("_diffusers_version", None)
    assert tuple(8 * side for side in loading.latent_size(config)) == pixels


def test_what_acts_by_guidance_alone_is_refused_without(pipe):
    lcm = dataclasses.replace(pipe, model=pipe.model.replace(network=pipe.model.network.clone(guidance_width=8)))
    for one, settings, why in (
        (lcm, Settings(), "takes the scale as an input"),
        (pipe, Settings(scale=None), "is None"),
    ):
        with pytest.raises(ValueError, match=f"negative prompt has no effect .* {why}"):
            one.encode(["a fox"], "blurry", settings)
        with pytest.raises(ValueError, match="rescale has no effect"):
            one.encode(["a fox"], None, dataclasses.replace(settings, rescale=0.7))
        one.encode(["a fox"], "", settings)


def test_pictures_of_damaged_weights_are_no_pictures(pipe, key):
    bad = jax.tree.map(lambda x: x * np.nan, pipe.model.params)
    broken = dataclasses.replace(pipe, model=pipe.model.replace(params=bad))
    with pytest.raises(ValueError, match="1 of 1 pictures hold NaN"):
        broken.text_to_image(key, ["a"], settings=SMALL)


@pytest.mark.slow
def test_other_schedules(tmp_path, key):
    """v, half precision, and noise levels that end without signal."""
    zero = hub_folders.VERSION_1 | dict(
        _class_name="DDIMScheduler", prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    pipe = pipelines.load_stable_diffusion(hub_folders.write(tmp_path / "v", scheduler=zero), jnp.bfloat16)
    assert float(pipe.model.sde.alpha(1000.0)) == pytest.approx(2.0**-12, rel=1e-2)
    leaves = jax.tree.leaves((pipe.model.params, [tower.params for tower in pipe.towers]))
    assert {x.dtype for x in leaves} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves(pipe.model.codec.params)} == {jnp.dtype(jnp.float32)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = pipe.text_to_image(key, ["a"], settings=dataclasses.replace(SMALL, rescale=0.7))
    assert x.dtype == np.float32 and np.isfinite(x).all()

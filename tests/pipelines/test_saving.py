"""Pipelines as folders: what is written is read again, and is what diffusers' classes ask for."""

import dataclasses
import json

import hub_folders
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import pipelines
from diffjax.formats.tensors import write_tensors
from diffjax.pipelines import loading, prompts
from diffjax.pretrained import stable_diffusion as sd
from diffjax.text import load_tokenizer

CLASSES = {
    "xl": "StableDiffusionXLPipeline", "upscale": "StableDiffusionUpscalePipeline",
    "edit": "StableDiffusionInstructPix2PixPipeline",
}  # fmt: skip


def same(a, b):
    """Whether all arrays are equal in value and type."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return all(x.dtype == y.dtype and (x == y).all() for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["xl", "upscale"])
def test_a_pipeline_is_read_as_it_was_written(tmp_path, case):
    """In bfloat16, with a token of Textual Inversion."""
    dtype = jnp.bfloat16
    pipe = pipelines.load_stable_diffusion(hub_folders.write(tmp_path / "a", **hub_folders.CASES[case]), dtype)
    x = np.ones((2, 8), np.float32)
    write_tensors(tmp_path / "toy.safetensors", dict(clip_l=x, clip_g=x) if case == "xl" else {"toy": x})
    pipe = pipelines.add_textual_inversion(pipe, tmp_path / "toy.safetensors", "<toy>")
    pipelines.save_stable_diffusion(tmp_path / "b", pipe)
    assert json.loads((tmp_path / "b" / "model_index.json").read_text())["_class_name"] == CLASSES[case]
    own = pipelines.load_stable_diffusion(tmp_path / "b", dtype)
    assert own.model.network == pipe.model.network and own.model.shape == pipe.model.shape
    assert own.codec.network == pipe.codec.network and own.codec.scale == pipe.codec.scale
    assert same(own.model.params, pipe.model.params) and same(own.codec.params, pipe.codec.params)
    assert [t.net for t in own.towers] == [t.net for t in pipe.towers]
    assert same([t.params for t in own.towers], [t.params for t in pipe.towers])
    assert own.zero_null == pipe.zero_null
    for a, b in ((own.schedule, pipe.schedule), (own.low_res, pipe.low_res)):
        if a is not None:
            np.testing.assert_allclose(a.betas, b.betas, rtol=1e-10)
            assert a._replace(betas=None) == b._replace(betas=None)
    texts = ["a <toy>, don't!", "Naïve"]
    for a, b in zip(own.tokenizers, pipe.tokenizers, strict=True):
        np.testing.assert_array_equal(a(texts), b(texts))
        assert (a.start, a.end, a.pad, a.length, a.added) == (b.start, b.end, b.pad, b.length, b.added)


def test_the_index_names_the_parts_of_diffusers_class(tmp_path):
    parts = hub_folders.parts(in_channels=8)
    hub_folders.write_tokenizer(tmp_path / "given")
    schedule = sd.schedule_from_config(hub_folders.EULER_A)
    model = loading.latent_model(parts["unet"], parts["vae"], schedule, (96, 96))
    tower = prompts.Tower(parts["text_encoder"].net, parts["text_encoder"].params)
    pipe = pipelines.StableDiffusion(model, (tower,), (load_tokenizer(tmp_path / "given"),), schedule)
    pipelines.save_stable_diffusion(tmp_path / "a", pipe)
    index = json.loads((tmp_path / "a" / "model_index.json").read_text())
    assert index["_class_name"] == CLASSES["edit"] and index["requires_safety_checker"] is False
    assert index["scheduler"] == ["diffusers", "EulerAncestralDiscreteScheduler"]
    assert index["text_encoder"] == ["transformers", "CLIPTextModel"] and index["safety_checker"] == [None, None]
    assert json.loads((tmp_path / "a" / "unet" / "config.json").read_text())["sample_size"] == 96
    for changes, message in (
        (dict(in_channels=6), "no pipeline for a U-Net with in_channels = 6"),
        (dict(in_channels=5, pooled_width=6), "no pipeline for a U-Net of XL with in_channels = 5"),
        (dict(in_channels=4, guidance_width=8), "the parameters lacks 'guidance/kernel'"),
    ):
        other = pipe.model.replace(network=pipe.model.network.clone(**changes))
        with pytest.raises(ValueError, match=message):
            pipelines.save_stable_diffusion(tmp_path / "b", dataclasses.replace(pipe, model=other))


def test_schedules_return(tmp_path):
    """Of every rule, and levels that follow none."""
    zero = dict(rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    for config in (
        hub_folders.VERSION_1, hub_folders.LOW_RES, hub_folders.XL, hub_folders.DDIM | zero,
        dict(_class_name="DDPMScheduler", beta_schedule="squaredcos_cap_v2"), dict(_class_name="HeunDiscreteScheduler"),
        dict(_class_name="DPMSolverMultistepScheduler", use_karras_sigmas=True, trained_betas=[0.1, 0.3, 0.2]),
        dict(_class_name="DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++"),
        dict(_class_name="LCMScheduler", original_inference_steps=100),
    ):  # fmt: skip
        schedule = sd.schedule_from_config(config)
        written = sd.schedule_to_config(schedule)
        again = sd.schedule_from_config(json.loads(json.dumps(written)))
        np.testing.assert_allclose(again.betas, schedule.betas, rtol=1e-10)
        assert again._replace(betas=None) == schedule._replace(betas=None)
        assert ("trained_betas" in written) == ("trained_betas" in config)

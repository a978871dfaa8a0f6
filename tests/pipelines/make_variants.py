"""Writes `variants.safetensors`: latents of diffusers' pipelines for depth, InstructPix2Pix, upscaling, LCM and XL.

They are those of pictures before they are decoded.

"states" are those of a text with a token of Textual Inversion, of three vectors.

Run it as `make_pictures.py`, on the same folders; the tests read the file alone:

    PYTHONPATH=.:tests python -c "import hub_folders as h, pathlib; h.write_all(pathlib.Path('/tmp/hub'))"
    PYTHONPATH=tests/pretrained python tests/pipelines/make_variants.py /tmp/hub

All is computed in float64, what diffusers has in float32 too; all noise is 1 everywhere, and the states of the texts
are given. Arrays are [B, H, W, C].
"""

import json
import sys
from pathlib import Path

import diffusers
import diffusers.utils.torch_utils as utils
import numpy as np
import torch
import transformers
from diffusers.models import embeddings
from make_sd_fixtures import sinusoid
from safetensors.torch import save_file

TARGET = Path(__file__).with_name("variants.safetensors")
SIZE, SMALL, STEPS = (16, 24), (4, 8), 4
PIPELINES = dict(
    depth="StableDiffusionDepth2ImgPipeline", edit="StableDiffusionInstructPix2PixPipeline",
    upscale="StableDiffusionUpscalePipeline", lcm="LatentConsistencyModelPipeline",
    xl="StableDiffusionXLPipeline", refiner="StableDiffusionXLImg2ImgPipeline",
)  # fmt: skip


def ones(shape, *_, **__):
    return torch.ones(tuple(shape), dtype=torch.float64)


def networks(folder):
    """In float64; read before float32 is another name for it, which readers do not know."""
    parts = dict(
        unet=diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
        vae=diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae"),
    )
    classes = dict(text_encoder="CLIPTextModel", text_encoder_2="CLIPTextModelWithProjection")
    for name, cls in classes.items():
        if (folder / name).is_dir():
            parts[name] = getattr(transformers, cls).from_pretrained(folder, subfolder=name)
    return {name: part.double().eval() for name, part in parts.items()}


def pipeline(folder, kind, parts):
    """A pipeline without what its pictures do not need."""

    def scheduler(name):
        config = json.loads((folder / name / "scheduler_config.json").read_text())
        return getattr(diffusers, config["_class_name"]).from_config(config)

    parts = parts | dict(scheduler=scheduler("scheduler"))
    for name in ("tokenizer", "tokenizer_2"):
        if (folder / name).is_dir():
            parts[name] = transformers.CLIPTokenizer.from_pretrained(folder / name)
    if kind == "depth":
        parts |= dict(depth_estimator=None, feature_extractor=None)
    elif kind == "upscale":
        parts |= dict(low_res_scheduler=scheduler("low_res_scheduler"))
    elif kind == "refiner":
        parts |= dict(text_encoder=None, tokenizer=None, requires_aesthetics_score=True)
    elif kind != "xl":
        parts |= dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe = getattr(diffusers, PIPELINES[kind])(**parts)
    pipe.set_progress_bar_config(disable=True)
    if kind == "lcm":
        pipe.get_guidance_scale_embedding = lambda w, embedding_dim: sinusoid(1000 * w, embedding_dim)
    return pipe


def main(folder):
    classes = {kind: getattr(diffusers, name) for kind, name in PIPELINES.items()}
    read = {kind: networks(folder / kind) for kind in PIPELINES}
    torch.float32, np.float32 = torch.float64, np.float64  # schedulers too
    for name in (
        "DDIMScheduler",
        "DDPMScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "LCMScheduler",
    ):
        assert getattr(diffusers, name)
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("diffusers") and hasattr(module, "randn_tensor"):
            module.randn_tensor = ones
    utils.randn_tensor = ones
    embeddings.get_timestep_embedding = sinusoid
    rng = np.random.default_rng(0)

    def draw(*shape):  # of values that float32 holds, in [-1, 1] as well
        return torch.from_numpy(rng.integers(0, 2**12, shape) / 2.0**12)

    image, small, depth = draw(1, 3, *SIZE), draw(1, 3, *SMALL), 40 * draw(1, 7, 9)
    context, null = 2 * draw(2, 77, 8) - 1, 2 * draw(2, 77, 8) - 1
    given = dict(prompt_embeds=context, negative_prompt_embeds=null, num_inference_steps=STEPS, output_type="latent")
    lcm = dict(prompt_embeds=context, num_inference_steps=STEPS, original_inference_steps=50, output_type="latent")
    runs = {
        "depth": dict(image=image.repeat(2, 1, 1, 1), depth_map=depth, strength=0.8, guidance_scale=5.0, **given),
        "edit": dict(image=image.repeat(2, 1, 1, 1), guidance_scale=5.0, image_guidance_scale=1.5, **given),
        "upscale": dict(image=small.repeat(2, 1, 1, 1), guidance_scale=5.0, noise_level=20, **given),
        "lcm": dict(height=SIZE[0], width=SIZE[1], guidance_scale=8.5, **lcm),
    }
    arrays = {"in/image": image.permute(0, 2, 3, 1), "in/small": small.permute(0, 2, 3, 1), "in/depth": depth}
    arrays |= {"in/context": context, "in/null": null}
    wide, pooled = 2 * draw(4, 77, 16) - 1, 2 * draw(4, 6) - 1
    xl = dict(num_inference_steps=STEPS, guidance_scale=5.0, pooled_prompt_embeds=pooled[:2])
    xl |= dict(negative_pooled_prompt_embeds=pooled[2:])
    runs |= {
        "xl": dict(height=SIZE[0], width=SIZE[1], denoising_end=0.5, prompt_embeds=wide[:2], output_type="latent",
                   negative_prompt_embeds=wide[2:], **xl),
        "refiner": dict(denoising_start=0.5, prompt_embeds=context, negative_prompt_embeds=null, output_type="latent",
                        original_size=SIZE, target_size=SIZE, **xl),
    }  # fmt: skip
    arrays |= {"in/wide": wide, "in/pooled": pooled}
    for case, options in runs.items():
        if case == "refiner":
            options["image"] = arrays.pop("xl").permute(0, 3, 1, 2)
        pipe = pipeline(folder / case, case, read[case])
        assert isinstance(pipe, classes[case])
        x = pipe(**options).images.detach()
        assert x.dtype == torch.float64
        arrays[case] = x.permute(0, 2, 3, 1)
        print(f"{case:<20} {list(x.shape)} {float(x.min()):.3f} to {float(x.max()):.3f}")
    pipe, toy = pipeline(folder / "edit", "edit", read["edit"]), 2 * draw(3, 8) - 1
    pipe.load_textual_inversion({"<cat-toy>": toy})
    prompts = ["a <cat-toy>, red", "a Fox"]
    arrays["in/toy"], arrays["states"] = toy, pipe._encode_prompt(prompts, "cpu", 1, False)
    save_file({name: x.contiguous().clone() for name, x in arrays.items()}, TARGET)
    print(TARGET, TARGET.stat().st_size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        main(Path(sys.argv[1]))

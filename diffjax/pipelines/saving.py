"""A pipeline as a folder in the hub's layout, which `load_stable_diffusion` and diffusers' `from_pretrained` read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffjax.pipelines.stable_diffusion import MAX_NOISE_LEVEL, StableDiffusion
from diffjax.pretrained.stable_diffusion import Part, schedule_to_config, write_hub
from diffjax.pretrained.stable_diffusion.hub import VERSION, read_json, write_json
from diffjax.text.clip_writing import save_tokenizer

ABSENT = ("feature_extractor", "image_encoder")
CLASSES = {  # of diffusers, by purpose and whether there is a pooled text (XL); the parts of it that are not there
    ("text", False): ("StableDiffusionPipeline", ("safety_checker", *ABSENT)),
    ("text", True): ("StableDiffusionXLPipeline", ABSENT),
    ("inpaint", False): ("StableDiffusionInpaintPipeline", ("safety_checker", *ABSENT)),
    ("inpaint", True): ("StableDiffusionXLInpaintPipeline", ABSENT),
    ("edit", False): ("StableDiffusionInstructPix2PixPipeline", ("safety_checker", *ABSENT)),
    ("edit", True): ("StableDiffusionXLInstructPix2PixPipeline", ()),
    ("depth", False): ("StableDiffusionDepth2ImgPipeline", ("depth_estimator", "feature_extractor")),
    ("upscale", False): ("StableDiffusionUpscalePipeline", ("safety_checker", "feature_extractor")),
}
REFINER = "StableDiffusionXLImg2ImgPipeline", ("text_encoder", "tokenizer", *ABSENT)
LCM = "LatentConsistencyModelPipeline", ("safety_checker", *ABSENT)


def save_stable_diffusion(folder: str | Path, pipe: StableDiffusion, variant: str | None = None) -> None:
    """Write a pipeline: networks, tokenizers, schedulers and `model_index.json`.

    What was merged or added, LoRA and tokens of Textual Inversion, is written with the rest; weights keep the types
    that they have in the pipeline. There is no safety checker in it, and no depth estimator: diffusers' class for depth
    wants `from_pretrained(folder, depth_estimator=None, feature_extractor=None)`.

    Args:
      folder: of the model; files of the same names are replaced.
      variant: as in `load_stable_diffusion`.

    Raises:
      ValueError: a network has no place on the hub, the latents have a scale for each channel, or diffusers has no
        pipeline for the U-Net's inputs.
    """
    folder, (kind, absent) = Path(folder), _class(pipe)
    codec = pipe.codec
    if np.ndim(codec.scale) or np.ndim(codec.shift):
        raise ValueError("the hub's autoencoders have one scale and one shift, these latents one for each channel")
    parts = {"unet": Part(pipe.model.network, pipe.model.params)}
    parts["vae"] = Part(codec.network, codec.params, (), (float(codec.scale), float(codec.shift)))
    parts |= {name: Part(tower.net, tower.params) for name, tower in zip(pipe.text_parts, pipe.towers, strict=True)}
    write_hub(folder, parts, variant)
    for name, (height, width, _) in (("unet", pipe.model.shape), ("vae", codec.shape)):
        _change(folder / name / "config.json", {"sample_size": height if height == width else [height, width]})
    index: dict[str, Any] = {name: [None, None] for name in absent} | {"_class_name": kind}
    index |= {name: read_json(folder / "model_index.json")[name] for name in parts}
    for name, tokenizer in zip(pipe.text_parts, pipe.tokenizers, strict=True):
        name = name.replace("text_encoder", "tokenizer")
        save_tokenizer(tokenizer, folder / name)
        index[name] = ["transformers", "CLIPTokenizer"]
    for name, schedule in (("scheduler", pipe.schedule), ("low_res_scheduler", pipe.low_res)):
        if schedule is not None:
            write_json(folder / name / "scheduler_config.json", schedule_to_config(schedule))
            index[name] = ["diffusers", schedule.solver]
    write_json(folder / "model_index.json", VERSION | index | _options(pipe))


def _class(pipe: StableDiffusion) -> tuple[str, tuple[str, ...]]:
    """The name of diffusers' pipeline, and its parts that are not there."""
    net = pipe.model.network
    xl = bool(net.pooled_width)
    if (pipe.purpose, xl) not in CLASSES:
        of = " of XL" if xl else ""
        raise ValueError(f"diffusers has no pipeline for a U-Net{of} with in_channels = {net.in_channels}")
    if pipe.purpose == "text" and pipe.text_parts == ("text_encoder_2",):
        return REFINER
    return LCM if pipe.purpose == "text" and net.guidance_width and not xl else CLASSES[pipe.purpose, xl]


def _options(pipe: StableDiffusion) -> dict[str, Any]:
    """What `model_index.json` says besides its parts."""
    if pipe.model.network.pooled_width:
        refiner = {"requires_aesthetics_score": True} if pipe.text_parts == ("text_encoder_2",) else {}
        return refiner | {"force_zeros_for_empty_prompt": pipe.zero_null}
    if pipe.purpose == "upscale":
        return {"max_noise_level": MAX_NOISE_LEVEL}
    return {} if pipe.purpose == "depth" else {"requires_safety_checker": False}


def _change(file: Path, changes: dict[str, Any]) -> None:
    write_json(file, read_json(file) | changes)

"""Writes `pictures.safetensors`: what diffusers' pipelines draw with the folders of tests/hub_folders.py.

Run it where PyTorch, diffusers and transformers are installed (the extra "parity"), on folders that are written before,
without them; the tests read the file alone:

    PYTHONPATH=.:tests python -c "import hub_folders as h, pathlib; h.write_all(pathlib.Path('/tmp/hub'))"
    python tests/pipelines/make_pictures.py /tmp/hub

All noise is 1 everywhere: where a run begins, of each step, of an encoder's draw. float32. Arrays are [B, H, W, C].
"""

import json
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

TARGET = Path(__file__).with_name("pictures.safetensors")
PROMPTS, NEGATIVE = ["a red fox", "Two dogs, at night!"], "blurry"
SIZE = 16, 24
RUN = dict(num_inference_steps=4, guidance_scale=5.0, output_type="pt")


def ones(shape, *_, **__):
    return torch.ones(tuple(shape))


def load(folder, kind):
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
    parts = dict(
        unet=diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
        vae=diffusers.AutoencoderKL.from_pretrained(folder, subfolder="vae"),
        text_encoder=transformers.CLIPTextModel.from_pretrained(folder, subfolder="text_encoder"),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        scheduler=getattr(diffusers, scheduler).from_pretrained(folder, subfolder="scheduler"),
    )
    if "XL" in kind:
        second = transformers.CLIPTextModelWithProjection.from_pretrained(folder, subfolder="text_encoder_2")
        parts |= dict(
            text_encoder_2=second, tokenizer_2=transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
        )
    else:
        parts |= dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe = getattr(diffusers, kind)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main(folder):
    import diffusers.utils.torch_utils as utils

    pipelines = "StableDiffusionPipeline StableDiffusionImg2ImgPipeline StableDiffusionInpaintPipeline".split()
    kinds = {name: getattr(diffusers, name) for name in [*pipelines, "StableDiffusionXLPipeline"]}
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("diffusers") and hasattr(module, "randn_tensor"):
            module.randn_tensor = ones
    utils.randn_tensor = ones
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.uniform(size=(1, 3, *SIZE)).astype(np.float32))  # in [0, 1]
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., :8, :] = 1
    given = dict(prompt=PROMPTS, negative_prompt=[NEGATIVE] * 2, **RUN)
    images = given | dict(image=image.repeat(2, 1, 1, 1))
    size = dict(height=SIZE[0], width=SIZE[1])
    one, ddim, nine, xl = (folder / name for name in ("one", "ddim", "nine", "xl"))
    runs = {
        "text": (one, "StableDiffusionPipeline", given | size),
        "image": (ddim, "StableDiffusionImg2ImgPipeline", images | dict(strength=0.8)),
        "inpaint 9": (nine, "StableDiffusionInpaintPipeline", images | size | dict(mask_image=mask.repeat(2, 1, 1, 1))),
        "inpaint 4": (ddim, "StableDiffusionInpaintPipeline", images | size | dict(mask_image=mask.repeat(2, 1, 1, 1))),
        "xl": (xl, "StableDiffusionXLPipeline", given | size),
        "xl, no negative": (xl, "StableDiffusionXLPipeline", dict(prompt=PROMPTS, **RUN, **size)),
    }
    arrays = {"in/image": image.permute(0, 2, 3, 1), "in/mask": mask[:, 0]}
    for case, (where, kind, options) in runs.items():
        assert kind in kinds
        x = load(where, kind)(**options).images.detach()
        arrays[case] = x.permute(0, 2, 3, 1)
        print(f"{case:<16} {list(x.shape)} {float(x.min()):.3f} to {float(x.max()):.3f}")
    save_file({name: x.contiguous().clone() for name, x in arrays.items()}, TARGET)
    print(TARGET, TARGET.stat().st_size)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

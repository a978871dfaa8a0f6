"""Stable Diffusion in the hub's layout, at the smallest sizes, with random weights."""

import json
import math

import numpy as np

from diffjax import nn
from diffjax.parameters import unflatten
from diffjax.pretrained import stable_diffusion as sd
from diffjax.pretrained.stable_diffusion.layout import parameter_shapes
from diffjax.text.clip_bpe import END, LETTERS, START

VOCABULARY = 2 * 256 + 2
VERSION_1 = dict(
    _class_name="PNDMScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
    set_alpha_to_one=False, skip_prk_steps=True, clip_sample=False,
)  # fmt: skip
DDIM = VERSION_1 | dict(_class_name="DDIMScheduler")
UPSCALER = DDIM | dict(beta_start=1e-4, beta_end=0.02, prediction_type="v_prediction")
LOW_RES = dict(_class_name="DDPMScheduler", beta_start=1e-4, beta_end=0.02, beta_schedule="scaled_linear")
EULER_A = dict(
    _class_name="EulerAncestralDiscreteScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
)
LCM = VERSION_1 | dict(_class_name="LCMScheduler", clip_sample=False)
XL = dict(
    _class_name="EulerDiscreteScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
    steps_offset=1, timestep_spacing="leading",
)  # fmt: skip


def filled(net, seed=0):
    """Random parameters; those that start at 0 too."""
    rng, flat = np.random.default_rng(seed), {}
    for path, x in parameter_shapes(net).items():
        scale = 1.0 if path.endswith("scale") else 0.0
        width = 0.1 if len(x.shape) < 2 else 1.0 if "embedding" in path else math.prod(x.shape[:-1]) ** -0.5
        flat[path] = (scale + width * rng.normal(size=x.shape)).astype(np.float32)
    return {"params": unflatten(flat)}


def parts(xl=False, in_channels=4, **fields):
    """The networks of version 1, or of XL; latents have an eighth of a picture's side, the upscaler's a quarter."""
    width = 8
    text = nn.TextEncoder(VOCABULARY, 77, width, 2, 2, 16, end=VOCABULARY - 1)
    more = dict(pooled_width=6, size_count=6, size_width=4, linear_projection=True) if xl else {}
    more |= dict(num_classes=1000, linear_projection=True) if in_channels == 7 else {}
    more = dict(context_width=width * (1 + xl)) | more | fields
    unet = nn.ConditionalUNet(in_channels, 4, (8, 8), 1, (False, True), 2, groups=4, **more)
    vae = nn.KLAutoencoder(channels=(4,) * (3 if in_channels == 7 else 4), layers=1, groups=2, attention=False)
    nets = {"unet": unet, "vae": vae, "text_encoder": text}
    if xl:
        nets["text_encoder_2"] = text.clone(projection=6, activation="gelu")
    found = {name: sd.Part(net, filled(net, i)) for i, (name, net) in enumerate(nets.items())}
    scale = 0.13025 if xl else 0.08333 if in_channels == 7 else 0.18215
    return found | {"vae": found["vae"]._replace(latents=(scale, 0.0))}


def write(folder, xl=False, in_channels=4, scheduler=None, without=(), **fields):
    """A whole folder, but for some parts; returns its path."""
    found = {name: part for name, part in parts(xl, in_channels, **fields).items() if name not in without}
    sd.write_hub(folder, found)
    for name in found:
        if name.startswith("text_encoder"):
            write_tokenizer(folder / name.replace("text_encoder", "tokenizer"), "!" if name.endswith("2") else END)
    schedulers = {"scheduler": scheduler or (XL if xl else VERSION_1)}
    schedulers |= {"low_res_scheduler": LOW_RES} if in_channels == 7 else {}
    for name, config in schedulers.items():
        (folder / name).mkdir()
        (folder / name / "scheduler_config.json").write_text(json.dumps(config))
    return folder


def write_tokenizer(path, pad=END):
    """CLIP's, without merges: a token for each byte."""
    path.mkdir()
    vocabulary = {t: i for i, t in enumerate([*LETTERS, *(c + "</w>" for c in LETTERS), START, END])}
    names = {"bos_token": START, "eos_token": END, "pad_token": pad, "model_max_length": 77}
    (path / "vocab.json").write_text(json.dumps(vocabulary))
    (path / "merges.txt").write_text("#version: 0.2\n")
    (path / "tokenizer_config.json").write_text(json.dumps(names))


CASES = {
    "one": {}, "ddim": dict(scheduler=DDIM), "nine": dict(in_channels=9, scheduler=DDIM), "xl": dict(xl=True),
    "depth": dict(in_channels=5, scheduler=DDIM), "edit": dict(in_channels=8, scheduler=EULER_A),
    "upscale": dict(in_channels=7, scheduler=UPSCALER), "lcm": dict(scheduler=LCM, guidance_width=8),
    "refiner": dict(xl=True, without=("text_encoder",), size_count=5, context_width=8),
}  # fmt: skip


def write_all(folder):
    """Those that tests/pipelines/make_pictures.py and make_variants.py read."""
    folder.mkdir(exist_ok=True)
    for name, options in CASES.items():
        write(folder / name, **options)

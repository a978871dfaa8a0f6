"""Pipelines of files: a folder in the hub's layout, or a single file, which has neither tokenizers nor a schedule.

unet/  vae/  text_encoder/  text_encoder_2/      networks: config.json and safetensors
tokenizer/  tokenizer_2/                         vocab.json and merges.txt, or tokenizer.json
scheduler/scheduler_config.json                  the noise levels, what is predicted, and the grid of times
low_res_scheduler/scheduler_config.json          of an upscaler the noise levels of the small picture
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from diffjax import precondition
from diffjax.codec import Codec
from diffjax.data import packages
from diffjax.formats.tensors import refuse_pickle
from diffjax.model import Model
from diffjax.nn import ConditionalUNet
from diffjax.pipelines.prompts import Tower
from diffjax.pipelines.solvers import with_signal
from diffjax.pipelines.stable_diffusion import StableDiffusion
from diffjax.pretrained.stable_diffusion import (
    Part,
    Schedule,
    merge_lora,
    read_hub,
    read_schedule,
    read_single_file,
    schedule_from_config,
)
from diffjax.pretrained.stable_diffusion.hub import read_json
from diffjax.pretrained.stable_diffusion.single_file import read_marks
from diffjax.sde import BetaTable
from diffjax.text import load_tokenizer
from diffjax.text.clip_bpe import Tokenizer
from diffjax.text.clip_files import CLIP_VOCABULARY
from diffjax.typing import PyTree

PUBLISHED = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
OF_XL = dict(_class_name="EulerDiscreteScheduler", timestep_spacing="leading")
OF_OTHERS = dict(_class_name="PNDMScheduler", set_alpha_to_one=False)
OF_ZERO_SNR = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")  # Lin et al. (2024): both, or neither
OF_UPSCALER = dict(  # of latents and of the small picture: Stability-AI/stablediffusion, configs, x4-upscaling.yaml
    _class_name="DDIMScheduler", beta_start=1e-4, beta_end=0.02, beta_schedule="scaled_linear", steps_offset=1,
    set_alpha_to_one=False, clip_sample=False, prediction_type="v_prediction",
)  # fmt: skip
OF_PREDICTIONS = {"eps": "epsilon", "v": "v_prediction"}
PREDICTIONS = {"eps": precondition.from_eps, "v": precondition.from_v, "x0": precondition.from_x0}


def load_stable_diffusion(
    path: str | Path, dtype: Any = jnp.float32, variant: str | None = None, *, split_padding: bool = False
) -> StableDiffusion:
    """The pipeline of a folder.

    Args:
      dtype: of the U-Net's and the text towers' parameters and computation, float32 or bfloat16; the autoencoder stays
        in float32, its half precision can be seen in pictures.
      variant: "fp16" for files named so; a part that has none is read without, which `notes` tells.
      split_padding: read "!" as diffusers does with version 2 and XL, see `text.load_tokenizer`.

    Raises:
      FileNotFoundError: there is no such folder, or it lacks a part, which is named.
      ValueError: `path` is a pickle or a single file; or a part's files are damaged, or do not fit its configuration.
    """
    path, dtype = Path(path), _checked(dtype)
    refuse_pickle(path)
    if path.is_file():
        raise ValueError(f"{path} is a single file: `load_single_file` reads it, which needs a tokenizer besides")
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}")
    parts = read_hub(path, variant)
    texts = [name for name in ("text_encoder", "text_encoder_2") if name in parts]
    if missing := [name for name in ("unet", "vae") if name not in parts] + ([] if texts else ["text_encoder"]):
        raise FileNotFoundError(f"{path} lacks the folder {' and the folder '.join(missing)}")
    folders = [path / name.replace("text_encoder", "tokenizer") for name in texts]
    tokenizers = tuple(load_tokenizer(folder, split_padding=split_padding) for folder in folders)
    index = read_json(path / "model_index.json") if (path / "model_index.json").is_file() else {}
    schedule = read_schedule(path)
    size = latent_size(read_json(path / "unet" / "config.json"))
    model = latent_model(parts["unet"], parts["vae"], schedule, size, dtype)
    zero = bool(index.get("force_zeros_for_empty_prompt", True))
    pipe = _assembled(model, parts, tokenizers, schedule, zero, dtype)
    if pipe.purpose != "upscale":
        return pipe
    return dataclasses.replace(pipe, low_res=read_schedule(path, "low_res_scheduler"))


def load_single_file(
    path: str | Path,
    dtype: Any = jnp.float32,
    *,
    tokenizer: str | Path | None = None,
    prediction: Literal["eps", "v"] | None = None,
    networks: Mapping[str, Any] | None = None,
    split_padding: bool = False,
) -> StableDiffusion:
    """The pipeline of a single file, with the schedule that its version was published with.

    Args:
      dtype: as in `load_stable_diffusion`.
      tokenizer: CLIP's, a folder or its original vocabulary; by default that of `make data`.
      prediction: what the U-Net predicts; version 2 was published with both, and its files do not say which. Other
        files may say so, see `single_file.read_marks`.
      networks: as in `read_single_file`.

    Raises:
      FileNotFoundError: there is no such file, or no vocabulary.
      ValueError: as `read_single_file`; the prediction of version 2 is not given, or a part is missing.
    """
    dtype = _checked(dtype)
    parts, marks = read_single_file(path, networks), read_marks(path)
    if prediction is None:
        prediction = "v" if "v_pred" in marks else "eps" if "eps_pred" in marks else None
    net: ConditionalUNet = parts["unet"].net
    texts = [name for name in ("text_encoder", "text_encoder_2") if name in parts]
    if "vae" not in parts or not texts:
        raise ValueError(f"{path} has only the parts {', '.join(parts)}; an autoencoder and a text encoder are needed")
    xl, second = bool(net.pooled_width), net.linear_projection and not net.pooled_width
    upscaler = bool(net.num_classes)
    if second and not upscaler and prediction is None:
        raise ValueError(f"{path} is of version 2, which predicts eps (512 pixels) or v (768): give prediction")
    own = packages.find(*CLIP_VOCABULARY) if tokenizer is None else tokenizer
    read = load_tokenizer(own, split_padding=split_padding)
    padded = [dataclasses.replace(read, pad=0) if second or name == "text_encoder_2" else read for name in texts]
    config = OF_UPSCALER if upscaler else PUBLISHED | (OF_XL if xl else OF_OTHERS)
    config = config | (OF_ZERO_SNR if "ztsnr" in marks else {})
    config = config | ({} if prediction is None else {"prediction_type": OF_PREDICTIONS[prediction]})
    schedule = schedule_from_config(config)
    side = 128 if xl or upscaler else 96 if prediction == "v" else 64
    model = latent_model(parts["unet"], parts["vae"], schedule, (side, side), dtype)
    pipe = _assembled(model, parts, tuple(padded), schedule, True, dtype)
    return dataclasses.replace(pipe, low_res=schedule) if upscaler else pipe


def _assembled(
    model: Model,
    parts: Mapping[str, Part],
    tokenizers: tuple[Tokenizer, ...],
    schedule: Schedule,
    zero: bool,
    dtype: Any,
) -> StableDiffusion:
    texts = [name for name in ("text_encoder", "text_encoder_2") if name in parts]
    towers = tuple(Tower(_typed(parts[name], dtype), _on_device(parts[name].params, dtype)) for name in texts)
    notes = tuple(note for part in parts.values() for note in part.notes)
    return StableDiffusion(model, towers, tokenizers, schedule, zero and bool(model.network.pooled_width), notes)


def add_lora(pipe: StableDiffusion, path: str | Path, strength: float = 1.0) -> StableDiffusion:
    """The pipeline with a LoRA merged into the U-Net and the text towers; raises as `pretrained.merge_lora`."""
    towers = dict(zip(pipe.text_parts, pipe.towers, strict=True))
    parts = {"unet": Part(pipe.model.network, pipe.model.params)}
    parts |= {name: Part(tower.net, tower.params) for name, tower in towers.items()}
    merged = merge_lora(parts, path, strength)
    changed = tuple(dataclasses.replace(tower, params=merged[name].params) for name, tower in towers.items())
    return dataclasses.replace(pipe, model=pipe.model.replace(params=merged["unet"].params), towers=changed)


def latent_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of the latents that a U-Net was trained on, by its `config.json`.

    Sizes below 64 in files that diffusers wrote before version 0.9 are wrong (diffusers, pull request 1406).
    """
    size = config.get("sample_size") or 64
    height, width = (size, size) if isinstance(size, int) else size
    version = re.match(r"(\d+)\.(\d+)", str(config.get("_diffusers_version")))
    if version is not None and tuple(map(int, version.groups())) < (0, 9):
        return max(height, 64), max(width, 64)
    return height, width


def latent_model(
    unet: Part, vae: Part, schedule: Schedule, size: tuple[int, int] = (64, 64), dtype: Any = jnp.float32
) -> Model:
    """The model of latents [*size, C]: the U-Net with its process and prediction, and the codec.

    Raises:
      ValueError: the U-Net's output does not have the channels of the autoencoder's latents.
    """
    net: ConditionalUNet = unet.net
    channels = vae.net.latent
    if net.out_channels != channels:
        raise ValueError(
            f"the U-Net returns {net.out_channels} channels, but the autoencoder's latents have {channels}"
        )
    scale, shift = vae.latents
    shape = (size[0] * vae.net.factor, size[1] * vae.net.factor, vae.net.image_channels)
    codec = Codec(_typed(vae, jnp.float32), _on_device(vae.params, jnp.float32), shape, scale, shift)
    # the table's time t is the network's index t - 1, which may be fractional
    prediction = Partial(PREDICTIONS[schedule.prediction], c_noise=Partial(precondition.time_index))
    params = _on_device(unet.params, dtype)
    return Model(_typed(unet, dtype), params, process(schedule), prediction, (*size, channels), codec=codec)


def process(schedule: Schedule) -> BetaTable:
    """The table of noise levels, the last with a little signal, see `solvers.with_signal`."""
    return BetaTable.from_betas(with_signal(schedule.betas))


def _checked(dtype: Any) -> np.dtype:
    """Raise a ValueError unless it is float32, bfloat16, or float64 in JAX's mode of 64 bits."""
    wide = [jnp.float64] if jax.dtypes.canonicalize_dtype(jnp.float64) == jnp.float64 else []
    known = {str(np.dtype(x)): np.dtype(x) for x in (jnp.float32, jnp.bfloat16, *wide)}
    try:
        name = str(jnp.dtype(dtype)) if dtype is not None else ""
    except TypeError:
        name = ""
    if name not in known:
        raise ValueError(f"dtype is {' or '.join(known)}, got {dtype!r}; half precision here is bfloat16")
    return known[name]


def _typed(part: Part, dtype: Any) -> Any:
    return part.net.clone(dtype=dtype, param_dtype=dtype)


def _on_device(params: PyTree, dtype: Any) -> Mapping[str, Any]:
    return jax.tree.map(partial(jnp.asarray, dtype=dtype), params)

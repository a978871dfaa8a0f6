"""Single files: all networks of Stable Diffusion in one safetensors file, under CompVis' and OpenCLIP's names.

    parts = read_single_file(path)               # {"unet": Part, "vae": Part, "text_encoder": Part, ...}
    write_single_file(other_path, parts)

A full checkpoint of version 1 or 2 has the U-Net twice, as trained and as the moving average of that (EMA); the average
is read unless `ema=False`, and `Part.notes` says which. What the networks do not need, and is known to stand in such
files, is left out: schedules, counters, OpenCLIP's last block in version 2, a projection of CLIP's that no U-Net takes.
The layer that embeds an LCM's guidance scale has a name of ours, time_embed.cond_proj: diffusers reads none there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.formats.tensors import read_tensors, read_tensors_metadata, write_tensors
from diffjax.nn import presets
from diffjax.parameters import flatten, unflatten
from diffjax.pretrained.stable_diffusion.hub import PT, Part
from diffjax.pretrained.stable_diffusion.layout import Layout, from_tensors, to_tensors
from diffjax.pretrained.stable_diffusion.single_names import single_layout

MODELSPEC = {"v": "v_pred", "epsilon": "eps_pred"}
UNET, EMA = "model.diffusion_model.", "model_ema."
SCALES = {
    "Stable Diffusion XL": 0.13025,
    "Stable Diffusion XL's refiner": 0.13025,
    "Stable Diffusion's upscaler": 0.08333,
}
UNUSED = re.compile(
    r"(.*\.)?(position_ids|logit_scale|attn_mask)|betas|alphas_cumprod(_prev)?|(sqrt_|posterior_|log_one_minus_).*|"
    r"logvar|lvlb_weights|scale_factor|global_step|model_ema\.(decay|num_updates)|denoiser\.sigmas|"
    r"first_stage_model\.loss\..*|low_scale_model\..*|v_pred|ztsnr|"
    r"(cond_stage_model|conditioner\.embedders\.0)\.(transformer\.)?text_projection(\.weight)?"
)


def places(networks: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """part -> (prefix of its names, whether they are OpenCLIP's); decided by the U-Net's configuration."""
    unet = networks.get("unet")
    if unet is None:
        raise ValueError(f"a single file has a U-Net, got the parts {sorted(networks)}")
    found = {"unet": (UNET, False), "vae": ("first_stage_model.", False)}
    if unet.pooled_width:
        both = "text_encoder" in networks
        found["text_encoder"] = ("conditioner.embedders.0.transformer.", False)
        found["text_encoder_2"] = (f"conditioner.embedders.{int(both)}.model.", True)
    elif unet.linear_projection:
        found["text_encoder"] = ("cond_stage_model.model.", True)
    else:
        found["text_encoder"] = ("cond_stage_model.transformer.", False)
    if unknown := sorted(set(networks) - set(found)):
        raise ValueError(f"a single file of this U-Net has the parts {', '.join(found)}, got {unknown} besides")
    return {name: found[name] for name in networks}


def read_single_file(path: str | Path, networks: Mapping[str, Any] | None = None, ema: bool = True) -> dict[str, Part]:
    """The networks of a single file.

    Args:
      path: of the file.
      networks: {"unet": net, "vae": net, "text_encoder": net, ...} that it holds; by default they are recognised by
        names and shapes. Whether a U-Net of version 2 predicts eps or v cannot be seen.
      ema: whether the average is read where it is there.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is a pickle, damaged, holds other networks, or those of another version (the difference is named).
    """
    tensors = _with_prefix(read_tensors(path))
    family, found = recognise({name: x.shape for name, x in tensors.items()}, path)
    networks = found if networks is None else networks
    where = f"{path}, which looks like {family},"
    table, unused = file_layout(networks), {name for name in tensors if UNUSED.fullmatch(name)}
    plain = {name for name in table if name.startswith(UNET)}
    notes: dict[str, tuple[str, ...]] = {name: () for name in networks}
    averages = {name: ema_name(name) for name in plain}
    if any(name in tensors for name in averages.values()):
        if ema:
            table = {averages.get(name, name): stored for name, stored in table.items()}
            unused |= plain
        else:
            unused |= set(averages.values())
        notes["unet"] = ("the moving average (EMA) was read" if ema else "the weights as trained were read, no EMA",)
    unused |= _beyond(networks, tensors)
    variables, reshaped = from_tensors(table, tensors, where, unused)
    prefixes = {name: prefix for name, (prefix, _) in places(networks).items()}
    for note in reshaped:
        name = next((n for n, prefix in prefixes.items() if note.startswith(prefix)), "unet")
        notes[name] = (*notes[name], note)
    parts = {n: Part(net, {"params": variables["params"][n]}, notes[n]) for n, net in networks.items()}
    if "vae" in parts:
        parts["vae"] = parts["vae"]._replace(latents=(SCALES.get(family, 0.18215), 0.0))
    return parts


def read_marks(path: str | Path) -> set[str]:
    """What a file says of itself: of "v_pred" and "eps_pred", what the U-Net predicts, and "ztsnr", that the last noise
    level has no signal, those that it has.

    Files of XL say so by empty tensors "v_pred" and "ztsnr" (AUTOMATIC1111/stable-diffusion-webui, pull requests 16567
    and 16569), others by the metadata "modelspec.prediction_type", "v" or "epsilon" (Stability-AI/ModelSpec).
    """
    said = read_tensors_metadata(path).get("modelspec.prediction_type")
    return (read_tensors(path).keys() & {"v_pred", "ztsnr"}) | ({MODELSPEC[said]} if said in MODELSPEC else set())


def write_single_file(path: str | Path, parts: Mapping[str, Part]) -> None:
    """Write a single file; the U-Net's configuration decides which names the text towers have.

    Raises:
      ValueError: a part has no place in such a file, or its parameters are not its network's.
    """
    networks = {name: part.net for name, part in parts.items()}
    flat: dict[str, Any] = {}
    for name, part in parts.items():
        flat |= flatten(part.params["params"], f"{name}/")
    write_tensors(path, to_tensors(file_layout(networks), {"params": unflatten(flat)}), PT)


def file_layout(networks: Mapping[str, Any]) -> Layout:
    """The tensors of a single file; the paths of their parameters begin with the name of the part."""
    table: Layout = {}
    for part, (prefix, openclip) in places(networks).items():
        for name, stored in single_layout(networks[part], openclip).items():
            table[prefix + name] = stored._replace(paths=tuple(f"{part}/{path}" for path in stored.paths))
    return table


def ema_name(name: str) -> str:
    """That of the moving average: the dots of the rest are left out."""
    return EMA + name.removeprefix("model.").replace(".", "")


def _with_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names of CLIP's tower with "text_model.", which newer versions of transformers leave out."""
    for prefix in ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer."):
        if f"{prefix}embeddings.token_embedding.weight" in tensors:
            full = f"{prefix}text_model."
            tensors = {n.replace(prefix, full) if n.startswith(prefix) else n: x for n, x in tensors.items()}
    return tensors


def _beyond(networks: Mapping[str, Any], tensors: Mapping[str, Any]) -> set[str]:
    """Of OpenCLIP's tower what version 2 does not use: the last block, and the projection."""
    names: set[str] = set()
    for part, (prefix, openclip) in places(networks).items():
        net = networks[part]
        if openclip and not net.projection:
            last = f"{prefix}transformer.resblocks.{net.layers}."
            names |= {n for n in tensors if n.startswith(last) or n == f"{prefix}text_projection"}
    return names


def recognise(shapes: Mapping[str, tuple[int, ...]], path: Any) -> tuple[str, dict[str, Any]]:
    """(name of the family, its networks at full size) from the names and shapes in a single file.

    Raises:
      ValueError: it is a ControlNet's, or holds no U-Net of Stable Diffusion.
    """
    if any(name.startswith("control_model.") for name in shapes):
        raise ValueError(f"{path} is the file of a ControlNet, not of a whole model")
    entry = shapes.get(f"{UNET}input_blocks.0.0.weight")
    pattern = re.compile(re.escape(UNET) + r"input_blocks\.\d+\.1\.transformer_blocks\.0\.attn2\.to_k\.weight")
    width = next((shape[1] for name, shape in shapes.items() if pattern.fullmatch(name)), None)
    if entry is None or len(entry) != 4 or width is None:
        raise ValueError(f"{path} holds no U-Net of Stable Diffusion: it lacks {UNET}input_blocks.0.0.weight or attn2")
    guidance = shapes.get(f"{UNET}time_embed.cond_proj.weight")
    changes: dict[str, Any] = dict(in_channels=entry[1], guidance_width=guidance[1] if guidance else 0)
    has = lambda prefix: any(name.startswith(prefix) for name in shapes)  # noqa: E731
    if has("conditioner.embedders.1.model.") or (has(f"{UNET}label_emb.0.") and width == 2048):
        family, unet = "Stable Diffusion XL", presets.sdxl(**changes)
        text = {"text_encoder": presets.clip_l(), "text_encoder_2": presets.openclip_bigg()}
    elif has("conditioner.embedders.0.model.") or has(f"{UNET}label_emb.0."):
        family, unet = "Stable Diffusion XL's refiner", presets.sdxl_refiner(**changes)
        text = {"text_encoder_2": presets.openclip_bigg()}
    elif f"{UNET}label_emb.weight" in shapes:
        family, unet = "Stable Diffusion's upscaler", presets.sd_upscaler(**changes)
        text = {"text_encoder": presets.openclip_h()}
    elif width == 1024:
        family, unet, text = "Stable Diffusion 2", presets.sd2(**changes), {"text_encoder": presets.openclip_h()}
    else:
        family, unet, text = "Stable Diffusion 1", presets.sd1(**changes), {"text_encoder": presets.clip_l()}
    upscaler = dict(channels=(128, 256, 512)) if "upscaler" in family else {}
    networks = {"unet": unet, "vae": presets.kl_autoencoder(**upscaler)} | text
    prefixes = places(networks)
    return family, {name: net for name, net in networks.items() if has(prefixes[name][0])}

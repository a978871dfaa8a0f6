"""IP-Adapter files (Ye et al. 2023): a picture's tokens, and keys and values for them at every cross-attention.

    params, notes = read_ip_adapter("ip-adapter_sd15.safetensors", net)        # net: the U-Net
    params["params"]["unet"]["down0_attention0"]["block0"]["cross"]["key"]     # {"kernel": [768, 320]}

    image_proj.proj, .norm                  one embedding of a picture -> n tokens of the U-Net's context, normalized
    ip_adapter.<i>.to_k_ip, .to_v_ip        i = 1, 3, 5, ...: the cross-attentions, counted with the self-attentions

The numbers count a PyTorch module's parts in the order in which they were made: the way down, the way up from the
lowest level, and the middle last. The parameters lie at the U-Net's own paths. Variants with another image part ("plus"
with a resampler, "full face", FaceID with LoRA) are refused by name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.formats.tensors import read_tensors, write_tensors
from diffjax.pretrained.stable_diffusion.hub import PT
from diffjax.pretrained.stable_diffusion.layout import Layout, Stored, from_tensors, parameter_shapes, to_tensors
from diffjax.pretrained.stable_diffusion.names import hub_name
from diffjax.typing import PyTree

WAYS = ("down_blocks", "up_blocks", "mid_block")  # in the order in which PyTorch's module has them
OTHERS = {"image_proj.latents": "plus", "image_proj.proj.0.weight": "full face", "ip_adapter.0.to_q_lora": "FaceID"}
ENTRY = "image_proj.proj.weight"


def read_ip_adapter(path: str | Path, net: Any) -> tuple[PyTree, tuple[str, ...]]:
    """({"params": {"image": ..., "unet": ...}}, notes) of a file for the U-Net `net`; each tensor keeps its type.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is a pickle, damaged, another variant, or not for this U-Net (the difference is named).
    """
    tensors = read_tensors(path)
    for name, kind in OTHERS.items():
        if any(found.startswith(name) for found in tensors):
            raise ValueError(f"{path} is an IP-Adapter of the kind {kind!r}, which is not known here: it has {name!r}")
    entry = tensors[ENTRY].shape if ENTRY in tensors else ()
    if len(entry) != 2 or entry[0] % net.context_width:
        has = f"has the shape {entry}" if entry else "is absent"
        raise ValueError(f"{path}: {ENTRY!r} {has}, but tokens of {net.context_width} channels are needed: is it an "
                         "IP-Adapter, and for this U-Net?")  # fmt: skip
    return from_tensors(ip_adapter_layout(net, entry[0] // net.context_width, entry[1]), tensors, path)


def write_ip_adapter(path: str | Path, net: Any, params: PyTree) -> None:
    """The inverse of `read_ip_adapter`, byte for byte; raises a ValueError for parameters of another U-Net."""
    width, out = np.shape(params["params"]["image"]["dense"]["kernel"])
    layout = ip_adapter_layout(net, out // net.context_width, width)
    write_tensors(path, to_tensors(layout, params), PT)


def ip_adapter_layout(net: Any, tokens: int = 4, image_width: int = 1024) -> Layout:
    """The tensors of a file, for so many tokens of a picture's embedding of `image_width` channels."""
    D = net.context_width
    table = {
        ENTRY: Stored(("image/dense/kernel",), (tokens * D, image_width), (1, 0)),
        "image_proj.proj.bias": Stored(("image/dense/bias",), (tokens * D,)),
        "image_proj.norm.weight": Stored(("image/norm/scale",), (D,)),
        "image_proj.norm.bias": Stored(("image/norm/bias",), (D,)),
    }
    shapes = parameter_shapes(net)
    for i, site in enumerate(cross_attentions(net)):
        for name, which in (("to_k_ip", "key"), ("to_v_ip", "value")):
            path = f"{site}/{which}/kernel"
            table[f"ip_adapter.{2 * i + 1}.{name}.weight"] = Stored((f"unet/{path}",), shapes[path].shape[::-1], (1, 0))
    return table


def cross_attentions(net: Any) -> list[str]:
    """The paths of a U-Net's cross-attentions in PyTorch's order."""
    end = "/cross/key/kernel"
    found = {
        hub_name(net, path): path.removesuffix("/key/kernel") for path in parameter_shapes(net) if path.endswith(end)
    }
    places = {name: (WAYS.index(name.split(".")[0]), *map(int, re.findall(r"\d+", name))) for name in found}
    return [found[name] for name in sorted(found, key=lambda name: places[name])]

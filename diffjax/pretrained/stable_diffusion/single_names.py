"""The names of weights in single files: CompVis' for Stable Diffusion 1, OpenCLIP's for 2, and both of them for XL.

    down_blocks.0.resnets.1.conv1.weight  ->  model.diffusion_model.input_blocks.2.0.in_layers.2.weight

The layout of a single file is that of the hub's folder with other names, with 1 x 1 convolutions in the autoencoder's
attention, and, in OpenCLIP, with query, key and value stacked in one matrix.
"""

from __future__ import annotations

import re
from typing import Any

from diffjax.nn import ConditionalUNet, KLAutoencoder, TextEncoder
from diffjax.pretrained.stable_diffusion.layout import Layout, Stored, hub_layout
from diffjax.pretrained.stable_diffusion.names import Rule

RESNET: tuple[Rule, ...] = (
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
)
TOP: tuple[Rule, ...] = (
    (r"^conv_in\.", "input_blocks.0.0."),
    (r"^conv_norm_out\.", "out.0."),
    (r"^conv_out\.", "out.2."),
    (r"^time_embedding\.linear_1\.", "time_embed.0."),
    (r"^time_embedding\.linear_2\.", "time_embed.2."),
    (r"^time_embedding\.cond_proj\.", "time_embed.cond_proj."),
    (r"^add_embedding\.linear_1\.", "label_emb.0.0."),
    (r"^add_embedding\.linear_2\.", "label_emb.0.2."),
    (r"^class_embedding\.", "label_emb."),
    (r"^mid_block\.resnets\.0\.", "middle_block.0."),
    (r"^mid_block\.attentions\.0\.", "middle_block.1."),
    (r"^mid_block\.resnets\.1\.", "middle_block.2."),
)
VAE: tuple[Rule, ...] = (
    (r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2"),
    (r"down_blocks\.(\d+)\.downsamplers\.0\.conv", r"down.\1.downsample.conv"),
    (r"up_blocks\.(\d+)\.resnets\.(\d+)", r"up.\1.block.\2"),
    (r"up_blocks\.(\d+)\.upsamplers\.0\.conv", r"up.\1.upsample.conv"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    ("conv_norm_out", "norm_out"),
    ("conv_shortcut", "nin_shortcut"),
)
OPENCLIP: tuple[Rule, ...] = (
    (r"^text_model\.encoder\.layers\.", "transformer.resblocks."),
    (r"^text_model\.embeddings\.token_embedding\.", "token_embedding."),
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight", "text_projection"),
    (r"\.layer_norm(\d)\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.self_attn\.[qkv]_proj\.", ".attn.in_proj_"),
)


def single_layout(net: Any, openclip: bool = False) -> Layout:
    """The tensors of a network in a single file, without the prefix of its part; `openclip` of a text tower."""
    table: Layout = {}
    for name, stored in hub_layout(net).items():
        if isinstance(net, ConditionalUNet):
            table[_unet_name(net, name)] = stored
        elif isinstance(net, KLAutoencoder):
            name = _vae_name(net, name)
            matrix = ".attn_1." in name and len(stored.shape) == 2
            table[name] = stored._replace(shape=(*stored.shape, 1, 1)) if matrix else stored
        elif isinstance(net, TextEncoder) and openclip:
            _add_openclip(table, name, stored)
        elif isinstance(net, TextEncoder):
            table[name] = stored
        else:
            raise TypeError(f"no single files are known that hold a {type(net).__name__}")
    return table


def _unet_name(net: ConditionalUNet, name: str) -> str:
    if "resnets" in name:
        name = _renamed(RESNET, name)
    each = net.layers + 1

    def block(way: str, number: int, inner: str) -> str:
        return f"{way}_blocks.{number}.{inner}"

    patterns = (
        (r"^down_blocks\.(\d+)\.resnets\.(\d+)", lambda b, l: block("input", each * b + l + 1, "0")),
        (r"^down_blocks\.(\d+)\.attentions\.(\d+)", lambda b, l: block("input", each * b + l + 1, "1")),
        (r"^down_blocks\.(\d+)\.downsamplers\.(0)\.conv", lambda b, _: block("input", each * (b + 1), "0.op")),
        (r"^up_blocks\.(\d+)\.resnets\.(\d+)", lambda b, l: block("output", each * b + l, "0")),
        (r"^up_blocks\.(\d+)\.attentions\.(\d+)", lambda b, l: block("output", each * b + l, "1")),
        (
            r"^up_blocks\.(\d+)\.upsamplers\.(0)\.conv",
            lambda b, _: block("output", each * b + net.layers, f"{1 + net.attention[-1 - b]}.conv"),
        ),
    )
    for pattern, of in patterns:
        name = re.sub(pattern, lambda m, of=of: of(int(m[1]), int(m[2])), name)
    return _renamed(TOP, name)


def _vae_name(net: KLAutoencoder, name: str) -> str:
    """In single files the way up is counted by level, as ours is."""
    last = len(net.channels) - 1
    name = re.sub(r"\bup_blocks\.(\d+)", lambda m: f"up_blocks.{last - int(m[1])}", name)
    return _renamed(VAE, name)


def _add_openclip(table: Layout, name: str, stored: Stored) -> None:
    """Enter a parameter; those of query, key and value, in this order, become one tensor."""
    new = _renamed(OPENCLIP, name)
    if name == "text_projection.weight":  # a parameter of OpenCLIP's own, [in, out]
        stored = Stored(stored.paths, stored.shape[::-1])
    if ".in_proj_" not in new:
        table[new] = stored
        return
    parts = tuple(stored.paths[0].replace(f"/{_qkv(name)}/", f"/{which}/") for which in ("query", "key", "value"))
    table[new] = Stored(parts, (3 * stored.shape[0], *stored.shape[1:]), stored.axes)


def _qkv(name: str) -> str:
    return {"q": "query", "k": "key", "v": "value"}[name.split(".self_attn.")[1][0]]


def _renamed(rules: tuple[Rule, ...], name: str) -> str:
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name

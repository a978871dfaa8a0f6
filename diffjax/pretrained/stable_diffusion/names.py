"""The names of weights: one rule from a parameter's path in our networks to its name in the hub's folders.

    down0_block1/conv0/kernel  ->  down_blocks.0.resnets.1.conv1.weight

`hub_name` is deterministic and goes one way; the other way is looked up in the table of a network's own parameters
(`layout.stored`). The hub's names are those of diffusers and of transformers' CLIP.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from diffjax.nn import ConditionalUNet, ControlNet, KLAutoencoder, TextEncoder, TinyAutoencoder

Rule = tuple[str, str]
LEAF = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}

BLOCKS: tuple[Rule, ...] = (
    (r"\bdown(\d+)_block(\d+)", r"down_blocks.\1.resnets.\2"),
    (r"\bdown(\d+)_attention(\d+)", r"down_blocks.\1.attentions.\2"),
    (r"\bdown(\d+)_conv", r"down_blocks.\1.downsamplers.0.conv"),
    (r"\bmid_block(\d)", r"mid_block.resnets.\1"),
    (r"\bmid_attention", "mid_block.attentions.0"),
    (r"\bup(\d+)_block(\d+)", r"up_blocks.\1.resnets.\2"),
    (r"\bup(\d+)_attention(\d+)", r"up_blocks.\1.attentions.\2"),
    (r"\bup(\d+)/conv", r"up_blocks.\1.upsamplers.0.conv"),
    (r"\bnorm_out", "conv_norm_out"),
    (r"(resnets\.\d+)/norm0", r"\1.norm1"),
    (r"(resnets\.\d+)/norm1", r"\1.norm2"),
    (r"(resnets\.\d+)/conv0", r"\1.conv1"),
    (r"(resnets\.\d+)/conv1", r"\1.conv2"),
    (r"(resnets\.\d+)/emb", r"\1.time_emb_proj"),
    (r"(resnets\.\d+)/skip", r"\1.conv_shortcut"),
)
ATTENTION: tuple[Rule, ...] = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("/out/", "/to_out.0/"))
UNET: tuple[Rule, ...] = (
    *BLOCKS,
    (r"^time/dense0", "time_embedding.linear_1"),
    (r"^time/dense1", "time_embedding.linear_2"),
    ("^guidance/", "time_embedding.cond_proj/"),
    (r"^added/dense0", "add_embedding.linear_1"),
    (r"^added/dense1", "add_embedding.linear_2"),
    ("^classes/", "class_embedding/"),
    (r"(attentions\.\d+)/in/", r"\1/proj_in/"),
    (r"(attentions\.\d+)/out/", r"\1/proj_out/"),
    (r"/block(\d+)/", r"/transformer_blocks.\1/"),
    ("/self/", "/attn1/"),
    ("/cross/", "/attn2/"),
    ("/feed/wide", "/ff.net.0.proj"),
    ("/feed/out", "/ff.net.2"),
    (r"(transformer_blocks\.\d+)/norm0", r"\1.norm1"),
    (r"(transformer_blocks\.\d+)/norm1", r"\1.norm2"),
    (r"(transformer_blocks\.\d+)/norm2", r"\1.norm3"),
    *ATTENTION,
)
CONTROL: tuple[Rule, ...] = (
    (r"^out(\d+)/", r"controlnet_down_blocks.\1/"),
    ("^mid_out/", "controlnet_mid_block/"),
    ("^hint/conv_", "controlnet_cond_embedding/conv_"),
    *UNET,
)
KL: tuple[Rule, ...] = (*BLOCKS, (r"(attentions\.0)/norm", r"\1.group_norm"), (r"/attention/", "/"), *ATTENTION)
TEXT: tuple[Rule, ...] = (
    ("^tokens/", "text_model.embeddings.token_embedding/"),
    ("^positions/", "text_model.embeddings.position_embedding/"),
    ("^projection/", "text_projection/"),
    ("^norm/", "text_model.final_layer_norm/"),
    (r"^block(\d+)/", r"text_model.encoder.layers.\1/"),
    ("/self/query", "/self_attn.q_proj"),
    ("/self/key", "/self_attn.k_proj"),
    ("/self/value", "/self_attn.v_proj"),
    ("/self/out", "/self_attn.out_proj"),
    ("/feed/wide", "/mlp.fc1"),
    ("/feed/out", "/mlp.fc2"),
    ("/norm0/", "/layer_norm1/"),
    ("/norm1/", "/layer_norm2/"),
)


def hub_name(net: Any, path: str) -> str:
    """The name in a hub's folder of the parameter at a path of `net`, such as "conv_in/kernel"."""
    body, leaf = path.rsplit("/", 1)
    return f"{_rule(net)(body + '/').rstrip('/').replace('/', '.')}.{LEAF[leaf]}"


def _rule(net: Any) -> Callable[[str], str]:
    match net:
        case ConditionalUNet():
            return lambda path: _apply(UNET, _reversed(path, len(net.channels)))
        case ControlNet():
            return lambda path: _apply(CONTROL, re.sub(r"^hint/level(\d+)_conv(\d)", _hint, path))
        case KLAutoencoder():
            return lambda path: _apply(KL, _reversed(path, len(net.channels)))
        case TextEncoder():
            return lambda path: _apply(TEXT, path)
        case TinyAutoencoder():
            return lambda path: _tiny(net, path)
    raise TypeError(f"no names are known for the weights of {type(net).__name__}")


def _hint(found: re.Match[str]) -> str:
    return f"controlnet_cond_embedding.blocks.{2 * int(found[1]) + int(found[2])}"


def _apply(rules: tuple[Rule, ...], path: str) -> str:
    for pattern, name in rules:
        path = re.sub(pattern, name, path)
    return path


def _reversed(path: str, levels: int) -> str:
    """The hub counts the blocks of the way up from the lowest level, we by level."""
    return re.sub(r"\bup(\d+)(?=[_/])", lambda m: f"up{levels - 1 - int(m[1])}", path)


def _tiny(net: TinyAutoencoder, path: str) -> str:
    """TAESD's layers stand in one list, in which ReLU and the change of size count as well."""
    half, layer, *rest = path.rstrip("/").split("/")
    encoder = half == "encoder"
    counts, first, more = (net.encoder_blocks, 0, 1) if encoder else (net.decoder_blocks, 2, 2)
    starts = [first + sum(n + more for n in counts[:i]) for i in range(len(counts))]
    if layer == "conv_in":
        at = 0
    elif layer == "conv_out":
        at = starts[-1] + counts[-1] + (1 if encoder else 0)
    elif found := re.fullmatch(r"(?:down|up)(\d+)_block(\d+)", layer):
        at = starts[int(found[1])] + int(found[2]) + (1 if encoder else 0)
    else:  # a convolution of changed size: the first of a stage down, behind the blocks of a stage up
        i = int(re.findall(r"\d+", layer)[0])
        at = starts[i] if encoder else starts[i] + counts[i] + 1
    inner = f".conv.{2 * int(rest[0][-1])}" if rest and rest[0] != "conv" else ""
    return f"{half}.layers.{at}{inner}/"

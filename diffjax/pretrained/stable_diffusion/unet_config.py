"""A U-Net's `config.json` as our network, and back, for diffusers' UNet2DConditionModel.

`attention_head_dim` is the NUMBER of heads, in every published file.
"""

from __future__ import annotations

from typing import Any

from diffjax.nn import ConditionalUNet
from diffjax.pretrained.stable_diffusion.config_fields import (
    Config,
    as_list,
    as_tuple,
    check_class,
    check_config,
    kinds,
    one_value,
)

DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}

UNET_FIXED: dict[str, tuple[Any, ...]] = {  # the only values that our network has
    "center_input_sample": (False,), "flip_sin_to_cos": (True,), "freq_shift": (0,), "downsample_padding": (1,),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",), "mid_block_scale_factor": (1,), "act_fn": ("silu", "swish"),
    "reverse_transformer_layers_per_block": (None,), "encoder_hid_dim": (None,), "encoder_hid_dim_type": (None,),
    "num_attention_heads": (None,), "dual_cross_attention": (False,), "class_embed_type": (None,),
    "addition_embed_type": (None, "text_time"), "resnet_time_scale_shift": ("default",),
    "resnet_skip_time_act": (False,), "resnet_out_scale_factor": (1,), "time_embedding_type": ("positional",),
    "time_embedding_dim": (None,), "time_embedding_act_fn": (None,), "timestep_post_act": (None,),
    "conv_in_kernel": (3,), "conv_out_kernel": (3,), "attention_type": ("default",),
    "class_embeddings_concat": (False,), "mid_block_only_cross_attention": (None,), "cross_attention_norm": (None,),
}  # fmt: skip
UNET_READ = (
    "in_channels", "out_channels", "block_out_channels", "layers_per_block", "down_block_types", "up_block_types",
    "attention_head_dim", "transformer_layers_per_block", "cross_attention_dim", "only_cross_attention",
    "use_linear_projection", "addition_time_embed_dim", "projection_class_embeddings_input_dim", "num_class_embeds",
    "time_cond_proj_dim", "dropout", "norm_num_groups", "norm_eps",
)  # fmt: skip


def unet_from_config(config: Config, pooled_width: int | None = None, **changes: Any) -> ConditionalUNet:
    """The U-Net of a `config.json`.

    Args:
      config: the parsed file.
      pooled_width: channels of the pooled text, which SDXL's file does not state: 1280 by default.
      changes: fields to replace, such as the dtype.

    Raises:
      ValueError: it has a value that our U-Net does not have; the field is named.
    """
    check_class(config, "UNet2DConditionModel")
    check_config(config, UNET_FIXED, UNET_READ, "U-Net's configuration")
    get = config.get
    channels = tuple(get("block_out_channels", (320, 640, 1280, 1280)))
    down = get("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])
    up = get("up_block_types", ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    attention = kinds("down_block_types", down, DOWN)
    if kinds("up_block_types", up, UP) != attention[::-1]:
        raise ValueError(f"up_block_types {up} do not mirror down_block_types {down}")
    only_cross, depths = get("only_cross_attention", False), as_tuple(get("transformer_layers_per_block", 1))
    if not all(isinstance(depth, int) for depth in (depths if isinstance(depths, tuple) else (depths,))):
        raise ValueError(f"transformer_layers_per_block = {list(depths)}; our network has one number for a level only")
    fields = dict(
        in_channels=get("in_channels", 4),
        out_channels=get("out_channels", 4),
        channels=channels,
        layers=one_value("layers_per_block", get("layers_per_block", 2)),
        attention=attention,
        heads=as_tuple(get("attention_head_dim", 8)),
        transformers=depths,
        context_width=one_value("cross_attention_dim", get("cross_attention_dim", 1280)),
        only_cross=as_tuple(only_cross),
        linear_projection=get("use_linear_projection", False),
        num_classes=get("num_class_embeds") or 0,
        guidance_width=get("time_cond_proj_dim") or 0,
        dropout=get("dropout", 0.0),
        groups=get("norm_num_groups", 32),
        epsilon=get("norm_eps", 1e-5),
    )
    if get("addition_embed_type") == "text_time":
        fields |= _text_time(config, 1280 if pooled_width is None else pooled_width)
    return ConditionalUNet(**{**fields, **changes})


def _text_time(config: Config, pooled: int) -> dict[str, int]:
    width, total = config["addition_time_embed_dim"], config["projection_class_embeddings_input_dim"]
    count = (total - pooled) // width
    if pooled + count * width != total or count not in (5, 6):
        raise ValueError(
            f"projection_class_embeddings_input_dim = {total} is not that of a pooled text of {pooled} channels and 5 "
            f"or 6 sizes in {width} channels each: give pooled_width, the text encoder's projection_dim"
        )
    return dict(pooled_width=pooled, size_count=count, size_width=width)


def unet_to_config(net: ConditionalUNet) -> dict[str, Any]:
    """The `config.json` of a U-Net, for diffusers' UNet2DConditionModel."""
    attention = net.attention
    config = {name: values[0] for name, values in UNET_FIXED.items() if values[0] is not None}
    config |= {
        "_class_name": "UNet2DConditionModel",
        "sample_size": 128 if net.pooled_width else 64,  # of latents; diffusers' pipelines need it
        "in_channels": net.in_channels,
        "out_channels": net.out_channels,
        "block_out_channels": list(net.channels),
        "layers_per_block": net.layers,
        "down_block_types": ["CrossAttnDownBlock2D" if there else "DownBlock2D" for there in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if there else "UpBlock2D" for there in attention[::-1]],
        "attention_head_dim": as_list(net.heads),
        "transformer_layers_per_block": as_list(net.transformers),
        "cross_attention_dim": net.context_width,
        "only_cross_attention": as_list(net.only_cross),
        "use_linear_projection": net.linear_projection,
        "num_class_embeds": net.num_classes or None,
        "time_cond_proj_dim": net.guidance_width or None,
        "dropout": net.dropout,
        "norm_num_groups": net.groups,
        "norm_eps": net.epsilon,
    }
    if net.pooled_width or net.size_count:
        if not (net.pooled_width and net.size_count):
            raise ValueError("the hub's U-Nets have a pooled text and sizes, or neither of them")
        config["addition_embed_type"] = "text_time"
        config["addition_time_embed_dim"] = net.size_width
        config["projection_class_embeddings_input_dim"] = net.pooled_width + net.size_count * net.size_width
    if net.groups is None:
        raise ValueError("the hub's U-Nets have one number of groups: groups = None has no place there")
    return config

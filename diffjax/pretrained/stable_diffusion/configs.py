"""The configurations in a hub's folder, `config.json` and `scheduler_config.json`, as our networks and back.

Every field of diffusers' classes is known here: it either becomes a field of ours, or only the value that our networks
have is taken, and another one is refused by name. `attention_head_dim` of a U-Net is the NUMBER of heads, in every
published file. A field that is absent has the default of diffusers' class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.nn import ConditionalUNet, KLAutoencoder, TextEncoder, TinyAutoencoder

Config = Mapping[str, Any]
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
IDLE = ("sample_size", "upcast_attention", "addition_embed_type_num_heads", "force_upcast")  # they change no number

KL_FIXED: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu", "swish"), "latents_mean": (None,), "latents_std": (None,),
}  # fmt: skip
KL_READ = (
    "in_channels", "out_channels", "block_out_channels", "layers_per_block", "down_block_types", "up_block_types",
    "latent_channels", "norm_num_groups", "scaling_factor", "shift_factor", "use_quant_conv", "use_post_quant_conv",
    "mid_block_add_attention",
)  # fmt: skip
TINY_FIXED: dict[str, tuple[Any, ...]] = {
    "act_fn": ("relu",), "upsample_fn": ("nearest",), "upsampling_scaling_factor": (2,), "scaling_factor": (1,),
    "shift_factor": (0,), "latent_magnitude": (3,), "latent_shift": (0.5,),
}  # fmt: skip
TINY_READ = (
    "in_channels", "out_channels", "encoder_block_out_channels", "decoder_block_out_channels", "latent_channels",
    "num_encoder_blocks", "num_decoder_blocks", "block_out_channels",
)  # fmt: skip


def check_config(config: Config, fixed: Mapping[str, tuple[Any, ...]], read: tuple[str, ...], what: str) -> None:
    """Raise a ValueError that names the first field with a value, or a name, that our network does not have."""
    for name, value in config.items():
        if name.startswith("_") or name in read or name in IDLE:
            continue
        if name not in fixed:
            if value not in (None, False):
                raise ValueError(f"the {what} has a field {name!r} = {value!r}, which is not known here")
        elif value not in fixed[name]:
            takes = " or ".join(map(repr, fixed[name]))
            raise ValueError(f"the {what} has {name!r} = {value!r}; our network has {takes} only")


def unet_from_config(config: Config, pooled_width: int | None = None, **changes: Any) -> ConditionalUNet:
    """The U-Net of a `config.json`.

    Args:
      config: the parsed file.
      pooled_width: channels of the pooled text, which SDXL's file does not state: 1280 by default.
      changes: fields to replace, such as the dtype.

    Raises:
      ValueError: it has a value that our U-Net does not have; the field is named.
    """
    check_config(config, UNET_FIXED, UNET_READ, "U-Net's configuration")
    get = config.get
    channels = tuple(get("block_out_channels", (320, 640, 1280, 1280)))
    down = get("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])
    up = get("up_block_types", ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3)
    attention = _kinds("down_block_types", down, DOWN)
    if _kinds("up_block_types", up, UP) != attention[::-1]:
        raise ValueError(f"up_block_types {up} do not mirror down_block_types {down}")
    only_cross = get("only_cross_attention", False)
    fields = dict(
        in_channels=get("in_channels", 4),
        out_channels=get("out_channels", 4),
        channels=channels,
        layers=_one("layers_per_block", get("layers_per_block", 2)),
        attention=attention,
        heads=_tuple(get("attention_head_dim", 8)),
        transformers=_tuple(get("transformer_layers_per_block", 1)),
        context_width=_one("cross_attention_dim", get("cross_attention_dim", 1280)),
        only_cross=_tuple(only_cross),
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
        "in_channels": net.in_channels,
        "out_channels": net.out_channels,
        "block_out_channels": list(net.channels),
        "layers_per_block": net.layers,
        "down_block_types": ["CrossAttnDownBlock2D" if there else "DownBlock2D" for there in attention],
        "up_block_types": ["CrossAttnUpBlock2D" if there else "UpBlock2D" for there in attention[::-1]],
        "attention_head_dim": _list(net.heads),
        "transformer_layers_per_block": _list(net.transformers),
        "cross_attention_dim": net.context_width,
        "only_cross_attention": _list(net.only_cross),
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


def vae_from_config(config: Config, **changes: Any) -> KLAutoencoder | TinyAutoencoder:
    """The autoencoder of a `config.json`, AutoencoderKL's or AutoencoderTiny's; raises as `unet_from_config`."""
    get = config.get
    if get("_class_name") == "AutoencoderTiny":
        return _tiny_from_config(config, **changes)
    check_config(config, KL_FIXED, KL_READ, "autoencoder's configuration")
    channels = tuple(get("block_out_channels", (64,)))
    _kinds("down_block_types", get("down_block_types", ["DownEncoderBlock2D"]), {"DownEncoderBlock2D": True})
    _kinds("up_block_types", get("up_block_types", ["UpDecoderBlock2D"]), {"UpDecoderBlock2D": True})
    fields = dict(
        image_channels=_same(config, ("in_channels", 3), ("out_channels", 3)),
        channels=channels,
        layers=get("layers_per_block", 1),
        latent=get("latent_channels", 4),
        attention=get("mid_block_add_attention", True),
        quant_convs=_same(config, ("use_quant_conv", True), ("use_post_quant_conv", True)),
        groups=get("norm_num_groups", 32),
        scaling=get("scaling_factor", 0.18215),
        shift=get("shift_factor") or 0.0,
    )
    return KLAutoencoder(**{**fields, **changes})


def _tiny_from_config(config: Config, **changes: Any) -> TinyAutoencoder:
    check_config(config, TINY_FIXED, TINY_READ, "autoencoder's configuration")
    get = config.get
    down, up = (get(f"{half}_block_out_channels", (64,) * 4) for half in ("encoder", "decoder"))
    if len({*down, *up}) != 1:
        raise ValueError(f"our TinyAutoencoder has one width, got {list(down)} and {list(up)}")
    fields = dict(
        image_channels=_same(config, ("in_channels", 3), ("out_channels", 3)),
        latent=get("latent_channels", 4),
        width=down[0],
        encoder_blocks=tuple(get("num_encoder_blocks", (1, 3, 3, 3))),
        decoder_blocks=tuple(get("num_decoder_blocks", (3, 3, 3, 1))),
    )
    return TinyAutoencoder(**{**fields, **changes})


def vae_to_config(net: KLAutoencoder | TinyAutoencoder) -> dict[str, Any]:
    """The `config.json` of an autoencoder, for diffusers' AutoencoderKL or AutoencoderTiny."""
    both: dict[str, Any] = {"in_channels": net.image_channels, "out_channels": net.image_channels}
    both["latent_channels"] = net.latent
    if isinstance(net, TinyAutoencoder):
        levels = [net.width] * len(net.encoder_blocks)
        return both | {
            "_class_name": "AutoencoderTiny",
            "encoder_block_out_channels": levels,
            "decoder_block_out_channels": levels,
            "num_encoder_blocks": list(net.encoder_blocks),
            "num_decoder_blocks": list(net.decoder_blocks),
            "act_fn": "relu",
        }
    if net.groups is None:
        raise ValueError("the hub's autoencoders have one number of groups: groups = None has no place there")
    levels = len(net.channels)
    return both | {
        "_class_name": "AutoencoderKL",
        "block_out_channels": list(net.channels),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "layers_per_block": net.layers,
        "act_fn": "silu",
        "mid_block_add_attention": net.attention,
        "use_quant_conv": net.quant_convs,
        "use_post_quant_conv": net.quant_convs,
        "norm_num_groups": net.groups,
        "scaling_factor": net.scaling,
        "shift_factor": net.shift or None,
    }


def text_from_config(config: Config, **changes: Any) -> TextEncoder:
    """The text tower of a `config.json`, CLIPTextModel's or CLIPTextModelWithProjection's.

    Files of before July 2023 call the end token 2; theirs is the last of the vocabulary, 49407. `pool` is "first_end",
    also for them, where transformers takes the largest id: the same but for texts with added tokens.

    Raises:
      ValueError: it is another model, or has an activation that our network does not have.
    """
    get = config.get
    if get("model_type", "clip_text_model") != "clip_text_model":
        raise ValueError(f"the text encoder's configuration is of a {get('model_type')!r}, not a 'clip_text_model'")
    if get("hidden_act", "quick_gelu") not in ("quick_gelu", "gelu"):
        raise ValueError(f"the text encoder has 'hidden_act' = {get('hidden_act')!r}; ours 'quick_gelu' or 'gelu'")
    vocabulary, end = get("vocab_size", 49408), get("eos_token_id", 49407)
    projected = any("WithProjection" in name for name in get("architectures") or ())
    fields = dict(
        vocabulary=vocabulary,
        positions=get("max_position_embeddings", 77),
        width=get("hidden_size", 512),
        layers=get("num_hidden_layers", 12),
        heads=get("num_attention_heads", 8),
        feed=get("intermediate_size", 2048),
        activation=get("hidden_act", "quick_gelu"),
        projection=get("projection_dim", 512) if projected else 0,
        end=min(49407, vocabulary - 1) if end in (2, None) else end,
        epsilon=get("layer_norm_eps", 1e-5),
    )
    return TextEncoder(**{**fields, **changes})


def text_to_config(net: TextEncoder) -> dict[str, Any]:
    """The `config.json` of a text tower, for transformers' CLIPTextModel or CLIPTextModelWithProjection."""
    return {
        "architectures": ["CLIPTextModelWithProjection" if net.projection else "CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": net.vocabulary,
        "max_position_embeddings": net.positions,
        "hidden_size": net.width,
        "num_hidden_layers": net.layers,
        "num_attention_heads": net.heads,
        "intermediate_size": net.feed or 4 * net.width,
        "hidden_act": net.activation,
        "projection_dim": net.projection or net.width,
        "eos_token_id": net.end,
        "bos_token_id": net.end - 1,
        "layer_norm_eps": net.epsilon,
    }


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


def _list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _one(name: str, value: Any) -> Any:
    """One value for all levels."""
    if not isinstance(value, list | tuple):
        return value
    if len(set(value)) != 1:
        raise ValueError(f"{name} = {value} differs between levels; our network has one value for all")
    return value[0]


def _same(config: Config, *names: tuple[str, Any]) -> Any:
    """The value that two fields share."""
    values = [config.get(name, default) for name, default in names]
    if values[0] != values[1]:
        raise ValueError(f"{names[0][0]} = {values[0]} and {names[1][0]} = {values[1]} must be the same")
    return values[0]


def _kinds(name: str, found: Any, known: Mapping[str, bool]) -> tuple[bool, ...]:
    for kind in found:
        if kind not in known:
            raise ValueError(f"{name} has {kind!r}; our network has {' and '.join(known)} only")
    return tuple(known[kind] for kind in found)

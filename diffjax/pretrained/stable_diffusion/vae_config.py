"""An autoencoder's `config.json` as our network, and back, for diffusers' AutoencoderKL and AutoencoderTiny.

The scale and shift of the latents, which that file has too, are no fields of the network: `latent_scale` reads them,
and `dj.Codec` holds them.
"""

from __future__ import annotations

from typing import Any

from diffjax.nn import KLAutoencoder, TinyAutoencoder
from diffjax.pretrained.stable_diffusion.config_fields import Config, check_class, check_config, kinds, same_value

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


def vae_from_config(config: Config, **changes: Any) -> KLAutoencoder | TinyAutoencoder:
    """The autoencoder of a `config.json`, AutoencoderKL's or AutoencoderTiny's; raises as `unet_from_config`."""
    check_class(config, "AutoencoderKL", "AutoencoderTiny")
    get = config.get
    if get("_class_name") == "AutoencoderTiny":
        return _tiny_from_config(config, **changes)
    check_config(config, KL_FIXED, KL_READ, "autoencoder's configuration")
    channels = tuple(get("block_out_channels", (64,)))
    kinds("down_block_types", get("down_block_types", ["DownEncoderBlock2D"]), {"DownEncoderBlock2D": True})
    kinds("up_block_types", get("up_block_types", ["UpDecoderBlock2D"]), {"UpDecoderBlock2D": True})
    fields = dict(
        image_channels=same_value(config, ("in_channels", 3), ("out_channels", 3)),
        channels=channels,
        layers=get("layers_per_block", 1),
        latent=get("latent_channels", 4),
        attention=get("mid_block_add_attention", True),
        quant_convs=same_value(config, ("use_quant_conv", True), ("use_post_quant_conv", True)),
        groups=get("norm_num_groups", 32),
    )
    return KLAutoencoder(**{**fields, **changes})


def latent_scale(config: Config) -> tuple[float, float]:
    """(scale, shift) of a `config.json`: a diffusion model sees scale (z - shift), see `dj.Codec`."""
    default = 1.0 if config.get("_class_name") == "AutoencoderTiny" else 0.18215
    return float(config.get("scaling_factor", default)), float(config.get("shift_factor") or 0.0)


def _tiny_from_config(config: Config, **changes: Any) -> TinyAutoencoder:
    check_config(config, TINY_FIXED, TINY_READ, "autoencoder's configuration")
    get = config.get
    down, up = (get(f"{half}_block_out_channels", (64,) * 4) for half in ("encoder", "decoder"))
    if len({*down, *up}) != 1:
        raise ValueError(f"our TinyAutoencoder has one width, got {list(down)} and {list(up)}")
    fields = dict(
        image_channels=same_value(config, ("in_channels", 3), ("out_channels", 3)),
        latent=get("latent_channels", 4),
        width=down[0],
        encoder_blocks=tuple(get("num_encoder_blocks", (1, 3, 3, 3))),
        decoder_blocks=tuple(get("num_decoder_blocks", (3, 3, 3, 1))),
    )
    return TinyAutoencoder(**{**fields, **changes})


def vae_to_config(net: KLAutoencoder | TinyAutoencoder, scale: float = 0.18215, shift: float = 0.0) -> dict[str, Any]:
    """The `config.json` of an autoencoder, for diffusers' AutoencoderKL or AutoencoderTiny, whose scale is always 1."""
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
        "scaling_factor": scale,
        "shift_factor": shift or None,
    }

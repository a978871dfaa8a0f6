"""A ControlNet's `config.json` as our network, and back, for diffusers' ControlNetModel."""

from __future__ import annotations

from typing import Any

from diffjax.nn import ControlNet
from diffjax.pretrained.stable_diffusion.config_fields import Config, check_class, check_config
from diffjax.pretrained.stable_diffusion.unet_config import unet_from_config, unet_to_config

OWN = ("conditioning_channels", "conditioning_embedding_out_channels")
FIXED: dict[str, tuple[Any, ...]] = {
    "controlnet_conditioning_channel_order": ("rgb",), "global_pool_conditions": (False,),
}  # fmt: skip
NOT_THERE = (  # fields of a U-Net that ControlNetModel does not have
    "out_channels", "up_block_types", "dropout", "time_cond_proj_dim", "sample_size", "center_input_sample",
    "dual_cross_attention", "resnet_skip_time_act", "resnet_out_scale_factor", "time_embedding_type",
    "conv_in_kernel", "conv_out_kernel", "attention_type", "class_embeddings_concat",
)  # fmt: skip


def controlnet_from_config(config: Config, pooled_width: int | None = None, **changes: Any) -> ControlNet:
    """The ControlNet of a `config.json`; the arguments and what raises are those of `unet_from_config`."""
    check_class(config, "ControlNetModel")
    check_config({name: config[name] for name in FIXED if name in config}, FIXED, (), "ControlNet's configuration")
    there = config.get("down_block_types", ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])
    up = [str(kind).replace("Down", "Up") for kind in reversed(there)]
    rest = {name: value for name, value in config.items() if name not in (*OWN, *FIXED, "_class_name")}
    unet = unet_from_config(rest | {"up_block_types": up}, pooled_width)
    width, channels = (config.get(name, default) for name, default in zip(OWN, (3, (16, 32, 96, 256)), strict=True))
    return ControlNet(**{**dict(unet=unet, hint_width=width, hint_channels=tuple(channels)), **changes})


def controlnet_to_config(net: ControlNet) -> dict[str, Any]:
    """The `config.json` of a ControlNet, for diffusers' ControlNetModel."""
    config = {name: value for name, value in unet_to_config(net.unet).items() if name not in NOT_THERE}
    own = dict(zip(OWN, (net.hint_width, list(net.hint_channels)), strict=True))
    return config | {"_class_name": "ControlNetModel"} | own | {name: values[0] for name, values in FIXED.items()}

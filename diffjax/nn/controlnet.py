"""ControlNet (Zhang et al. 2023): a copy of a U-Net's way down, which sees a hint and adds to the U-Net's maps.

    control = net.apply(params, x, c_noise, cond | {"hint": edges})                # a `Control`
    F = unet.apply(unet_params, x, c_noise, cond | {"control": control})

The hint, a picture of edges, a pose, a depth map ..., is brought to the size of x by convolutions and added to the
first map. Each map of the way down and the middle then passes a 1 x 1 convolution that starts at zero, so that a new
ControlNet changes nothing. Several of them, or a strength: the sum, or a multiple, of `Control`s, by `jax.tree.map`.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.checks import check_count
from diffjax.nn.attention import plain
from diffjax.nn.condition import read_array, read_cond
from diffjax.nn.conditional_unet import ConditionalUNet, Control, Layers, descend, embed, joined, middle
from diffjax.nn.conv import Conv
from diffjax.nn.unet import check_images
from diffjax.typing import Cond


class ControlNet(nn.Module):
    """x [B, H, W, C], c_noise [] or [B], cond -> `Control`, float32 at least.

    The condition is that of the U-Net with "hint" [B, f H, f W, hint_width] in [0, 1], f = 2^(levels of the hint - 1).

    Attributes:
      unet: the configuration of the U-Net that it goes with; its parameters are not used.
      hint_width, hint_channels: channels of the hint, and of each level of its convolutions.
      dtype, param_dtype: of the computation and of the parameters.

    Raises:
      ValueError: x is not [B, H, W, C], or `cond` does not fit.
    """

    unet: ConditionalUNet = ConditionalUNet()
    hint_width: int = 3
    hint_channels: tuple[int, ...] = (16, 32, 96, 256)
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    null_label = False

    @property
    def num_classes(self) -> int:
        return self.unet.num_classes

    @property
    def cond_keys(self) -> frozenset[str]:
        return (self.unet.cond_keys - {"control"}) | {"hint"}

    @property
    def factor(self) -> int:
        """Pixels of the hint's side for one of x."""
        return 2 ** (len(self.hint_channels) - 1)

    def __post_init__(self):
        check_count("hint_width", self.hint_width)
        if not self.hint_channels:
            raise ValueError("a hint has one level or more, got hint_channels = ()")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, c_noise: Any, cond: Cond = None, train: bool = False) -> Control:
        check_images(x, "the ControlNet")
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        net = self.unet.clone(parent=None, **types)
        label, attend, scale = read_cond(self, cond, len(x), train)
        emb = embed(net, c_noise, cond, len(x), label, scale)
        context = read_array(self, cond, "context", (len(x), None, net.context_width))
        side = (self.factor * x.shape[1], self.factor * x.shape[2])
        hint = jnp.asarray(read_array(self, cond, "hint", (len(x), *side, self.hint_width)))
        added = HintEncoder(net.channels[0], self.hint_channels, name="hint", **types)(hint)
        layers = Layers(net, emb, context, plain if attend is None else attend, train)
        hs = descend(layers, joined(net, x, cond), added)
        maps = [*hs, middle(layers, hs[-1])]
        names = [*(f"out{i}" for i in range(len(hs))), "mid_out"]
        out = [Conv(h.shape[-1], 1, 0.0, name=name, **types)(h) for name, h in zip(names, maps, strict=True)]
        wide = jnp.promote_types(self.dtype, jnp.float32)
        return Control(tuple(h.astype(wide) for h in out[:-1]), out[-1].astype(wide))


class HintEncoder(nn.Module):
    """hint [B, f H, f W, I] -> [B, H, W, features], zero at the start."""

    features: int
    channels: tuple[int, ...]
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, hint: Array) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = nn.silu(Conv(self.channels[0], name="conv_in", **types)(hint))
        for i, width in enumerate(self.channels[:-1]):
            h = nn.silu(Conv(width, name=f"level{i}_conv0", **types)(h))
            down = Conv(self.channels[i + 1], stride=2, padding=((1, 1), (1, 1)), name=f"level{i}_conv1", **types)
            h = nn.silu(down(h))
        return Conv(self.features, scale=0.0, name="conv_out", **types)(h)

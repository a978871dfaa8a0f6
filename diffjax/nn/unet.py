"""One U-Net for the papers; `presets` has their configurations.

Every network here is a pyramid of residual blocks (Ho et al. 2020): down, a middle with attention, and up again with
each level's maps joined on. What sets the papers' networks apart are few choices, each a field of `UNet`:

    kernel       how levels are joined: None, a strided convolution and nearest neighbours (DDPM); (1, 1), inside
                 residual blocks as in BigGAN (DDPM++, EDM); (1, 3, 3, 1), the same with a smooth filter (NCSN++)
    input_skip   the input, filtered and convolved, is added at every level (NCSN++, "residual")
    skip_scale   what a residual sum is multiplied by: 1 (DDPM) or 1/sqrt 2 (Song et al. 2021)
    features     how c_noise is embedded: `Sinusoidal` or `Fourier`
    attend_each  attention behind every block of the up path at its resolutions (DDPM), or behind the last one
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import variance_scaling

from diffjax.checks import check_count, check_number
from diffjax.nn import resample
from diffjax.nn.attention import SelfAttention, plain
from diffjax.nn.condition import read_cond
from diffjax.nn.conv import ZERO, Conv
from diffjax.nn.embed import Embedding, Sinusoidal
from diffjax.nn.norm import GroupNorm
from diffjax.typing import Cond


class Block(nn.Module):
    """Norm, silu, convolution, noise level, norm, silu, dropout, convolution, and the skip around them.

    Attributes:
      features: channels of the result.
      resample: applied to both branches, behind the first norm (BigGAN; Song et al. 2021); None for no change of size.
    """

    features: int
    resample: Callable[[Array], Array] | None = None
    dropout: float = 0.0
    skip_scale: float = 1.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, emb: Array, train: bool) -> Array:
        types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        dense = partial(nn.Dense, self.features, kernel_init=variance_scaling(1.0, "fan_avg", "uniform"), **types)
        h = nn.silu(GroupNorm(**types, name="norm0")(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = Conv(self.features, name="conv0", **types)(h)
        h = h + dense(name="emb")(emb)[:, None, None, :]
        h = nn.silu(GroupNorm(**types, name="norm1")(h))
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = Conv(self.features, scale=ZERO, name="conv1", **types)(h)
        if self.resample is not None or x.shape[-1] != self.features:
            x = Conv(self.features, 1, name="skip", **types)(x)
        return self.skip_scale * (x + h)


class UNet(nn.Module):
    """x [B, H, W, C], c_noise [] or [B] or a pair -> F [B, H, W, out_channels], float32.

    Attributes:
      features: the embedding of c_noise, [B] -> [B, D].
      width: channels of the first level; those of level i are width * multipliers[i].
      blocks: residual blocks of each level on the way down; one more on the way up.
      attention: sizes (inside, behind `patch`) at which there is self-attention, besides the middle.
      heads, qkv_scale: as in `SelfAttention`.
      num_classes: 0, or the number of labels in `cond["label"]`; `num_classes` itself is the null label.
      out_channels: those of x by default.
      patch: p x p pixels become channels on entry and pixels again on exit: p^2 times less to compute.
      kernel, input_skip, skip_scale, attend_each: see above.
      dtype, param_dtype: of the computation and of the parameters.

    Raises:
      ValueError: x is not [B, H, W, C], its sides cannot be halved often enough, or `cond` does not fit.
    """

    features: Callable[[Array], Array] = Sinusoidal(128)
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 4
    attention: tuple[int, ...] = (16,)
    attend_each: bool = False
    heads: int = 1
    qkv_scale: float = 0.1
    kernel: tuple[float, ...] | None = (1, 1)
    input_skip: bool = False
    skip_scale: float = 0.5**0.5
    dropout: float = 0.1
    num_classes: int = 0
    out_channels: int | None = None
    patch: int = 1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @property
    def cond_keys(self) -> frozenset[str]:
        return frozenset({"attend", "scale"} | ({"label"} if self.num_classes else set()))

    def __post_init__(self):
        check_counts(self, "width", "blocks", "heads", "patch")
        check_multipliers(self.multipliers)
        check_number("dropout", self.dropout, 0, 1)
        check_count("num_classes", self.num_classes, 0)
        check_features(self.features)
        if self.out_channels is not None:
            check_count("out_channels", self.out_channels)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, c_noise: Any, cond: Cond = None, train: bool = False) -> Array:
        self._check(x)
        label, attend, scale = read_cond(self, cond, len(x), train)
        types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        embedding = Embedding(self.features, 4 * self.width, self.num_classes, name="embedding", **types)
        emb = embedding(c_noise, label, x.shape[0], scale)
        pyramid = resample.space_to_depth(x, self.patch).astype(self.dtype)
        out_channels = (self.out_channels or x.shape[-1]) * self.patch**2
        make = partial(Block, dropout=self.dropout, skip_scale=self.skip_scale, **types)
        make_attn = partial(SelfAttention, self.heads, self.qkv_scale, self.skip_scale, **types)
        attend = plain if attend is None else attend
        top = len(self.multipliers) - 1

        h = Conv(self.width, name="conv_in", **types)(pyramid)
        hs = [h]
        for i, mult in enumerate(self.multipliers):
            for j in range(self.blocks):
                h = make(self.width * mult, name=f"down{i}_block{j}")(h, emb, train)
                if h.shape[1] in self.attention:
                    h = make_attn(name=f"down{i}_attention{j}")(h, attend)
                hs.append(h)
            if i < top:
                if self.kernel is None:
                    h = Conv(h.shape[-1], stride=2, name=f"down{i}_conv", **types)(h)
                else:
                    h = make(h.shape[-1], partial(resample.down, kernel=self.kernel), name=f"down{i}")(h, emb, train)
                if self.input_skip:
                    pyramid = resample.blur(pyramid, self.kernel or (1, 1), len(self.kernel or (1, 1)) // 2)
                    pyramid = Conv(h.shape[-1], stride=2, padding="VALID", name=f"input{i}", **types)(pyramid)
                    pyramid = h = self.skip_scale * (pyramid + h)
                hs.append(h)

        h = make(h.shape[-1], name="mid_block0")(h, emb, train)
        h = make_attn(name="mid_attention")(h, attend)
        h = make(h.shape[-1], name="mid_block1")(h, emb, train)

        for i, mult in reversed(list(enumerate(self.multipliers))):
            for j in range(self.blocks + 1):
                h = make(self.width * mult, name=f"up{i}_block{j}")(jnp.concatenate([h, hs.pop()], -1), emb, train)
                if h.shape[1] in self.attention and (self.attend_each or j == self.blocks):
                    h = make_attn(name=f"up{i}_attention{j}")(h, attend)
            if i > 0:
                if self.kernel is None:
                    h = Conv(h.shape[-1], name=f"up{i}_conv", **types)(resample.up(h, (1, 1)))
                else:
                    h = make(h.shape[-1], partial(resample.up, kernel=self.kernel), name=f"up{i}")(h, emb, train)

        h = nn.silu(GroupNorm(name="norm_out", **types)(h))
        h = Conv(out_channels, scale=ZERO, name="conv_out", **types)(h)
        return resample.depth_to_space(h, self.patch).astype(jnp.float32)

    def _check(self, x: Array) -> None:
        factor = self.patch * 2 ** (len(self.multipliers) - 1)
        check_images(x, "the U-Net")
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(f"height and width must be divisible by {factor} for this U-Net, got {x.shape[1:3]}")
        heights = [x.shape[1] // self.patch // 2**i for i in range(len(self.multipliers))]
        if not set(self.attention) <= set(heights):
            raise ValueError(
                f"this U-Net has images of the heights {heights} inside, and none for attention at {self.attention}: "
                "choose `attention` among them, or () for the middle alone"
            )


def check_images(x: Array, who: str) -> None:
    """Raise a ValueError unless x are float images [B, H, W, C]."""
    if x.ndim != 4 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{who} takes float images x [B, H, W, C], got {x.dtype}{list(x.shape)}")


def check_counts(net: Any, *names: str) -> None:
    """Raise unless these fields are integers, 1 or more."""
    for name in names:
        check_count(name, getattr(net, name))


def check_multipliers(multipliers: tuple[int, ...]) -> None:
    """Raise unless there is a level, and all multipliers are integers, 1 or more."""
    if not multipliers:
        raise ValueError("a network has one level or more, got multipliers = ()")
    for mult in multipliers:
        check_count("a multiplier", mult)


def check_features(features: Any) -> None:
    """Raise a TypeError unless `features` is a function of c_noise."""
    if isinstance(features, type) or not callable(features):
        raise TypeError(f"`features` is a function [B] -> [B, D], such as Sinusoidal(64), got {features!r}")

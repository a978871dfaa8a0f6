"""The blocks of latent diffusion models (Rombach et al. 2022), shared by the U-Net and the autoencoders.

They differ from those of `unet` in their order and in what stands in files of weights: a block is norm, silu,
convolution, noise level, norm, silu, convolution, with the change of size outside of it.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import variance_scaling

from diffjax.nn import resample
from diffjax.nn.attention import Attention, plain
from diffjax.nn.conv import ZERO, Conv
from diffjax.nn.norm import GroupNorm
from diffjax.nn.transformer import TransformerBlock
from diffjax.typing import Attend


class ResidualBlock(nn.Module):
    """x [B, H, W, I], emb [B, D] or None -> [B, H, W, features].

    Attributes:
      groups, epsilon: of both norms.
      last: variance scale at which the last convolution starts; a U-Net's starts at almost zero.
    """

    features: int
    groups: int | None = 32
    epsilon: float = 1e-5
    last: float = ZERO
    dropout: float = 0.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, emb: Array | None = None, train: bool = False) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = nn.silu(GroupNorm(self.groups, self.epsilon, name="norm0", **types)(x))
        h = Conv(self.features, name="conv0", **types)(h)
        if emb is not None:
            init = variance_scaling(1.0, "fan_avg", "uniform")
            dense = nn.Dense(self.features, kernel_init=init, name="emb", **types)
            h = h + dense(nn.silu(emb))[:, None, None]
        h = nn.silu(GroupNorm(self.groups, self.epsilon, name="norm1", **types)(h))
        h = nn.Dropout(self.dropout, deterministic=not train)(h)
        h = Conv(self.features, scale=self.last, name="conv1", **types)(h)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, name="skip", **types)(x)
        return x + h


class SpatialTransformer(nn.Module):
    """Transformer blocks on the pixels of x [B, H, W, C], attending to a context [B, N, D]: -> [B, H, W, C].

    Attributes:
      blocks: their number.
      only_cross: whether both attentions of a block are to the context.
    """

    heads: int
    blocks: int = 1
    only_cross: bool = False
    groups: int | None = 32
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, context: Array, attend: Attend = plain) -> Array:
        B, H, W, C = x.shape
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = GroupNorm(self.groups, 1e-6, name="norm", **types)(x).reshape(B, H * W, C)
        h = nn.Dense(C, kernel_init=variance_scaling(1.0, "fan_avg", "uniform"), name="in", **types)(h)
        for i in range(self.blocks):
            block = TransformerBlock(self.heads, True, False, only_cross=self.only_cross, name=f"block{i}", **types)
            h = block(h, context, attend, (H, W))
        h = nn.Dense(C, kernel_init=variance_scaling(ZERO, "fan_avg", "uniform"), name="out", **types)(h)
        return x + h.reshape(x.shape)


class PixelAttention(nn.Module):
    """x [B, H, W, C] -> x + attention(norm(x)), one head, as in the middle of the autoencoders."""

    groups: int | None = 32
    epsilon: float = 1e-6
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        B, H, W, C = x.shape
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = GroupNorm(self.groups, self.epsilon, name="norm", **types)(x).reshape(B, H * W, C)
        return x + Attention(1, name="attention", **types)(h, size=(H, W)).reshape(x.shape)


class Upsample(nn.Module):
    """x [B, H, W, C] -> [B, *size, C]: PyTorch's nearest neighbours, then a convolution; by default 2 H and 2 W."""

    bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, size: tuple[int, int] | None = None) -> Array:
        h = resample.nearest(x, size or (2 * x.shape[1], 2 * x.shape[2]))
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        return Conv(x.shape[-1], bias=self.bias, name="conv", **types)(h)

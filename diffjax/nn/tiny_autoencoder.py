"""TAESD (Bohan 2023), a small autoencoder whose latents are those of Stable Diffusion: for previews, and for tests.

Convolutions with ReLU; a block is three of them and the skip around them. Its latents are what the U-Net sees: they are
not scaled. Images are in [-1, 1] outside and in [0, 1] inside.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.nn.conv import Conv
from diffjax.nn.latent_blocks import Upsample
from diffjax.nn.unet import check_counts, check_images


class TinyBlock(nn.Module):
    """x [B, H, W, C] -> relu(x + three convolutions)."""

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = nn.relu(Conv(x.shape[-1], name="conv0", **types)(x))
        h = nn.relu(Conv(x.shape[-1], name="conv1", **types)(h))
        return nn.relu(x + Conv(x.shape[-1], name="conv2", **types)(h))


class TinyEncoder(nn.Module):
    """x [B, H, W, C] -> z [B, H/f, W/f, latent]; `blocks` of each stage, each but the first behind a stride of 2."""

    latent: int = 4
    width: int = 64
    blocks: tuple[int, ...] = (1, 3, 3, 3)
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = Conv(self.width, name="conv_in", **types)((x + 1) / 2)
        for i, count in enumerate(self.blocks):
            if i > 0:
                pad = ((1, 1), (1, 1))
                h = Conv(self.width, stride=2, padding=pad, bias=False, name=f"down{i}_conv", **types)(h)
            for j in range(count):
                h = TinyBlock(name=f"down{i}_block{j}", **types)(h)
        return Conv(self.latent, name="conv_out", **types)(h)


class TinyDecoder(nn.Module):
    """z [B, h, w, latent] -> x [B, f h, f w, features]; `blocks` of each stage from the lowest one."""

    features: int = 3
    width: int = 64
    blocks: tuple[int, ...] = (3, 3, 3, 1)
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: Array) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = nn.relu(Conv(self.width, name="conv_in", **types)(3 * jnp.tanh(z / 3)))
        for i, count in enumerate(self.blocks):
            for j in range(count):
                h = TinyBlock(name=f"up{i}_block{j}", **types)(h)
            if i < len(self.blocks) - 1:
                h = Upsample(False, name=f"up{i}", **types)(h)
        return 2 * Conv(self.features, name="conv_out", **types)(h) - 1


class TinyAutoencoder(nn.Module):
    """x [B, H, W, C] in [-1, 1] -> x, through latents [B, H/f, W/f, latent]; f = 8 by default.

    "encode" and "decode" are its methods.

    Raises:
      ValueError: x or z have another shape.
    """

    image_channels: int = 3
    latent: int = 4
    width: int = 64
    encoder_blocks: tuple[int, ...] = (1, 3, 3, 3)
    decoder_blocks: tuple[int, ...] = (3, 3, 3, 1)
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @property
    def factor(self) -> int:
        """f, the pixels of a side of the image for one of the latents."""
        return 2 ** (len(self.encoder_blocks) - 1)

    def __post_init__(self):
        check_counts(self, "image_channels", "latent", "width")
        if not self.encoder_blocks or len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError(f"as many stages down as up, got {self.encoder_blocks} and {self.decoder_blocks}")
        super().__post_init__()

    def setup(self):
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.encoder = TinyEncoder(self.latent, self.width, self.encoder_blocks, **types)
        self.decoder = TinyDecoder(self.image_channels, self.width, self.decoder_blocks, **types)

    def __call__(self, x: Array) -> Array:
        return self.decode(self.encode(x))

    def encode(self, x: Array) -> Array:
        check_images(x, "the autoencoder")
        f, C = self.factor, self.image_channels
        if x.shape[1] % f or x.shape[2] % f or x.shape[3] != C:
            raise ValueError(
                f"this autoencoder takes images of {C} channels and multiples of {f} pixels, got {x.shape}"
            )
        return self.encoder(x.astype(self.dtype)).astype(jnp.promote_types(self.dtype, jnp.float32))

    def decode(self, z: Array) -> Array:
        check_images(z, "the decoder")
        if z.shape[-1] != self.latent:
            raise ValueError(f"this autoencoder has latents of {self.latent} channels, got {list(z.shape)}")
        return self.decoder(z.astype(self.dtype)).astype(jnp.promote_types(self.dtype, jnp.float32))

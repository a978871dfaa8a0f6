"""The autoencoders of latent diffusion models (Rombach et al. 2022, section 3.1 and appendix G), KL and VQ.

Both have one encoder and one decoder: images [B, H, W, C] to latents [B, H/f, W/f, latent], f = 2^(levels - 1), and
back. Any number of levels, channels and latents will do; for 32 x 32 pixels and latents of 8 x 8 x 4 say

    net = KLAutoencoder(channels=(32, 64, 64), layers=1, groups=8)
    params = net.init(key, x)
    posterior = net.apply(params, x, method="encode")
    x = net.apply(params, posterior.sample(key), method="decode")

KL: the latents of x are Gaussian, q(z | x) = N(mean, exp(logvar)), drawn towards N(0, 1) by a small weight on
KL(q || N(0, 1)). VQ: each pixel of the latents becomes the nearest vector of a codebook (van den Oord et al. 2017);
gradients pass through that choice unchanged.

A diffusion model does not see z but scale (z - shift), whose variance is about 1: `dj.Codec` holds both numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import flat_mean, flat_sum, normal
from diffjax.nn.conv import Conv
from diffjax.nn.latent_blocks import PixelAttention, ResidualBlock, Upsample
from diffjax.nn.norm import GroupNorm
from diffjax.nn.unet import check_counts, check_images
from diffjax.typing import Key, pytree


@pytree
class Gaussian:
    """A Gaussian with independent entries: mean and log variance [B, ...], the latter in [-30, 20]."""

    mean: Array
    logvar: Array

    def sample(self, key: Key) -> Array:
        """A draw for each example; `key` is one key, or B keys."""
        return self.mean + jnp.exp(0.5 * self.logvar) * normal(key, self.mean)

    def mode(self) -> Array:
        return self.mean

    def kl(self) -> Array:
        """KL(self || N(0, 1)) of each example [B], in nats: sum (mean^2 + var - 1 - logvar) / 2."""
        return 0.5 * flat_sum(self.mean**2 + jnp.exp(self.logvar) - 1 - self.logvar)


class Encoder(nn.Module):
    """x [B, H, W, C] -> [B, H/f, W/f, features]."""

    features: int
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    attention: bool = True
    groups: int | None = 32
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = Conv(self.channels[0], name="conv_in", **types)(x)
        for i, width in enumerate(self.channels):
            for j in range(self.layers):
                h = ResidualBlock(width, self.groups, 1e-6, 1.0, name=f"down{i}_block{j}", **types)(h)
            if i < len(self.channels) - 1:  # padded below and to the right only
                h = Conv(width, stride=2, padding=((0, 1), (0, 1)), name=f"down{i}_conv", **types)(h)
        h = middle(h, self.attention, self.groups, types)
        h = nn.silu(GroupNorm(self.groups, 1e-6, name="norm_out", **types)(h))
        return Conv(self.features, name="conv_out", **types)(h)


class Decoder(nn.Module):
    """z [B, h, w, latent] -> [B, f h, f w, features]; a residual block more at each level than the encoder."""

    features: int
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    attention: bool = True
    groups: int | None = 32
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, z: Array) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = Conv(self.channels[-1], name="conv_in", **types)(z)
        h = middle(h, self.attention, self.groups, types)
        for i, width in reversed(list(enumerate(self.channels))):
            for j in range(self.layers + 1):
                h = ResidualBlock(width, self.groups, 1e-6, 1.0, name=f"up{i}_block{j}", **types)(h)
            if i > 0:
                h = Upsample(name=f"up{i}", **types)(h)
        h = nn.silu(GroupNorm(self.groups, 1e-6, name="norm_out", **types)(h))
        return Conv(self.features, name="conv_out", **types)(h)


def middle(h: Array, attention: bool, groups: int | None, types: dict[str, Any]) -> Array:
    """Block, attention, block; the submodules belong to the module that calls it."""
    h = ResidualBlock(h.shape[-1], groups, 1e-6, 1.0, name="mid_block0", **types)(h)
    if attention:
        h = PixelAttention(groups, name="mid_attention", **types)(h)
    return ResidualBlock(h.shape[-1], groups, 1e-6, 1.0, name="mid_block1", **types)(h)


class _Autoencoder(nn.Module):
    """What the two kinds share: their fields, the encoder, the decoder, and the 1 x 1 convolutions between them."""

    image_channels: int = 3
    channels: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    latent: int = 4
    attention: bool = True
    quant_convs: bool = True
    groups: int | None = 32
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    factors = 1  # channels of the encoder's result for each of the latents'

    @property
    def factor(self) -> int:
        """f, the pixels of a side of the image for one of the latents."""
        return 2 ** (len(self.channels) - 1)

    def __post_init__(self):
        check_counts(self, "image_channels", "layers", "latent")
        if not self.channels:
            raise ValueError("an autoencoder has one level or more, got channels = ()")
        super().__post_init__()

    def setup(self):
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        how = (self.channels, self.layers, self.attention, self.groups)
        self.encoder = Encoder(self.factors * self.latent, *how, **types)
        self.decoder = Decoder(self.image_channels, *how, **types)
        if self.quant_convs:
            self.quant_conv = Conv(self.factors * self.latent, 1, **types)
            self.post_quant_conv = Conv(self.latent, 1, **types)

    def decode(self, z: Array) -> Array:
        """z [B, h, w, latent] -> x [B, f h, f w, image_channels], float32 at least."""
        check_images(z, "the decoder")
        if z.shape[-1] != self.latent:
            raise ValueError(f"this autoencoder has latents of {self.latent} channels, got {list(z.shape)}")
        z = z.astype(self.dtype)
        h = self.decoder(self.post_quant_conv(z) if self.quant_convs else z)
        return h.astype(jnp.promote_types(self.dtype, jnp.float32))

    def _moments(self, x: Array) -> Array:
        check_images(x, "the autoencoder")
        f, C = self.factor, self.image_channels
        if x.shape[1] % f or x.shape[2] % f or x.shape[3] != C:
            raise ValueError(
                f"this autoencoder takes images of {C} channels and multiples of {f} pixels, got {x.shape}"
            )
        h = self.encoder(x.astype(self.dtype))
        h = self.quant_conv(h) if self.quant_convs else h
        return h.astype(jnp.promote_types(self.dtype, jnp.float32))


class KLAutoencoder(_Autoencoder):
    """x [B, H, W, image_channels] -> x, through the mode of the posterior; "encode" and "decode" are its methods.

    Attributes:
      channels: of each level; H and W are multiples of f = 2^(levels - 1).
      layers: residual blocks of each level of the encoder; the decoder has one more.
      latent: channels of z.
      attention: whether there is attention between the two blocks of the middle.
      quant_convs: whether a 1 x 1 convolution follows the encoder and another leads into the decoder.
      groups: of the norms; None: min(C / 4, 32).

    Raises:
      ValueError: x or z have another shape.
    """

    factors = 2

    def __call__(self, x: Array) -> Array:
        return self.decode(self.encode(x).mode())

    def encode(self, x: Array) -> Gaussian:
        """x [B, H, W, C] -> q(z | x), of z [B, H/f, W/f, latent]."""
        mean, logvar = jnp.split(self._moments(x), 2, axis=-1)
        return Gaussian(mean, jnp.clip(logvar, -30, 20))


class Quantised(NamedTuple):
    """B maps of codes.

    Attributes:
      z: [B, h, w, latent], vectors of the codebook; its gradient is that of the vectors they replace.
      index: [B, h, w], which ones.
      codebook: [B], the mean squared distance, which moves the codebook only.
      commitment: [B], the same number, which moves the encoder only.
    """

    z: Array
    index: Array
    codebook: Array
    commitment: Array


class VQAutoencoder(_Autoencoder):
    """As `KLAutoencoder`, with a codebook in place of the posterior.

    Attributes:
      codes: vectors in the codebook.
    """

    codes: int = 8192

    def setup(self):
        super().setup()

        def uniform(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
            return jax.random.uniform(key, shape, dtype, -1 / self.codes, 1 / self.codes)

        self.codebook = self.param("codebook", uniform, (self.codes, self.latent), self.param_dtype)

    def __call__(self, x: Array) -> Array:
        return self.decode(self.encode(x).z)

    def encode(self, x: Array) -> Quantised:
        return self.quantise(self._moments(x))

    def quantise(self, z: Array) -> Quantised:
        """Each vector of z [B, h, w, latent] becomes the nearest one of the codebook, which stays itself."""
        table = jnp.asarray(self.codebook, z.dtype)
        # |z - e|^2 without |z|^2, which is the same for all e
        far = (table**2).sum(-1) - 2 * jnp.einsum("bhwc,kc->bhwk", z, table, precision=jax.lax.Precision.HIGHEST)
        index, stop = far.argmin(-1), jax.lax.stop_gradient
        q = table[index]
        through = stop(q) + (z - stop(z))  # in this order it is q to the last bit
        return Quantised(through, index, flat_mean((stop(z) - q) ** 2), flat_mean((z - stop(q)) ** 2))

"""A convolutional autoencoder: images to a quarter of their height and width and back."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.nn import resample
from diffjax.nn.conv import Conv
from diffjax.nn.unet import check_counts, check_images


class Autoencoder(nn.Module):
    """x [B, H, W, channels] -> z [B, H/4, W/4, latent] -> x, H and W multiples of 4; z is bound to [-1, 1].

    `net.apply(params, x, method="encode")` and `net.apply(params, z, method="decode")` are its halves.

    Raises:
      ValueError: x are no float images, or H or W is no multiple of 4.
    """

    channels: int = 1
    latent: int = 4
    width: int = 32
    dtype: Any = jnp.float32

    def __post_init__(self):
        check_counts(self, "channels", "latent", "width")
        super().__post_init__()

    def setup(self):
        w, how = self.width, {"dtype": self.dtype}
        self.down = [Conv(w, **how), Conv(w, **how), Conv(2 * w, **how), Conv(self.latent, **how)]
        self.up = [Conv(2 * w, **how), Conv(w, **how), Conv(w, **how), Conv(4 * self.channels, **how)]

    def __call__(self, x: Array) -> Array:
        return self.decode(self.encode(x))

    def encode(self, x: Array) -> Array:
        check_images(x, "the autoencoder")
        if x.shape[1] % 4 or x.shape[2] % 4:
            raise ValueError(f"an autoencoder that halves twice takes sides that are multiples of 4, got {x.shape}")
        h = resample.space_to_depth(x, 2).astype(self.dtype)
        h = nn.silu(self.down[1](nn.silu(self.down[0](h))))
        h = nn.silu(self.down[2](resample.down(h, (1, 1))))
        return jnp.tanh(self.down[3](h)).astype(x.dtype)

    def decode(self, z: Array) -> Array:
        h = nn.silu(self.up[0](z.astype(self.dtype)))
        h = nn.silu(self.up[2](nn.silu(self.up[1](resample.up(h, (1, 1))))))
        return resample.depth_to_space(self.up[3](h), 2).astype(z.dtype)

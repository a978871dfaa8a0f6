"""A classifier that is told the noise level: the encoder half of the U-Net, pooled (Dhariwal & Nichol 2021, Section 4).

Trained on noisy images x_t it guides at every t; trained at c_noise of t = 0 alone it is an ordinary classifier.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.nn import resample
from diffjax.nn.conv import Conv
from diffjax.nn.embed import Embedding, Sinusoidal
from diffjax.nn.norm import GroupNorm
from diffjax.nn.unet import Block
from diffjax.typing import Cond


class Classifier(nn.Module):
    """x [B, H, W, C], c_noise [] or [B] -> logits [B, num_classes], float32; the fields are those of `UNet`."""

    num_classes: int = 10
    features: Callable[[Array], Array] = Sinusoidal(64)
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    dropout: float = 0.0
    patch: int = 2
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, c_noise: Array, cond: Cond = None, train: bool = False) -> Array:
        types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        emb = Embedding(self.features, 4 * self.width, name="embedding", **types)(c_noise, None, x.shape[0])
        make = partial(Block, dropout=self.dropout, skip_scale=0.5**0.5, **types)
        h = Conv(self.width, name="conv_in", **types)(resample.space_to_depth(x, self.patch).astype(self.dtype))
        for i, mult in enumerate(self.multipliers):
            for j in range(self.blocks):
                h = make(self.width * mult, name=f"down{i}_block{j}")(h, emb, train)
            if i < len(self.multipliers) - 1 and min(h.shape[1:3]) % 2 == 0:
                h = make(h.shape[-1], partial(resample.down, kernel=(1, 1)), name=f"down{i}")(h, emb, train)
        h = nn.silu(GroupNorm(name="norm_out", **types)(h)).mean((1, 2))
        return nn.Dense(self.num_classes, name="logits", **types)(h).astype(jnp.float32)

"""A classifier of noisy images: the encoder half of the U-Net, pooled (Dhariwal & Nichol 2021, Section 4).

Trained on noisy images x_t it guides at every t; trained at c_noise of t = 0 alone it is an ordinary classifier.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.checks import check_number
from diffjax.nn import resample
from diffjax.nn.condition import read_cond
from diffjax.nn.conv import Conv
from diffjax.nn.embed import Embedding, Sinusoidal
from diffjax.nn.norm import GroupNorm
from diffjax.nn.unet import Block, check_counts, check_features, check_images, check_multipliers
from diffjax.typing import Cond


class Classifier(nn.Module):
    """x [B, H, W, C], c_noise [] or [B] -> logits [B, num_classes], float32; the fields are those of `UNet`.

    Raises:
      ValueError: x are no float images, or there is a condition: a classifier takes none.
    """

    num_classes: int = 10
    features: Callable[[Array], Array] = Sinusoidal(64)
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    dropout: float = 0.0
    patch: int = 2
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    cond_keys = frozenset()

    def __post_init__(self):
        check_counts(self, "num_classes", "width", "blocks", "patch")
        check_multipliers(self.multipliers)
        check_number("dropout", self.dropout, 0, 1)
        check_features(self.features)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, c_noise: Array, cond: Cond = None, train: bool = False) -> Array:
        check_images(x, "the classifier")
        read_cond(self, cond, len(x))
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

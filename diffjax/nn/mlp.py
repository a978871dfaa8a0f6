"""A residual MLP for data in the plane, told the noise level in every layer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.nn.embed import Embedding, Sinusoidal, read_cond
from diffjax.typing import Cond


class MLP(nn.Module):
    """x [B, D], c_noise [] or [B] or a pair -> F [B, D], float32; the last layer starts at zero.

    Attributes:
      width: size of the hidden layers.
      depth: how many residual layers h + dense(silu(h + dense(embedding))).
      num_classes: 0, or the number of labels in `cond["label"]`; `num_classes` itself is the null label.

    Raises:
      ValueError: x is not [B, D], or `cond` has an entry that the network does not read.
    """

    width: int = 128
    depth: int = 3
    num_classes: int = 0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, c_noise: Any, cond: Cond = None, train: bool = False) -> Array:
        if x.ndim != 2:
            raise ValueError(f"the MLP takes x [B, D], got shape {x.shape}")
        types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        label, _, scale = read_cond(cond)
        embedding = Embedding(Sinusoidal(64), self.width, self.num_classes, name="embedding", **types)
        emb = embedding(c_noise, label, x.shape[0], scale)
        h = nn.Dense(self.width, name="in", **types)(x.astype(self.dtype))
        for i in range(self.depth):
            conditioned = nn.silu(h + nn.Dense(self.width, name=f"emb{i}", **types)(emb))
            h = h + nn.Dense(self.width, name=f"layer{i}", **types)(conditioned)
        out = nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros, name="out", **types)
        return out(nn.silu(h)).astype(jnp.float32)

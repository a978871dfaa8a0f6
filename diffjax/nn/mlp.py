"""A residual MLP for points, conditioned on the noise level in every layer."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from diffjax.checks import check_count
from diffjax.nn.condition import read_cond
from diffjax.nn.embed import Embedding, Sinusoidal
from diffjax.typing import Cond


def check_points(x: Array, who: str) -> None:
    """Raise a ValueError unless x are float points [B, D]."""
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{who} takes float points x [B, D], got {x.dtype}{list(x.shape)}")


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

    @property
    def cond_keys(self) -> frozenset[str]:
        return frozenset({"scale", "label"} if self.num_classes else {"scale"})

    def __post_init__(self):
        check_count("width", self.width)
        check_count("depth", self.depth, 0)
        check_count("num_classes", self.num_classes, 0)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, c_noise: Any, cond: Cond = None, train: bool = False) -> Array:
        check_points(x, "the MLP")
        types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        label, _, scale = read_cond(self, cond, len(x), train)
        embedding = Embedding(Sinusoidal(64), self.width, self.num_classes, name="embedding", **types)
        emb = embedding(c_noise, label, x.shape[0], scale)
        h = nn.Dense(self.width, name="in", **types)(x.astype(self.dtype))
        for i in range(self.depth):
            conditioned = nn.silu(h + nn.Dense(self.width, name=f"emb{i}", **types)(emb))
            h = h + nn.Dense(self.width, name=f"layer{i}", **types)(conditioned)
        out = nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros, name="out", **types)
        return out(nn.silu(h)).astype(jnp.float32)

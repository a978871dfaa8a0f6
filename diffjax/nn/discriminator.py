"""Small discriminators `(h, c_noise, cond) -> logits`: of points, of a frozen network's feature maps, of patches.

Several heads on maps of several depths are those of projected GANs, which ADD uses (Sauer et al. 2023): each classifies
every position of its map, the mean over positions is taken in the loss. Theirs are spectral convolutions over a vision
transformer's tokens; these take one position at a time.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.checks import check_count
from diffjax.nn.condition import read_cond
from diffjax.nn.conv import Conv
from diffjax.nn.embed import Embedding, Sinusoidal
from diffjax.nn.mlp import check_points
from diffjax.nn.norm import GroupNorm
from diffjax.typing import Cond, PyTree


class PointDiscriminator(nn.Module):
    """h [B, D], c_noise [] or [B] -> logits [B], float32; `MLP` with one output that starts at zero.

    For a pair of points (`losses.distillation.PairStudent`) c_noise is (x_t [B, D'], level [B]): x_t is a second input.

    Raises:
      ValueError: h is not [B, D], or `cond` does not fit.
    """

    width: int = 128
    depth: int = 3
    num_classes: int = 0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @property
    def cond_keys(self) -> frozenset[str]:
        return frozenset({"label"} if self.num_classes else ())

    def __post_init__(self):
        check_count("width", self.width)
        check_count("depth", self.depth, 0)
        check_count("num_classes", self.num_classes, 0)
        super().__post_init__()

    @nn.compact
    def __call__(self, h: Array, c_noise: Any, cond: Cond = None) -> Array:
        check_points(h, "the discriminator of points")
        types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        if isinstance(c_noise, tuple):
            beside, c_noise = c_noise
            h = jnp.concatenate([h, beside], axis=-1)
        label = read_cond(self, cond, len(h)).label
        embedding = Embedding(Sinusoidal(64), self.width, self.num_classes, name="embedding", **types)
        emb = embedding(c_noise, label, h.shape[0])
        h = nn.Dense(self.width, name="in", **types)(h.astype(self.dtype))
        for i in range(self.depth):
            h = h + nn.Dense(self.width, name=f"layer{i}", **types)(
                nn.silu(h + nn.Dense(self.width, name=f"emb{i}", **types)(emb))
            )
        out = nn.Dense(1, kernel_init=nn.initializers.zeros, name="out", **types)
        return out(nn.silu(h))[..., 0].astype(jnp.float32)


class FeatureHeads(nn.Module):
    """A tree of features [B, ..., C] -> one head's logits [B, ...] for each, float32: silu MLPs over the channels.

    c_noise and cond are not read: the features are of clean images.
    """

    width: int = 64
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, h: PyTree, c_noise: Any = None, cond: Cond = None) -> list[Array]:
        types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        logits = []
        for i, leaf in enumerate(jax.tree.leaves(h)):
            hidden = nn.silu(nn.Dense(self.width, name=f"head{i}", **types)(leaf.astype(self.dtype)))
            logits.append(nn.Dense(1, name=f"out{i}", **types)(hidden)[..., 0].astype(jnp.float32))
        return logits


class PatchDiscriminator(nn.Module):
    """Images h [B, H, W, C] -> logits [B, H', W'], float32: one for each patch (PatchGAN, Isola et al. 2017).

    Convolutions of 4 x 4: `layers` with stride 2 and two with stride 1, leaky ReLU between, group norm where the paper
    has batch norm, which would mix examples. c_noise and cond are not read.

    Raises:
      ValueError: an image is too small for so many layers.
    """

    width: int = 64
    layers: int = 3
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_count("width", self.width)
        check_count("layers", self.layers)
        super().__post_init__()

    @nn.compact
    def __call__(self, h: Array, c_noise: Any = None, cond: Cond = None) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        pad = ((1, 1), (1, 1))
        if min(h.shape[1:3]) // 2**self.layers < 3:
            size = " x ".join(map(str, h.shape[1:3]))
            raise ValueError(
                f"there is no patch of {self.layers} layers in an image of {size} pixels: take fewer layers"
            )
        for i in range(self.layers + 1):
            width, stride = self.width * min(2**i, 8), 2 if i < self.layers else 1
            h = Conv(width, 4, stride=stride, padding=pad, name=f"conv{i}", **types)(h)
            h = nn.leaky_relu(GroupNorm(name=f"norm{i}", **types)(h) if i else h, 0.2)
        return Conv(1, 4, padding=pad, name="out", **types)(h)[..., 0].astype(jnp.float32)

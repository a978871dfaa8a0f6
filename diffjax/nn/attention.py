"""Attention over the pixels of an image, with its inner operation as an argument.

What happens between queries, keys and values is an `Attend` (diffjax.typing): `plain` unless the condition carries
another in `cond["attend"]`. Attention control (Prompt-to-Prompt and its kin) is such an argument and never a hook.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.nn.conv import ZERO, Conv
from diffjax.nn.norm import GroupNorm
from diffjax.typing import Attend, Site


def plain(site: Site, q: Array, k: Array, v: Array) -> Array:
    """softmax(q k' / sqrt(d)) v for q, k, v [B, N, heads, d], the softmax in float32 (Vaswani et al. 2017, eq. 1)."""
    del site
    return jax.nn.dot_product_attention(q, k, v)


def checked(attend: Attend, site: Site, q: Array, k: Array, v: Array) -> Array:
    """`attend(site, q, k, v)`, or a ValueError that names the site if its shape is not that of q."""
    out = attend(site, q, k, v)
    if out.shape != q.shape:
        raise ValueError(f"attend must return the shape of q, {q.shape}, at {'/'.join(site.path)}; got {out.shape}")
    return out


class SelfAttention(nn.Module):
    """x [B, H, W, C] -> skip_scale (x + attention(group_norm(x))), as in Ho et al. (2020).

    The three projections are separate layers, so a cross-attention differs from this block only in what its keys and
    values are projected from, and in `Site.is_cross`.

    Attributes:
      heads: number of heads; C must be a multiple of it.
      qkv_scale: variance scale at which the query, key and value layers start.
      skip_scale: factor on the residual sum.
    """

    heads: int = 1
    qkv_scale: float = 1.0
    skip_scale: float = 1.0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, attend: Attend = plain) -> Array:
        B, H, W, C = x.shape
        if self.heads < 1 or C % self.heads:
            raise ValueError(f"{C} channels cannot be split into {self.heads} heads")
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = GroupNorm(**types, name="norm")(x)

        def project(name: str) -> Array:  # [B, H W, heads, C / heads]
            return Conv(C, 1, self.qkv_scale, name=name, **types)(h).reshape(B, H * W, self.heads, C // self.heads)

        site = Site(path=self.path, height=H, width=W, is_cross=False)
        h = checked(attend, site, project("query"), project("key"), project("value")).reshape(B, H, W, C)
        return self.skip_scale * (x + Conv(C, 1, ZERO, name="out", **types)(h))

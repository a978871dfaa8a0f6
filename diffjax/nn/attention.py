"""Attention over the pixels of an image or the tokens of a text, with its inner operation as an argument.

What happens between queries, keys and values is an `Attend` (diffjax.typing): `plain` unless the condition carries
another in `cond["attend"]`. Attention control (such as Prompt-to-Prompt) is such an argument and never a hook. Masks
are too: `causal` for a text that is read from the left, `Masked` for one with padding.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import variance_scaling

from diffjax.nn.conv import ZERO, Conv
from diffjax.nn.norm import GroupNorm
from diffjax.typing import Attend, Site, pytree

QUERIES = 1024


def attention(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """softmax(q k' / sqrt(d)) v for q, k, v [B, N, heads, d], the softmax in float32 at least (Vaswani et al. 2017).

    `mask`, bool, broadcast to [B, heads, N, M], is true where a query sees a key. Of more queries than `QUERIES` so
    many are taken at a time, also for the gradient: 4096 x 4096 probabilities of 8 heads are 512 MiB an example.
    """
    N = q.shape[1]
    if N <= QUERIES or (mask is not None and mask.shape[-2] != 1):
        return _attention(q, k, v, mask)
    blocks = jnp.pad(q, ((0, 0), (0, -N % QUERIES), (0, 0), (0, 0)))
    blocks = blocks.reshape(q.shape[0], -1, QUERIES, *q.shape[2:]).swapaxes(0, 1)
    out = jax.lax.map(jax.checkpoint(lambda q: _attention(q, k, v, mask)), blocks)
    return out.swapaxes(0, 1).reshape(q.shape[0], -1, *q.shape[2:])[:, :N]


def _attention(q: Array, k: Array, v: Array, mask: Array | None) -> Array:
    if q.dtype != jnp.float64:
        return jax.nn.dot_product_attention(q, k, v, mask=mask)
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k) * q.shape[-1] ** -0.5  # JAX's own has a softmax in float32
    if mask is not None:
        logits = jnp.where(mask, logits, -jnp.inf)
    return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(logits), v)


def probabilities(q: Array, k: Array) -> Array:
    """softmax(q k' / sqrt(d)) for q [B, N, heads, d] and k [B, M, heads, d]: [B, heads, N, M], float32 at least."""
    logits = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=jnp.promote_types(q.dtype, jnp.float32))
    return jax.nn.softmax(logits * q.shape[-1] ** -0.5)


def plain(site: Site, q: Array, k: Array, v: Array) -> Array:
    """`attention` of everything to everything."""
    del site
    return attention(q, k, v)


def causal(site: Site, q: Array, k: Array, v: Array) -> Array:
    """`attention` of each token to those before it and itself."""
    del site
    return attention(q, k, v, jnp.tril(jnp.ones((q.shape[1], k.shape[1]), bool)))


@pytree
class Masked:
    """`attention` to the keys for which `mask`, bool [B, M], is true."""

    mask: Array

    def __call__(self, site: Site, q: Array, k: Array, v: Array) -> Array:
        del site
        return attention(q, k, v, self.mask[:, None, None])


def checked(attend: Attend, site: Site, q: Array, k: Array, v: Array) -> Array:
    """`attend(site, q, k, v)`, or a ValueError that names the site if its shape is not that of q."""
    out = attend(site, q, k, v)
    if out.shape != q.shape:
        raise ValueError(f"attend must return the shape of q, {q.shape}, at {'/'.join(site.path)}; got {out.shape}")
    return out


class SelfAttention(nn.Module):
    """x [B, H, W, C] -> skip_scale (x + attention(group_norm(x))), as in Ho et al. (2020).

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
        check_heads(C, self.heads)
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = GroupNorm(**types, name="norm")(x)

        def project(name: str) -> Array:  # [B, H W, heads, C / heads]
            return Conv(C, 1, self.qkv_scale, name=name, **types)(h).reshape(B, H * W, self.heads, C // self.heads)

        site = Site(path=self.path, height=H, width=W, is_cross=False)
        h = checked(attend, site, project("query"), project("key"), project("value")).reshape(B, H, W, C)
        return self.skip_scale * (x + Conv(C, 1, ZERO, name="out", **types)(h))


class Attention(nn.Module):
    """Multi-head attention of tokens x [B, N, C] to themselves, or to a context [B, M, D]: -> [B, N, C].

    Attributes:
      heads: number of heads; C must be a multiple of it.
      bias: whether the query, key and value layers have one; the last layer does.
    """

    heads: int
    bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, context: Array | None = None, attend: Attend = plain, size: tuple[int, int] | None = None
    ) -> Array:
        """`size` is the height and width of the image whose pixels x are; of a text 1 and N."""
        C = x.shape[-1]
        check_heads(C, self.heads)
        dense = partial(
            nn.Dense,
            kernel_init=variance_scaling(1.0, "fan_avg", "uniform"),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )

        def project(name: str, y: Array) -> Array:
            return dense(C, self.bias, name=name)(y).reshape(*y.shape[:2], self.heads, C // self.heads)

        height, width = size or (1, x.shape[1])
        site = Site(path=self.path, height=height, width=width, is_cross=context is not None)
        source = x if context is None else context
        h = checked(attend, site, project("query", x), project("key", source), project("value", source))
        return dense(C, name="out")(h.reshape(x.shape))


def check_heads(channels: int, heads: int) -> None:
    """Raise a ValueError unless the channels can be split into so many heads."""
    if heads < 1 or channels % heads:
        raise ValueError(f"{channels} channels cannot be split into {heads} heads")

"""Group normalization (Wu & He 2018), layer normalization (Ba et al. 2016), and NCSN's instance normalization++.

`GroupNorm` has min(C / 4, 32) groups and epsilon 1e-6 unless told otherwise (Ho et al. 2020; Song et al. 2021). Both
take the variance in a second pass, as the mean of squared differences from the mean: the mean of squares less the
square of the mean is off by 5e-3 where the mean is 100 standard deviations (in float32). With mu_k and s_k^2 the mean
and variance of channel k of one example over its pixels, and m and v^2 those of mu_1 .. mu_C, `InstanceNormPlus` is

    z_k = gamma_k ((x_k - mu_k) / s_k + alpha_k (mu_k - m) / v) + beta_k                           (1)

Instance normalization alone forgets the mean of each channel, and with it the colour of an image; the second term
brings it back relative to the other channels. NCSN has a row of gamma, alpha and beta for each noise level (Song &
Ermon 2019, App. A), NCSNv2 one for all. Their equation writes alpha outside the factor gamma; their code, and so we,
inside. As in their code v^2 is divided by C - 1, and both variances are raised by 1e-5.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


class GroupNorm(nn.Module):
    """Normalize each example over the pixels of each group of channels, then scale and shift each channel.

    x [B, H, W, C] or [B, N, C], shape kept. The statistics are taken in x's precision, float32 at least.

    Attributes:
      groups: their number, which divides C; by default min(C / 4, 32), or the next lower count that divides C.
      epsilon: added to the variance.

    Raises:
      ValueError: C cannot be divided into so many groups.
    """

    groups: int | None = None
    epsilon: float = 1e-6
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        C, over = x.shape[-1], tuple(range(1, x.ndim - 1))
        groups = self.groups or next(g for g in range(max(1, min(C // 4, 32)), 0, -1) if C % g == 0)
        if C % groups:
            raise ValueError(f"{C} channels cannot be divided into {groups} groups")
        scale = self.param("scale", nn.initializers.ones, (C,), self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (C,), self.param_dtype)

        def per_group(x: Array) -> Array:  # [B, ..., C]: the mean over each group, repeated for its channels
            m = x.mean(over, keepdims=True)  # first per channel: on a CPU faster than a reduction of a reshaped array
            return jnp.repeat(m.reshape(*m.shape[:-1], groups, C // groups).mean(-1), C // groups, axis=-1)

        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x = x - per_group(x)
        gain = scale * jax.lax.rsqrt(per_group(x * x) + self.epsilon)
        return (x * gain + bias).astype(self.dtype)


class LayerNorm(nn.Module):
    """Normalize each vector x [..., C], then scale and shift each channel; precision as in `GroupNorm`."""

    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], self.param_dtype)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x = x - x.mean(-1, keepdims=True)
        x = x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + self.epsilon)
        return (x * scale + bias).astype(self.dtype)


class InstanceNormPlus(nn.Module):
    """x [B, H, W, C], level [B] -> z [B, H, W, C], eq. (1).

    Attributes:
      levels: 0, or the number of rows of gamma, alpha and beta; `level` is ignored or an integer 0 .. levels - 1. A
        level outside of the table gives NaN.

    Raises:
      ValueError: there is one channel only, so that v does not exist.
    """

    levels: int = 0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, level: Array | None = None) -> Array:
        C = x.shape[-1]
        if C < 2:
            raise ValueError("InstanceNorm++ compares channels with one another and needs two or more of them, got 1")

        def row(name: str, init: Any) -> Array:  # [1, C] or [B, C]
            table = self.param(name, init, (max(self.levels, 1), C), self.param_dtype)
            if not self.levels:
                return table
            return jnp.asarray(table).at[level].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)

        def near_one(key, shape, dtype):
            return 1 + 0.02 * jax.random.normal(key, shape, dtype)

        gamma = row("gamma", near_one)
        alpha = row("alpha", near_one)
        beta = row("beta", nn.initializers.zeros)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        mu, s2 = x.mean((1, 2)), x.var((1, 2))
        plus = (mu - mu.mean(-1, keepdims=True)) * jax.lax.rsqrt(mu.var(-1, keepdims=True, ddof=1) + 1e-5)
        gain = gamma * jax.lax.rsqrt(s2 + 1e-5)
        shift = gamma * alpha * plus + beta - mu * gain
        return (x * gain[:, None, None] + shift[:, None, None]).astype(self.dtype)

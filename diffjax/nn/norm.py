"""Group normalization (Wu & He 2018) with the groups of the score networks: min(C / 4, 32), epsilon 1e-6."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class GroupNorm(nn.Module):
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    @nn.compact
    def __call__(self, x: Array) -> Array:
        C = x.shape[-1]
        groups = next(g for g in range(max(1, min(C // 4, 32)), 0, -1) if C % g == 0)
        return nn.GroupNorm(groups, dtype=self.dtype, param_dtype=self.param_dtype)(x)

"""A linear map of frozen features, with dropout in training: the small classifiers of captions and faces."""

from __future__ import annotations

import flax.linen as nn
from jax import Array


class LinearHead(nn.Module):
    """Features [B, ...] -> [B, dim]; a second input, a noise level, is not used.

    Attributes:
      dim: entries of the result.
      dropout: share of the features that is dropped in training.
    """

    dim: int = 128
    dropout: float = 0.5

    @nn.compact
    def __call__(self, x: Array, c_noise: Array | float = 0.0, train: bool = False) -> Array:
        x = nn.Dropout(self.dropout, deterministic=not train)(x.reshape(len(x), -1))
        return nn.Dense(self.dim)(x)

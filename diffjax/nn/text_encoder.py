"""The text tower of CLIP (Radford et al. 2021, section 2.4): tokens to states, and one vector for the text.

Tokens and positions are embedded, blocks with causal attention follow, and a last normalization. The vector for the
text is the state at its end token, there the only one that has seen the whole text; `projection` maps it to the space
that texts and images share.

Stable Diffusion 1 and 2 are conditioned on the last states, normalized; SDXL on those before the last block, as they
are, of two towers; its "pooled" is the second one's projected vector. `nn.presets` has the three towers.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_count, known
from diffjax.nn.attention import causal
from diffjax.nn.norm import LayerNorm
from diffjax.nn.transformer import TransformerBlock
from diffjax.nn.unet import check_counts


class TextStates(NamedTuple):
    """B texts of N tokens, encoded.

    Attributes:
      context: [B, N, C], the states that the call asked for.
      states: `layers` + 1 arrays [B, N, C]: the embeddings, and what each block returns; none is normalized.
      pooled: [B, C], the normalized last state at the end token.
      projected: [B, projection], `pooled` through the projection; None where there is none.
    """

    context: Array
    states: tuple[Array, ...]
    pooled: Array
    projected: Array | None


class TextEncoder(nn.Module):
    """ids [B, N] integers -> `TextStates`, float32 at least. The attention sees padding, as in Stable Diffusion.

    Attributes:
      vocabulary, positions: numbers of tokens and of positions; N is at most `positions`.
      width, layers, heads: channels, blocks, and heads of each.
      feed: channels inside a block's feed-forward layer; 4 `width` by default.
      activation: "quick_gelu" (CLIP-L) or "gelu" (OpenCLIP).
      projection: 0, or the channels of `projected`.
      end: the id of the end token.
      pool: where the vector of the text is taken: at the "first_end" token, or at the "largest" id ("argmax" of the
        ids: what Hugging Face does with the published configurations; the same but for texts with added tokens, whose
        ids are larger than the end token's).

    Raises:
      ValueError: ids are no integers [B, N], N is larger than `positions`, or an id is out of range, or a text has no
        end token where one is needed; where ids are traced, NaN stands for the last two.
    """

    vocabulary: int = 49408
    positions: int = 77
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed: int | None = None
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    projection: int = 0
    end: int = 49407
    pool: Literal["first_end", "largest"] = "first_end"
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    def __post_init__(self):
        check_counts(self, "vocabulary", "positions", "width", "layers", "heads")
        check_count("projection", self.projection, 0)
        if self.pool not in ("first_end", "largest"):
            raise ValueError(f'pool is "first_end" or "largest", got {self.pool!r}')
        super().__post_init__()

    @nn.compact
    def __call__(self, ids: Array, skip: int = 0, normalize: bool = True) -> TextStates:
        """`context` are the states `skip` blocks before the end, normalized or not."""
        check_count("skip", skip, 0, self.layers)
        ids = self._checked(ids)
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        init = nn.initializers.normal(0.02)
        x = nn.Embed(self.vocabulary, self.width, embedding_init=init, name="tokens", **types)(ids)
        positions = nn.Embed(self.positions, self.width, embedding_init=init, name="positions", **types)
        states = [x + positions(jnp.arange(ids.shape[1]))]
        for i in range(self.layers):
            block = TransformerBlock(
                self.heads, False, True, self.activation, self.feed, "before", self.epsilon, name=f"block{i}", **types
            )
            states.append(block(states[-1], attend=causal))
        norm, wide = LayerNorm(self.epsilon, name="norm", **types), jnp.promote_types(self.dtype, jnp.float32)
        pooled = self._pool(ids, norm(states[-1]))
        projected = None
        if self.projection:
            projected = nn.Dense(self.projection, False, name="projection", **types)(pooled).astype(wide)
        context = states[self.layers - skip]
        context = norm(context) if normalize else context
        return TextStates(context.astype(wide), tuple(s.astype(wide) for s in states), pooled.astype(wide), projected)

    def _checked(self, ids: Array) -> Array:
        values = np.asarray(ids) if known(ids) else None
        ids = jnp.asarray(ids)
        if ids.ndim != 2 or not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(f"ids are integers [B, N], got {ids.dtype}{list(ids.shape)}")
        if ids.shape[1] > self.positions:
            raise ValueError(f"this encoder has {self.positions} positions, got {ids.shape[1]} tokens")
        if values is not None and values.size:
            if values.min() < 0 or values.max() >= self.vocabulary:
                raise ValueError(f"ids go from 0 to {self.vocabulary - 1}, got {values.min()} to {values.max()}")
            if self.pool == "first_end" and not self.is_initializing() and not (values == self.end).any(1).all():
                raise ValueError(f"a text has no end token, whose id is {self.end}")
        return ids

    def _pool(self, ids: Array, x: Array) -> Array:
        """x [B, N, C] -> [B, C]."""
        if self.pool == "largest":
            at, there = ids.argmax(1), jnp.array(True)
        else:
            at, there = (ids == self.end).argmax(1), (ids == self.end).any(1)[:, None]
        return jnp.where(there, jnp.take_along_axis(x, at[:, None, None], axis=1)[:, 0], jnp.nan)

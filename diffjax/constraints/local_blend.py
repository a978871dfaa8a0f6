"""LocalBlend of Prompt-to-Prompt (Hertz et al. 2023): an edit changes the picture where its words are, and only there.

After a step that ends at s, with A the cross-attention to the chosen words, averaged over heads and layers of one size,

    mask = max_pool_3x3(A) / max > threshold, of the source or of the edit
    x    = x_src + mask (x - x_src)

The paper's code averages A over all steps so far; here it is that of the step alone.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from diffjax.checks import check_number
from diffjax.control.maps import attention_maps, word_maps
from diffjax.samplers.arguments import check_sampler
from diffjax.typing import Sampler, pytree, static


@pytree
class LocalBlend:
    """`sampler`, whose edits stay their sources outside of the words' places; one more evaluation a step.

    Attributes:
      source: int [B], as of `control.PromptToPrompt`.
      words: bool [B, M], the tokens of each prompt whose places may change, as `control.tokens_of_words` finds them;
        of an edit and of its source. Where a pair has none, the whole picture may.
      threshold: the share of the greatest attention that a place needs.
      start: blended is where s is below this time; None: from the first step on.
      height: of the cross-attention layers that are looked at.

    Raises:
      TypeError: `sampler` is no sampler, or a number is none.
      ValueError: the threshold is not in [0, 1].
    """

    sampler: Sampler
    source: Array
    words: Array
    threshold: float = 0.3
    start: float | None = None
    height: int = static(default=16)

    def __post_init__(self):
        check_sampler(self.sampler)
        check_number("threshold", self.threshold, 0, 1)
        if self.start is not None:
            check_number("start", self.start)

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        maps = word_maps(attention_maps(denoise, state.x, t, cond), self.height)
        if maps.shape[::3] != self.words.shape:
            raise ValueError(f"LocalBlend has words {self.words.shape}, the attention is of {maps.shape[::3]}")
        inside = self._inside(maps, state.x.shape[1:3])
        outside = ~inside if self.start is None else ~inside & (jnp.asarray(s) < self.start)
        state = self.sampler.step(key, denoise, sde, state, t, s, cond)
        fields = {name: getattr(state, name) for name in ("x", "mean") if hasattr(state, name)}
        return state._replace(**{name: jnp.where(outside, a[self.source], a) for name, a in fields.items()})

    def _inside(self, maps: Array, size: tuple[int, int]) -> Array:
        """Where a picture may change, bool [B, H, W, 1]."""
        chosen = jnp.einsum("bhwm,bm->bhw", maps, self.words.astype(maps.dtype))[..., None]
        chosen = nn.max_pool(chosen, (3, 3), padding="SAME")
        chosen = jax.image.resize(chosen, (len(chosen), *size, 1), "nearest")
        mask = chosen > self.threshold * chosen.max((1, 2), keepdims=True)
        mask = mask | mask[self.source]
        free = ~(self.words.any(1) | self.words[self.source].any(1))
        return mask | free[:, None, None, None]

"""Prompts -> the condition of Stable Diffusion's U-Nets: the states of one text tower, or of two, and a pooled vector.

    one tower (1.x, 2.x)     the last states, normalized; with clip skip those of an earlier block, normalized
    two, or bigG's (XL)      the states before the last block, as they are, joined on channels; pooled: the projected
                             vector of the last tower, of a long prompt's first chunk

Each prompt is cut into chunks of 75 tokens, whose states stand one behind the other (`text.prompts`), and they are
weighed. Padding is read by the U-Net as well, so that prompts of one call have one number of chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.nn import TextEncoder
from diffjax.text.clip_bpe import Tokenizer
from diffjax.text.prompts import chunk_prompts, weigh
from diffjax.typing import PyTree, pytree, static


@pytree
class Tower:
    """A text tower with its parameters."""

    net: TextEncoder = static()
    params: PyTree


def encode_prompts(
    towers: Sequence[Tower], tokenizers: Sequence[Tokenizer], texts: Sequence[str], skip: int = 0, xl: bool = False
) -> dict[str, Array]:
    """B texts -> {"context": [B, 77 chunks, D]}, and of XL "pooled" [B, P].

    Args:
      skip: blocks at the end that are left out.
      xl: whether the states are those of XL.

    Raises:
      ValueError: `skip` leaves no block, a tokenizer has ids that its tower has not, or XL's has no projection.
    """
    for tower, tokenizer in zip(towers, tokenizers, strict=True):
        if len(tokenizer) > tower.net.vocabulary or tokenizer.length > tower.net.positions:
            raise ValueError(
                f"the tokenizer has {len(tokenizer)} tokens, {tokenizer.length} a row, but its text encoder "
                f"{tower.net.vocabulary} and {tower.net.positions}: they do not belong together"
            )
    chunked = [chunk_prompts(tokenizer, texts) for tokenizer in tokenizers]
    count = max(prompt.ids.shape[1] for prompt in chunked)
    chunked = [chunk_prompts(tokenizer, texts, min_chunks=count) for tokenizer in tokenizers]
    if xl and not towers[-1].net.projection:
        raise ValueError("the U-Net takes a pooled text, but the last text encoder has no projection")
    return _encode(tuple(towers), [tuple(prompt) for prompt in chunked], skip, xl)


@partial(jax.jit, static_argnames=("skip", "xl"))
def _encode(towers: tuple[Tower, ...], chunked: Any, skip: int, xl: bool) -> dict[str, Array]:
    contexts, pooled = [], None
    for tower, (ids, weights) in zip(towers, chunked, strict=True):
        B, chunks, T = ids.shape
        states: Any = tower.net.apply(tower.params, ids.reshape(-1, T), skip=skip + xl, normalize=not xl)
        context = weigh(states.context.reshape(B, chunks, T, -1), weights)
        contexts.append(context.reshape(B, chunks * T, -1))
        pooled = None if states.projected is None else states.projected.reshape(B, chunks, -1)[:, 0]
    found = {"context": jnp.concatenate(contexts, -1)}
    return found | {"pooled": pooled} if xl and pooled is not None else found

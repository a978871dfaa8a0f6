"""Prompts -> the condition of Stable Diffusion's U-Nets: the states of one text tower, or of two, and a pooled vector.

    one tower (1.x, 2.x)     the last states, normalized; with clip skip those of an earlier block, normalized
    two, or bigG's (XL)      the states before the last block, as they are, joined on channels; pooled: the projected
                             vector of the last tower, of a long prompt's first chunk

Each prompt is cut into chunks of 75 tokens, whose states stand one behind the other (`text.prompts`), and they are
weighed. Padding is read by the U-Net as well. So a prompt and its negative one get one number of chunks, as in the
webui, but the prompts of one call do not: their chunks are repeated up to a common multiple, which attention does not
notice (each weight of a softmax over k copies is a k-th), and a picture does not depend on the others of its call.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.nn import TextEncoder
from diffjax.text.clip_bpe import Tokenizer
from diffjax.text.prompts import Prompt, chunk_prompts, weigh
from diffjax.typing import PyTree, pytree, static

LONGEST = 60  # chunks of a context: prompts of 1 to 6, or of up to 60 where all have the same number


@pytree
class Tower:
    """A text tower with its parameters."""

    net: TextEncoder = static()
    params: PyTree


def encode_prompts(
    towers: Sequence[Tower],
    tokenizers: Sequence[Tokenizer],
    texts: Sequence[Sequence[str]],
    *,
    skip: int = 0,
    xl: bool = False,
    restore_mean: bool = True,
) -> list[dict[str, Array]]:
    """Lists of B texts, the prompts and their negative ones, -> for each {"context": [B, 77 chunks, D]}.

    The i-th texts of all lists are completed to one number of chunks. Of XL there is "pooled" [B, P] besides.

    Args:
      skip: blocks at the end that are left out.
      xl: whether the states are those of XL.
      restore_mean: of `weigh`.

    Raises:
      ValueError: `skip` leaves no block, a tokenizer has ids that its tower has not, XL's has no projection, or the
        numbers of chunks have no common multiple of `LONGEST` or less.
    """
    for tower, tokenizer in zip(towers, tokenizers, strict=True):
        if len(tokenizer) > tower.net.vocabulary or tokenizer.length > tower.net.positions:
            raise ValueError(
                f"the tokenizer has {len(tokenizer)} tokens, {tokenizer.length} a row, but its text encoder "
                f"{tower.net.vocabulary} and {tower.net.positions}: they do not belong together"
            )
    if xl and not towers[-1].net.projection:
        raise ValueError("the U-Net takes a pooled text, but the last text encoder has no projection")
    rows = list(zip(*texts, strict=True))
    counts = [max(chunk_prompts(tokenizer, row).ids.shape[1] for tokenizer in tokenizers) for row in rows]
    total = math.lcm(*counts)
    if total > max(LONGEST, *counts):
        raise ValueError(
            f"prompts of {sorted(set(counts))} chunks of 75 tokens have the common multiple {total}: give those of one "
            "length in a call of their own"
        )

    def repeated(tokenizer: Tokenizer) -> Prompt:
        """The chunks of all texts, list after list: [lists B, total, T]."""
        of = [chunk_prompts(tokenizer, row, min_chunks=n) for row, n in zip(rows, counts, strict=True)]
        many = [[np.tile(x, (1, total // n, 1)) for x in prompt] for prompt, n in zip(of, counts, strict=True)]
        return Prompt(*(np.stack(x, 1).reshape(-1, *x[0].shape[1:]) for x in zip(*many, strict=True)))

    chunked = [tuple(repeated(tokenizer)) for tokenizer in tokenizers]
    found = _encode(tuple(towers), chunked, skip, xl, restore_mean)
    return [{name: x[i * len(rows) :][: len(rows)] for name, x in found.items()} for i in range(len(texts))]


@partial(jax.jit, static_argnames=("skip", "xl", "restore_mean"))
def _encode(towers: tuple[Tower, ...], chunked: Any, skip: int, xl: bool, restore_mean: bool) -> dict[str, Array]:
    contexts, pooled = [], None
    for tower, (ids, weights) in zip(towers, chunked, strict=True):
        B, chunks, T = ids.shape
        states: Any = tower.net.apply(tower.params, ids.reshape(-1, T), skip=skip + xl, normalize=not xl)
        context = weigh(states.context.reshape(B, chunks, T, -1), weights, restore_mean=restore_mean)
        contexts.append(context.reshape(B, chunks * T, -1))
        pooled = None if states.projected is None else states.projected.reshape(B, chunks, -1)[:, 0]
    found = {"context": jnp.concatenate(contexts, -1)}
    return found | {"pooled": pooled} if xl and pooled is not None else found

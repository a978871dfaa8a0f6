"""Prompt-to-Prompt (Hertz et al. 2023): a picture for a changed prompt, with the attention of the first prompt's.

Source and edits are drawn in one batch, from the same noise. With A_src and A the probabilities of a source and of its
edit in one attention layer, M the mapper of `alignment` and c the weights of the words, the edit's are

    cross-attention, while t > until:         c (A_src M) in the tokens that the edit takes over, c A in the others
    self-attention, while t > self_until:     A_src, where there are at most `pixels` queries

and A otherwise; values are always the edit's own. Columns are not normalized again. Defaults are those of the paper's
code: weights count within the window only, self-attention is taken over at 16 x 16 and below.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_number
from diffjax.control import alignment
from diffjax.control.alignment import Split
from diffjax.nn.attention import attention, probabilities
from diffjax.typing import Site, Time, pytree, static

OTHERS = "default_"


@pytree
class PromptToPrompt:
    """The control of B examples, of prompts of M tokens; made by `prompt_to_prompt`.

    Attributes:
      source: int [B], of each example the one whose attention it takes; of a source itself.
      mapper: [B, M, M], see `alignment`.
      taken: bool [B, M], the tokens that take over the source's attention.
      weight: [B, M], c of each token.
      until: [B, M], the time above which a token's attention is controlled.
      self_until: [B], the time above which self-attention is the source's.
      t: the time, [] or [B]; None: not known yet.
      pixels: the most queries of a layer whose self-attention is taken over; 1024 in the code of null-text inversion.
    """

    source: Array
    mapper: Array
    taken: Array
    weight: Array
    until: Array
    self_until: Array
    t: Time | None = None
    pixels: int = static(default=256)

    def at(self, t: Time) -> PromptToPrompt:
        """The control at time t."""
        return dataclasses.replace(self, t=t)

    def __call__(self, site: Site, q: Array, k: Array, v: Array) -> Array:
        """See above.

        Raises:
          ValueError: the batch is another, the context has another number of tokens, or the time is not known.
        """
        if not site.is_cross:
            return attention(*self._queries_and_keys(q, k), v)
        return jnp.einsum("bhnm,bmhd->bnhd", self.probabilities(site, q, k).astype(v.dtype), v)

    def probabilities(self, site: Site, q: Array, k: Array) -> Array:
        """What the values are averaged with, [B, heads, N, M]."""
        if not site.is_cross:
            return probabilities(*self._queries_and_keys(q, k))
        t, own = self._times(len(q)), probabilities(q, k)
        if k.shape[1] != self.taken.shape[1]:
            raise ValueError(f"Prompt-to-Prompt of {self.taken.shape[1]} tokens a prompt got {k.shape[1]}")
        mapper = self.mapper.astype(own.dtype)
        given = jnp.einsum("bhnm,bmj->bhnj", own[self.source], mapper, precision=jax.lax.Precision.HIGHEST)
        taken, weight, active = (a[:, None, None] for a in (self.taken, self.weight, t[:, None] > self.until))
        return jnp.where(active, jnp.where(taken, given, own) * weight.astype(own.dtype), own)

    def _queries_and_keys(self, q: Array, k: Array) -> tuple[Array, Array]:
        """Those of the sources, where self-attention is taken over: the same probabilities."""
        active = (self._times(len(q)) > self.self_until)[:, None, None, None]
        if q.shape[1] > self.pixels:
            return q, k
        return jnp.where(active, q[self.source], q), jnp.where(active, k[self.source], k)

    def _times(self, n: int) -> Array:
        if self.t is None:
            raise ValueError("Prompt-to-Prompt needs the time: evaluate the network through a denoiser, or give at(t)")
        if n != len(self.source):
            what = f"Prompt-to-Prompt of {len(self.source)} prompts"
            raise ValueError(f"{what} sees them all in one batch, got {n}: draw them together")
        return jnp.broadcast_to(self.t, (n,))


def prompt_to_prompt(
    tokens: Split,
    prompts: Sequence[str],
    source: Sequence[int],
    *,
    until: float | Mapping[str, float] = 0.0,
    self_until: float = 0.0,
    method: Literal["replace", "refine"] | None = None,
    weights: Mapping[str, float] | None = None,
) -> PromptToPrompt:
    """The control of B prompts, some of which are edits of others.

    Their examples must begin from the noise of their source: `model.sample(keys[source], B, ...)`.

    Args:
      tokens: what encodes the prompts, `TextStates` or CLIP's `Tokenizer`.
      source: of each prompt, which one it is an edit of; its own number for one that is none: [0, 0, 2, 2].
      until: the time above which cross-attention is controlled; or one for each word of the edits, {"ring": 0.5}, with
        "default_" for all others. `time_after(ts, 0.8)` is that of the first 0.8 of the steps; T: never.
      self_until: the time above which self-attention is the source's.
      method: "replace" swaps word for word, "refine" keeps the words that both have; None: "replace" where an edit has
        as many words as its source.
      weights: factors on the attention to words of the edits, {"large": 2.0}; of a word that occurs twice, on both.

    Raises:
      TypeError: the prompts are no list of texts, or a time or a weight is no number.
      ValueError: a source is none, a word is in no edit, a prompt has too many tokens, or "replace" has nothing to swap
        word for word.
    """
    numbers = _check(prompts, source, method)
    B, M = len(prompts), tokens.length
    times: Mapping[str, float] = until if isinstance(until, Mapping) else {OTHERS: until}
    for name, value in (*times.items(), ("self_until", self_until), *(weights or {}).items()):
        check_number(f"the time or weight of {name!r}", value)
    mapper, taken = np.broadcast_to(np.eye(M, dtype=np.float32), (B, M, M)).copy(), np.zeros((B, M), bool)
    weight, end = np.ones((B, M), np.float32), np.full((B, M), np.inf, np.float32)
    self_end = np.where(numbers == np.arange(B), np.inf, self_until).astype(np.float32)
    edits = [i for i in range(B) if numbers[i] != i]
    for i in edits:
        before, after = prompts[int(numbers[i])], prompts[i]
        same = len(tokens.split(before)) == len(tokens.split(after))
        align = alignment.replace if method == "replace" or (method is None and same) else alignment.refine
        mapper[i], taken[i] = align(tokens, before, after)
        end[i] = times.get(OTHERS, 0.0)
    for i, first, count, value in _places(tokens, prompts, edits, weights or {}):
        weight[i, first : first + count] = value
    for i, first, count, value in _places(tokens, prompts, edits, {w: e for w, e in times.items() if w != OTHERS}):
        end[i, first : first + count] = value
    fields = dict(source=numbers, mapper=mapper, taken=taken, weight=weight, until=end, self_until=self_end)
    return PromptToPrompt(**{name: jnp.asarray(array) for name, array in fields.items()})  # pyright: ignore


def tokens_of_words(tokens: Split, prompts: Sequence[str], words: Sequence[str]) -> Array:
    """The tokens of some words in each of B prompts, bool [B, M], as `constraints.LocalBlend` takes them.

    Raises:
      ValueError: no prompt has one of the words.
    """
    chosen = np.zeros((len(prompts), tokens.length), bool)
    for i, first, count, _ in _places(tokens, prompts, range(len(prompts)), dict.fromkeys(words)):
        chosen[i, first : first + count] = True
    return jnp.asarray(chosen)


def _places(tokens: Split, prompts: Sequence[str], among: Iterable[int], values: Mapping) -> Iterator[tuple]:
    """(prompt, first token, number of tokens, value) wherever one of the prompts has one of the words."""
    inside = {i: alignment.spans(tokens, prompts[i])[1:-2] for i in among} if values else {}
    for word, value in values.items():
        found = [(i, s) for i, of in inside.items() for s in of if s.word == word.lower()]
        if not found:
            words = sorted({s.word for of in inside.values() for s in of})
            raise ValueError(f"none of the prompts has the word {word!r}; their words are {words}")
        yield from ((i, s.first, s.count, value) for i, s in found)


def _check(prompts: Any, source: Any, method: Any) -> np.ndarray:
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts):
        raise TypeError(f"expected a list of prompts, got {prompts!r}")
    numbers = np.asarray(source)
    if numbers.shape != (len(prompts),) or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"source must be one integer for each of the {len(prompts)} prompts, got {source!r}")
    if not len(prompts) or numbers.min() < 0 or numbers.max() >= len(prompts):
        raise ValueError(f"source must count into the {len(prompts)} prompts, from 0, got {source!r}")
    if (numbers[numbers] != numbers).any():
        raise ValueError(f"the source of an edit is no edit itself, got {source!r}: give its own source")
    if method not in (None, "replace", "refine"):
        raise ValueError(f'method is "replace", "refine" or None, got {method!r}')
    return numbers.astype(np.int32)

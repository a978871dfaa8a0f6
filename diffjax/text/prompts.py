r"""Prompts of any length, with weights: texts -> rows of tokens for CLIP's text encoder, and a weight for each token.

    (word)  (word:1.3)  [word]      weight 1.1, 1.3, 1/1.1; brackets may be nested, and the weights are multiplied
    \(  \)  \[  \]  \\              the mark itself
    BREAK                           what follows begins a new chunk

A chunk is what the encoder reads at once: 75 tokens between start and end, padded. The states of a prompt's chunks are
concatenated along the tokens, [chunks * 77, D], and cross-attention takes them as they are:

    tokenizer = load_tokenizer("stable-diffusion-v1-5/tokenizer")
    prompt = chunk_prompts(tokenizer, ["a (red:1.3) fox", "blurry"])         # [2, 1, 77]
    states = encoder(prompt.ids.reshape(-1, 77)).reshape(2, -1, 77, D)       # [2, 1, 77, D]
    context = weigh(states, prompt.weights).reshape(2, -1, D)                # [2, 77, D]

The grammar and the weighting are those of AUTOMATIC1111/stable-diffusion-webui (modules/prompt_parser.py,
sd_hijack_clip.py, sd_emphasis.py), so that its prompts keep their meaning. There is no standard: Compel and ComfyUI
weigh otherwise. Nothing is an error in this grammar. A bracket that closes none is taken as it is written, and so is a
weight that is no number: "(word:abc)" is the text "word:abc" with weight 1.1. A bracket that is never closed counts up
to the end of the prompt, and a UserWarning says so, as it does of what the webui reads as commands and is text here:
<lora:name:1>, [from:to:0.5], [to:0.5], [a|b] and AND.

Three things differ from the webui: a backslash before anything else stays; a long prompt is cut between words, where
the webui looks for a comma among the last 20 tokens and otherwise cuts words too; BREAK works inside of brackets.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.text.clip_bpe import Tokenizer, check_texts

UP = 1.1  # the weight of (word); [word] has its inverse
LATE = 25  # a chunk is cut at white space if there is some among its last tokens
MARKS = re.compile(r"\\[()\[\]\\]|[(\[\])]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[^\\()\[\]:]+|.", re.DOTALL)
BREAK = re.compile(r"\s*\bBREAK\b\s*")
FOREIGN = {  # what the webui acts on before it reads weights, and is text here: kind -> its form
    "files named in a prompt, such as `add_lora` merges": re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>"),
    "prompts that change from step to step": re.compile(r"(?<!\\)\[[^\[\]]*(?:\|[^\[\]]*|:\s*[\d.]+\s*)\]"),
    "prompts joined by AND": re.compile(r"\bAND\b"),
}

Part = tuple[str, float]  # a text and its weight


class Prompt(NamedTuple):
    """A prompt, or B of them, as chunks of T tokens (77).

    Attributes:
      ids: int32 [chunks, T] or [B, chunks, T], each row framed by start and end, and padded.
      weights: float32 of that shape, 1 on start, end and padding.
    """

    ids: np.ndarray
    weights: np.ndarray


class _Token(NamedTuple):
    id: int
    weight: float
    before: int  # what lies before it: 0 the inside of a word, 1 another word, 2 white space


def parse_prompt(text: str) -> list[list[Part]]:
    """The sections between BREAKs, each a list of texts with their weights; neighbours have different weights.

    >>> parse_prompt("a (red (fox:1.5)) BREAK [sky]")
    [[("a ", 1.0), ("red ", 1.1), ("fox", 1.65)], [("sky", 0.909)]]    # rounded

    Raises:
      TypeError: it is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a prompt, got {text!r}")
    parts: list[tuple[str | None, float]] = []  # None is a BREAK
    opened: dict[str, list[int]] = {"(": [], "[": []}

    def close(bracket: str, weight: float) -> None:
        at = opened[bracket].pop()
        parts[at:] = [(words, old * weight) for words, old in parts[at:]]

    for match in MARKS.finditer(text):
        mark, weight = match[0], match[1]
        if mark in opened:
            opened[mark].append(len(parts))
        elif weight is not None and opened["("]:
            close("(", float(weight))
        elif mark == ")" and opened["("]:
            close("(", UP)
        elif mark == "]" and opened["["]:
            close("[", 1 / UP)
        elif mark[0] == "\\" and len(mark) == 2:
            parts.append((mark[1], 1.0))
        else:
            first, *rest = BREAK.split(mark)
            parts.append((first, 1.0))
            for words in rest:
                parts.extend([(None, 1.0), (words, 1.0)])
    _close_all(text, opened, close)
    for what, form in FOREIGN.items():
        if found := form.search(text):
            warnings.warn(f"{found[0][:60]!r} is read as text: {what} are not known here", stacklevel=2)
    return _sections(parts)


def chunk_prompt(tokenizer: Tokenizer, text: str, *, weighted: bool = True) -> Prompt:
    """A prompt -> `Prompt` [chunks, T]: as many chunks as it takes, at least one.

    A chunk ends at white space if there is some among its last 25 tokens, otherwise between words or marks, and inside
    of a word only where that is longer than a chunk. A prompt that fits into one chunk, without brackets, backslashes
    and BREAK, has the ids that `Tokenizer.tokenize` gives it. As in the webui, a BREAK at the very beginning, or two of
    them in a row, make an empty chunk.

    Args:
      weighted: false takes brackets, backslashes and BREAK as they are written, all with weight 1.

    Raises:
      TypeError: `text` is no string.
      ValueError: it is no valid Unicode.
    """
    sections = parse_prompt(text) if weighted else [[(check_texts([text])[0], 1.0)]]
    room = tokenizer.length - 2
    chunks: list[list[_Token]] = []
    for section in sections:
        tokens = _tokens(tokenizer, section)
        while len(tokens) > room:
            cut = _cut([token.before for token in tokens], room)
            chunks.append(tokens[:cut])
            tokens = tokens[cut:]
        chunks.append(tokens)
    if len(chunks) > 1 and not chunks[-1]:  # nothing after the last BREAK
        chunks.pop()
    return _frame(tokenizer, chunks)


def chunk_prompts(tokenizer: Tokenizer, texts: Sequence[str], *, min_chunks: int = 1, weighted: bool = True) -> Prompt:
    """B prompts -> `Prompt` [B, chunks, T]; the shorter ones, the negative one say, are completed by empty chunks.

    Args:
      min_chunks: have at least so many chunks, to use a program again that was compiled for them.
      weighted: as in `chunk_prompt`.

    Raises:
      TypeError: `texts` is a single string, or holds something else.
      ValueError: there is none, or one is no valid Unicode.
    """
    prompts = [chunk_prompt(tokenizer, text, weighted=weighted) for text in check_texts(texts)]
    if not prompts:
        raise ValueError("expected at least one prompt, got none")
    count = max(min_chunks, *(len(prompt.ids) for prompt in prompts))
    empty = _frame(tokenizer, [[]] * count)
    full = [[np.concatenate([a, b[len(a) :]]) for a, b in zip(p, empty, strict=True)] for p in prompts]
    return Prompt(*(np.stack(arrays) for arrays in zip(*full, strict=True)))


def weigh(states: Array | np.ndarray, weights: Array | np.ndarray, *, restore_mean: bool = True) -> Array:
    """Encoder states times the weights of their tokens, with the mean that they had before:

        y = w x,      result = y mean(x) / mean(y)                                                       (1)

    the webui's rule "Original" (sd_emphasis.py). The means are over the T tokens and D channels of each chunk, computed
    in float32 at least. Weights of 1 leave the states as they are; otherwise tokens of weight 1 are scaled as well.

    Args:
      states: [..., T, D], before chunks are concatenated.
      weights: [..., T].
      restore_mean: false is the webui's rule "No norm", y itself, which is said to suit Stable Diffusion XL better.

    Returns:
      [..., T, D] in the type of `states`.

    Raises:
      ValueError: the shapes do not fit.
    """
    if np.ndim(states) < 2 or np.shape(weights) != np.shape(states)[:-1]:
        raise ValueError(
            f"states [..., T, D] need weights [..., T], got {list(np.shape(states))} and {list(np.shape(weights))}"
        )
    x = jnp.asarray(states)
    dtype = x.dtype
    x = x.astype(jnp.promote_types(dtype, jnp.float32))
    y = x * jnp.asarray(weights, x.dtype)[..., None]
    if restore_mean:
        before, after = (z.mean((-2, -1), keepdims=True) for z in (x, y))
        y = y * jnp.where(after == 0, 1, before / jnp.where(after == 0, 1, after))
    return y.astype(dtype)


def _close_all(text: str, opened: dict[str, list[int]], close) -> None:
    for bracket, weight in (("(", UP), ("[", 1 / UP)):
        if count := len(opened[bracket]):
            warnings.warn(
                f"{count} {bracket!r} of the prompt {text[:200]!r} are never closed, and so weigh all that follows; "
                f"write \\{bracket} for the mark itself",
                stacklevel=3,
            )
        for _ in range(count):
            close(bracket, weight)


def _sections(parts: list[tuple[str | None, float]]) -> list[list[Part]]:
    """Cut at the BREAKs, without empty texts; neighbours of one weight become one text, so that "a\\(b" is one."""
    sections: list[list[Part]] = [[]]
    for words, weight in parts:
        section = sections[-1]
        if words is None:
            sections.append([])
        elif section and section[-1][1] == weight:
            section[-1] = (section[-1][0] + words, weight)
        elif words:
            section.append((words, weight))
    return sections


def _tokens(tokenizer: Tokenizer, section: list[Part]) -> list[_Token]:
    tokens: list[_Token] = []
    spaced = True  # whether white space comes before this part
    for text, weight in section:
        for word in tokenizer.words(text):
            first = 2 if word.spaced and (word.start > 0 or spaced) else 1
            tokens += [_Token(n, weight, 0 if i else first) for i, n in enumerate(word.ids)]
        spaced = text[-1].isspace()
    return tokens


def _cut(before: list[int], room: int) -> int:
    """The number of tokens of the next chunk, of more than there is room for."""
    late = [i for i in range(max(1, room + 1 - LATE), room + 1) if before[i] == 2]
    words = [i for i in range(1, room + 1) if before[i] > 0]
    return (late or words or [room])[-1]


def _frame(tokenizer: Tokenizer, chunks: Sequence[Sequence[_Token]]) -> Prompt:
    ids = np.full((len(chunks), tokenizer.length), tokenizer.pad, np.int32)
    weights = np.ones((len(chunks), tokenizer.length), np.float32)
    for i, chunk in enumerate(chunks):
        ids[i, : len(chunk) + 2] = [tokenizer.start, *(token.id for token in chunk), tokenizer.end]
        weights[i, 1 : len(chunk) + 1] = [token.weight for token in chunk]
    return Prompt(ids, weights)

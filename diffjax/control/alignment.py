"""Which tokens of one prompt stand for which of another: the mappers of Prompt-to-Prompt (Hertz et al. 2023).

A prompt is its words, each with its number of tokens, between a start and an end, and padding behind. The words of two
prompts are matched, and then their tokens: a word of as many tokens as its match takes them one by one, any other takes
the sum of all of them, in equal parts. Padding is matched with padding, so that no attention is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Split(Protocol):
    """What knows the words of a text: `TextStates`, and CLIP's `Tokenizer`."""

    length: int  # of a row of tokens, start and end among them

    def split(self, text: str) -> list[tuple[str, int]]:
        """The words of a text in order, each with its number of tokens."""
        ...


class Span(NamedTuple):
    """The tokens [first, first + count) of a word, in small letters, of the start, the end or the padding."""

    word: str
    first: int
    count: int


START, END, PADDING = "<start>", "<end>", "<padding>"


def spans(tokens: Split, text: str) -> list[Span]:
    """The spans of a text, which fill a row: start, words, end, padding (of 0 tokens, perhaps).

    Raises:
      ValueError: the text has more tokens than a row.
    """
    found, first = [Span(START, 0, 1)], 1
    for word, count in tokens.split(text):
        found.append(Span(word.lower(), first, count))
        first += count
    if first + 1 > tokens.length:
        raise ValueError(f"{text!r} has {first + 1} tokens, of which {tokens.length} are read: shorten it")
    return [*found, Span(END, first, 1), Span(PADDING, first + 1, tokens.length - first - 1)]


def replace(tokens: Split, source: str, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Word i of the text takes the attention of word i of the source (the paper's word swap).

    Returns:
      mapper [M, M], whose entry (m, j) is what token j takes of the source's token m, and all True [M].

    Raises:
      ValueError: the two have different numbers of words, or more tokens than a row.
    """
    a, b = spans(tokens, source), spans(tokens, text)
    if len(a) != len(b):
        raise ValueError(
            f'"replace" swaps word for word, but {source!r} has {len(a) - 3} words and {text!r} has {len(b) - 3}: take '
            'method "refine"'
        )
    return _mapper(tokens.length, list(zip(a, b, strict=True))), np.ones(tokens.length, bool)


def refine(tokens: Split, source: str, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Words that both have keep the source's attention, new ones their own (the paper's refinement).

    Returns:
      mapper [M, M] as of `replace`, and which tokens of the text take from it, bool [M].

    Raises:
      ValueError: one of them has more tokens than a row.
    """
    a, b = spans(tokens, source), spans(tokens, text)
    inside = _common([s.word for s in a[1:-2]], [s.word for s in b[1:-2]])
    pairs = [(a[0], b[0]), *((a[i + 1], b[j + 1]) for i, j in inside), (a[-2], b[-2]), (a[-1], b[-1])]
    taken = np.zeros(tokens.length, bool)
    for _, span in pairs:
        taken[span.first : span.first + span.count] = True
    return _mapper(tokens.length, pairs), taken


def _mapper(length: int, pairs: Sequence[tuple[Span, Span]]) -> np.ndarray:
    mapper = np.zeros((length, length), np.float32)
    for a, b in pairs:
        block = np.eye(a.count) if a.count == b.count else np.full((a.count, b.count), 1 / max(b.count, 1))
        mapper[a.first : a.first + a.count, b.first : b.first + b.count] = block
    return mapper


def _common(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """The places (i, j) of equal words in the best alignment (Needleman & Wunsch 1970): match 1, mismatch -1, gap 0."""
    score = np.zeros((len(a) + 1, len(b) + 1), int)
    for i in range(len(a)):
        for j in range(len(b)):
            score[i + 1, j + 1] = max(score[i, j] + (1 if a[i] == b[j] else -1), score[i, j + 1], score[i + 1, j])
    places, i, j = [], len(a), len(b)
    while i and j:
        if a[i - 1] == b[j - 1] and score[i, j] == score[i - 1, j - 1] + 1:
            i, j = i - 1, j - 1
            places.append((i, j))
        elif score[i, j] == score[i, j - 1]:
            j -= 1
        else:  # never a mismatch, which is worse than two gaps
            i -= 1
    return places[::-1]

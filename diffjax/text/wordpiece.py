"""WordPiece, BERT's tokenizer for lower-case text: texts -> rows of integers.

    clean       control characters go, but tabs and line breaks become spaces; spaces around each Chinese character
    lower       accents go (NFD without the marks Mn), letters become small
    split       at white space; each punctuation mark is a word
    pieces      a word is cut from the left into the longest pieces in the vocabulary, those inside it marked "##";
                a word that cannot be cut so, or of more than 100 letters, is one [UNK]
    frame       [CLS] pieces [SEP] [PAD] ... [PAD]

Sources: Wu et al. (2016), sec. 4.1; Devlin et al. (2019) and google-research/bert, tokenization.py. Special tokens are
not recognised inside a text: "[SEP]" there is three words.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

LONGEST_WORD = 100
CHINESE = (  # the ideographs, and no other script of China, Japan and Korea
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


class Tokens(NamedTuple):
    """B texts of at most T tokens.

    Attributes:
      ids: int32 [B, T].
      mask: bool [B, T], false on padding.
    """

    ids: np.ndarray
    mask: np.ndarray


def tokenize(vocab: Mapping[str, int], texts: Sequence[str], length: int = 32) -> Tokens:
    """Texts -> `Tokens` of T = `length`; what is longer loses its end.

    Raises:
      TypeError: `texts` is a single string.
      ValueError: `length` leaves no room for [CLS] and [SEP].
    """
    if isinstance(texts, str):
        raise TypeError("expected a list of texts, got one string; write [text]")
    if length < 2:
        raise ValueError(f"length must be 2 or more, for [CLS] and [SEP]; got {length}")
    ids = np.full((len(texts), length), vocab["[PAD]"], np.int32)
    mask = np.zeros((len(texts), length), bool)
    for i, text in enumerate(texts):
        inside = [piece for word in words(text) for piece in pieces(vocab, word)][: length - 2]
        row = [vocab[piece] for piece in ("[CLS]", *inside, "[SEP]")]
        ids[i, : len(row)] = row
        mask[i, : len(row)] = True
    return Tokens(ids, mask)


def words(text: str) -> list[str]:
    """The words and punctuation marks of a text, in small letters without accents."""
    clean = "".join(_spaced(c) for c in text)
    bare = (c for c in unicodedata.normalize("NFD", clean) if unicodedata.category(c) != "Mn")
    lower = "".join(c.lower() for c in bare)
    return "".join(f" {c} " if _is_punctuation(c) else c for c in lower).split()  # at all other white space too


def pieces(vocab: Mapping[str, int], word: str) -> list[str]:
    """A word in the longest pieces that the vocabulary has, or ["[UNK]"]."""
    found, start = [], 0
    if len(word) > LONGEST_WORD:
        return ["[UNK]"]
    while start < len(word):
        mark = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if mark + word[start:end] in vocab), None)
        if end is None:
            return ["[UNK]"]
        found.append(mark + word[start:end])
        start = end
    return found


def _spaced(c: str) -> str:
    if c in "\t\n\r":
        return " "
    if c == "\ufffd" or unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs"):
        return ""
    return f" {c} " if any(low <= ord(c) <= high for low, high in CHINESE) else c


def _is_punctuation(c: str) -> bool:
    return c in string.punctuation or unicodedata.category(c).startswith("P")

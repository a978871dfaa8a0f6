"""WordPiece on a small vocabulary: what BERT's tokenizer does, case by case."""

import numpy as np
import pytest

from diffjax.text.wordpiece import LONGEST_WORD, pieces, tokenize, words

VOCAB = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "un",
    "##want",
    "##ed",
    "want",
    "##w",
    "##a",
    "run",
    "##ning",
    ",",
    "x",
    "##x",
]
IDS = {piece: i for i, piece in enumerate(VOCAB)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A red  car.", ["a", "red", "car", "."]),
        ("don't stop-\tnow\u00a0ok", ["don", "'", "t", "stop", "-", "now", "ok"]),
        ("Ünïcödé “Ça”", ["unicode", "“", "ca", "”"]),
        ("e\u0301t\u200be\u0000\ufffd", ["ete"]),  # a combining accent, a zero-width space, a null
        ("ab\x0bc\r\nd", ["abc", "d"]),
        ("中文abc", ["中", "文", "abc"]),
        ("한", ["\u1112\u1161\u11ab"]),  # NFD takes a syllable apart
        ("Σας İ $5^2", ["σας", "i", "$", "5", "^", "2"]),
        (" \n ", []),
        ("[SEP]", ["[", "sep", "]"]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("want", ["want"]),
        ("unwanted", ["un", "##want", "##ed"]),  # the longest piece first: not ##w ##a
        ("unwa", ["un", "##w", "##a"]),
        ("running", ["run", "##ning"]),
        ("wanting", ["[UNK]"]),  # a word that cannot be cut to its end is unknown as a whole
        ("ed", ["[UNK]"]),  # only known inside a word
        ("x" * LONGEST_WORD, ["x"] + ["##x"] * (LONGEST_WORD - 1)),
        ("x" * (LONGEST_WORD + 1), ["[UNK]"]),
    ],
)
def test_pieces(word, expected):
    assert pieces(IDS, word) == expected


def test_frame():
    ids, mask = tokenize(IDS, ["Unwanted, run", "", "run run run run run run", "?"], length=6)
    assert ids.dtype == np.int32 and mask.dtype == bool
    assert [[VOCAB[i] for i in row] for row in ids] == [
        ["[CLS]", "un", "##want", "##ed", ",", "[SEP]"],
        ["[CLS]", "[SEP]", "[PAD]", "[PAD]", "[PAD]", "[PAD]"],
        ["[CLS]", "run", "run", "run", "run", "[SEP]"],
        ["[CLS]", "[UNK]", "[SEP]", "[PAD]", "[PAD]", "[PAD]"],
    ]
    np.testing.assert_array_equal(mask.sum(1), [6, 2, 6, 3])
    np.testing.assert_array_equal(mask, ids != IDS["[PAD]"])
    assert tokenize(IDS, []).ids.shape == (0, 32)


def test_errors():
    with pytest.raises(TypeError, match=r"\[text\]"):
        tokenize(IDS, "run")
    with pytest.raises(ValueError, match="2 or more"):
        tokenize(IDS, ["run"], length=1)

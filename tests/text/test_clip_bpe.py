"""CLIP's tokenizer: on a small vocabulary against byte pairs as defined, and on the real one against transformers."""

import dataclasses
import itertools
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from clip_folders import LETTERS, completed, old_folder, original, steps

from diffjax.data import packages
from diffjax.text import CLIP_VOCABULARY, Tokenizer, load_tokenizer

PAIRS = "a t</w>|c at</w>|r e|re d</w>|l o|lo w</w>|e r</w>|w er</w>|lo wer</w>|' t</w>|Ã ©</w>|! !</w>|! !!</w>"
TINY = [tuple(pair.split()) for pair in PAIRS.split("|")]
END, START = 513 + len(TINY), 512 + len(TINY)
ID = {a + b: 512 + i for i, (a, b) in enumerate(TINY)}
FIXTURE = json.loads(Path(__file__).with_name("clip_ids.json").read_text())


def byte(letter, ends=True):
    return LETTERS.index(letter) + 256 * ends


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_tokenizer(old_folder(tmp_path_factory.mktemp("clip") / "tiny", TINY))


@pytest.fixture(scope="module")
def reduced(tmp_path_factory):
    """The folder of all 49,408 tokens, without the merges that the texts of the fixture do not use."""
    return old_folder(tmp_path_factory.mktemp("clip") / "reduced", completed(FIXTURE["merges"]), pad="!")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", [ID["cat</w>"]]),
        ("  CAT\u3000\n", [ID["cat</w>"]]),
        ("cat's", [ID["cat</w>"], byte("'", False), byte("s")]),  # 's is a word, which no merge joins here
        ("red't", [ID["red</w>"], ID["'t</w>"]]),
        ("lower", [ID["lower</w>"]]),  # lo, er, wer, lower
        ("12", [byte("1"), byte("2")]),
        ("!!!", [ID["!!!</w>"]]),
        ("e\u0301", [ID["Ã©</w>"]]),
        ("É", [ID["Ã©</w>"]]),
        ("<|startoftext|>cat<|ENDOFTEXT|>", [START, ID["cat</w>"], END]),
        ("", []),
    ],
)
def test_words_and_bytes(tiny, text, expected):
    assert tiny.encode(text) == expected


def test_merges_are_taken_in_their_order(tiny):
    """Every fifth word of five of the letters, against the definition."""
    ranks = {pair: i for i, pair in enumerate(TINY)}
    ids = ID | {c: byte(c, False) for c in LETTERS} | {c + "</w>": byte(c) for c in LETTERS}
    found = 0
    for word in itertools.islice(itertools.product("catrelow", repeat=5), 0, None, 5):
        made, parts = steps(word, ranks)
        assert tiny.encode("".join(word)) == [ids[part] for part in parts], word
        found += len(made) > 1
    assert found > 40


def test_frame_and_padding(tiny):
    ids, mask = tiny.tokenize(["cat red", ""], length=5)
    assert ids.dtype == np.int32 and mask.dtype == bool
    np.testing.assert_array_equal(ids, [[START, ID["cat</w>"], ID["red</w>"], END, END], [START, END, END, END, END]])
    np.testing.assert_array_equal(mask, [[True] * 4 + [False], [True] * 2 + [False] * 3])
    np.testing.assert_array_equal(dataclasses.replace(tiny, pad=0)(["cat"])[0, :5], [START, ID["cat</w>"], END, 0, 0])
    assert tiny(["cat"] * 3).shape == (3, 77) and tiny([]).shape == (0, 77)
    assert tiny(("cat",)).shape == (1, 77)


def test_a_long_text_loses_its_end_and_says_what(tiny):
    with pytest.warns(
        UserWarning, match=r"text 1 has 4 tokens, and there is room for 3: cut off is 'low'.*chunk_prompts"
    ):
        ids = tiny.tokenize(["cat", "Red cat  red low"], length=5).ids
    np.testing.assert_array_equal(ids[1], [START, ID["red</w>"], ID["cat</w>"], ID["red</w>"], END])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny.tokenize(["cat red low"], length=5)


def test_decode(tiny):
    row = tiny.tokenize(["A red CAT: é 漢字, lower!!!"], length=20).ids[0]
    assert tiny.decode(row).startswith("<|startoftext|> a red cat : é 漢字 , lower !!! <|endoftext|>")
    for bad in (len(tiny), -1):
        with pytest.raises(ValueError, match=f"no token {bad}: the vocabulary has {len(tiny)}"):
            tiny.decode([bad])


def test_tokens_are_added_in_place(tiny):
    n = len(tiny)
    more = tiny.with_tokens({"<cat-toy>": 3, "zwx": 1})
    assert len(more) == n + 4 and len(tiny) == n
    toy, zwx, cat = [n, n + 1, n + 2], [n + 3], [ID["cat</w>"]]
    assert more.encode("a <cat-toy> cat") == [byte("a"), *toy, *cat]
    assert more.encode("cat<CAT-toy>cat,zwx!") == [*cat, *toy, *cat, byte(","), *zwx, byte("!")]
    assert more.encode("zwx's") == [*zwx, byte("'", False), byte("s")]
    for word in ("zwxs", "azwx", "zwx_", "1zwx"):  # inside of a longer word
        assert more.encode(word) == tiny.encode(word)
    assert more.encode("<cat-toy>_1") == [n + 1]
    assert more.decode([*toy, *cat]) == "<cat-toy> <cat-toy>_1 <cat-toy>_2 cat"
    again = more.with_tokens({"<b>": 1})
    assert again.encode("<b> <cat-toy>") == [n + 4, *toy]
    assert "<cat-toy>" in repr(again)


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ({"cat": 1}, ValueError, "'cat' is a token already: choose another name"),
        ({"re": 1}, ValueError, "'re' is a token already"),  # it is one inside of words
        ({"é": 1}, ValueError, "is a token already"),
        ({"<|endoftext|>": 1}, ValueError, "is a token already"),
        ({"<t>": 1}, ValueError, "'<t>' is a token already"),
        ({"<T>": 1}, ValueError, "'<T>' is a token already"),
        ({"<t>_1": 1}, ValueError, "'<t>_1' is a token already"),
        ({"<a>_1": 1, "<a>": 2}, ValueError, "'<a>_1' is a token already"),
        ({"two words": 1}, ValueError, "without white space"),
        ({"": 1}, ValueError, "without white space"),
        ({"<a>": 0}, ValueError, "1 to 75 ids, got 0"),
        ({"<a>": 76}, ValueError, "1 to 75 ids, got 76"),
        ({"<a>": 1.0}, TypeError, "numbers of ids, got '<a>': 1.0"),
        ({"<a>": True}, TypeError, "numbers of ids"),
        ({1: 1}, TypeError, "numbers of ids"),
        (["<a>"], TypeError, "expected a dict"),
    ],
)
def test_tokens_that_cannot_be_added(tiny, tokens, error, message):
    with pytest.raises(error, match=message):
        tiny.with_tokens({"<t>": 2}).with_tokens(tokens)


def test_errors(tiny):
    with pytest.raises(TypeError, match=r"write \[text\]"):
        tiny("cat")
    with pytest.raises(TypeError, match="text 1 must be a string, got None"):
        tiny(["cat", None])
    with pytest.raises(TypeError, match="expected a text"):
        tiny.encode(b"cat")
    with pytest.raises(ValueError, match="half of a surrogate pair, at 4"):
        tiny(["cat \ud83d"])
    for length in (2, 0, -1):
        with pytest.raises(ValueError, match=f"3 or more.*got {length}"):
            tiny.tokenize(["cat"], length=length)
    with pytest.raises(TypeError, match="length must be an integer"):
        tiny.tokenize(["cat"], length=7.5)
    with pytest.raises(ValueError, match=f"pad must be one of the {len(tiny)} tokens, got {len(tiny)}"):
        dataclasses.replace(tiny, pad=len(tiny))
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny.pad = 0


def test_copies_and_printing(tiny):
    more = tiny.with_tokens({"<t>": 2})
    again = pickle.loads(pickle.dumps(more))
    assert isinstance(again, Tokenizer) and again.encode("a <t>") == more.encode("a <t>")
    assert repr(tiny) == f"Tokenizer({len(tiny)} tokens, start={START}, end={END}, pad={END}, length=77, added=[])"
    assert {more: 1}[more] == 1  # a hash, to be a static argument


def check_fixture(tokenizer):
    for text, ids in zip(FIXTURE["texts"], FIXTURE["ids"], strict=True):
        assert [49406, *tokenizer.encode(text), 49407] == ids, text
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if len(ids) > 77 else "error")
            row = tokenizer([text])[0]
        np.testing.assert_array_equal(row, ([*ids[:-1][:76], 49407] + [tokenizer.pad] * 77)[:77])
    assert tokenizer.encode("a photo of a cat") == [320, 1125, 539, 320, 2368]
    # of transformers 4, of openai/CLIP, and of transformers 5 with Stable Diffusion 2's files
    assert tokenizer.encode("a <|ENDOFTEXT|> cat") == [320, 49407, 2368]


def test_ids_of_transformers(reduced):
    assert len(FIXTURE["texts"]) >= 200
    tokenizer = load_tokenizer(reduced)
    assert (len(tokenizer), tokenizer.start, tokenizer.end, tokenizer.pad) == (49408, 49406, 49407, 0)
    check_fixture(tokenizer)
    assert tokenizer.with_tokens({"<cat-toy>": 2}).encode("a <cat-toy>") == [320, 49408, 49409]


def test_ids_of_transformers_where_padding_is_split_off(reduced):
    tokenizer = load_tokenizer(reduced, split_padding=True)
    assert tokenizer.encode("wow! !! !!!") == [2781, 0, 0, 0, 0, 0, 0]
    split = FIXTURE["ids where ! is padding"]
    for i, ids in split.items():
        assert [49406, *tokenizer.encode(FIXTURE["texts"][int(i)]), 49407] == ids
    assert len(split) > 10


def test_ids_of_transformers_with_the_original_file(tmp_path):
    check_fixture(load_tokenizer(original(tmp_path / "merges.txt.gz", completed(FIXTURE["merges"]))))


def test_ids_of_transformers_with_the_real_vocabulary():
    try:
        path = packages.find(*CLIP_VOCABULARY)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    tokenizer = load_tokenizer(path)
    assert (len(tokenizer), tokenizer.pad) == (49408, 49407)
    check_fixture(tokenizer)

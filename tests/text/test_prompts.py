"""Weights and chunks: the webui's grammar, where chunks end, and the states that are weighed."""

import dataclasses
import itertools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clip_folders import old_folder

from diffjax.text import chunk_prompt, chunk_prompts, load_tokenizer, parse_prompt, weigh

UP, DOWN = 1.1, 1 / 1.1
CAT, DOG, A, COMMA = 513, 515, 320, 267  # the last two are bytes at the end of a word, with CLIP's own ids
MERGES = [("a", "t</w>"), ("c", "at</w>"), ("o", "g</w>"), ("d", "og</w>")]
START, END = 516, 517


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(old_folder(tmp_path_factory.mktemp("clip") / "tiny", MERGES))


@pytest.fixture(scope="module")
def short(tokenizer):
    """Chunks of 8 tokens."""
    return dataclasses.replace(tokenizer, length=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a cat", [("a cat", 1)]),
        ("an (important) word", [("an ", 1), ("important", UP), (" word", 1)]),
        ("[less] (more:1.3)(more: -.5 )", [("less", DOWN), (" ", 1), ("more", 1.3), ("more", -0.5)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", UP)]),
        (r"\(literal\] \\ a\b", [(r"(literal] \ a\b", 1)]),
        ("((a)) [[b]] ([c])", [("a", UP**2), (" ", 1), ("b", DOWN**2), (" c", 1)]),
        ("(a (b:2) c:1.5)", [("a ", 1.5), ("b", 3.0), (" c", 1.5)]),
        ("[a:b:0.5]", [("a:b:0.5", DOWN)]),  # the webui's schedules are no weights
        ("(a:2] b)", [("a:2] b", UP)]),
        ("()(:2)[]x", [("x", 1)]),
        # taken as they are written
        ("(word:abc)", [("word:abc", UP)]),
        ("(word:1.2.3)", [("word:1.2.3", UP)]),
        ("(word:)", [("word:", UP)]),
        ("a) b] c:1.2) :)", [("a) b] c:1.2) :)", 1)]),
    ],
)
def test_weights(text, expected):
    (section,) = parse_prompt(text)
    assert [words for words, _ in section] == [words for words, _ in expected]
    np.testing.assert_allclose([w for _, w in section], [w for _, w in expected], rtol=1e-12)


def test_a_bracket_that_is_never_closed():
    text = "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))."  # the webui's example
    with pytest.warns(UserWarning, match=r"1 '\(' .* never closed.*write \\\("):
        (section,) = parse_prompt(text)
    expected = ["a ", "house", " ", "on", " a ", "hill", ", sun, ", "sky", "."]
    assert [words for words, _ in section] == expected
    weights = [1, 1.573, 1.1, 1, 1.1, 0.55, 1.1, 1.4641, 1.1]
    np.testing.assert_allclose([weight for _, weight in section], weights, rtol=1e-12)
    with pytest.warns(UserWarning, match=r"2 '\['"):
        assert parse_prompt("[[a")[0][0][1] == pytest.approx(DOWN**2)


@pytest.mark.parametrize("command", ["<lora:x:0.8>", "[cat:dog:0.5]", "[dog:5]", "[cat|dog]", "AND"])
def test_what_is_no_text_in_the_webui_is_named(command):
    with pytest.warns(UserWarning, match=re.escape(f"{command!r} is read as text")):
        (section,) = parse_prompt(f"a {command} b")
    assert section[0][0].startswith("a ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_prompt(r"a <b> [c] (d:1.2) \[e:0.5\] and SAND")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a BREAK b", [["a"], ["b"]]),
        ("a\n BREAK\tb BREAK", [["a"], ["b"], []]),
        ("BREAK a BREAK BREAK b", [[], ["a"], [], ["b"]]),
        ("BREAKFAST break aBREAK", [["BREAKFAST break aBREAK"]]),
        ("(a BREAK b:2) c", [["a"], ["b", " c"]]),
        ("a,BREAK", [["a,"], []]),
    ],
)
def test_breaks(text, expected):
    assert [[words for words, _ in section] for section in parse_prompt(text)] == expected


def test_one_chunk(tokenizer):
    text = "a cat, dog!"
    ids, weights = chunk_prompt(tokenizer, text)
    assert ids.dtype == np.int32 and weights.dtype == np.float32
    np.testing.assert_array_equal(ids, tokenizer([text]))
    np.testing.assert_array_equal(weights, np.ones((1, 77)))
    ids, weights = chunk_prompt(tokenizer, "A (cat, dog:1.3)[!]")
    np.testing.assert_array_equal(ids, tokenizer([text]))
    np.testing.assert_allclose(weights[0, :8], [1, 1, 1.3, 1.3, 1.3, DOWN, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(chunk_prompt(tokenizer, "").ids, tokenizer([""]))
    np.testing.assert_array_equal(
        chunk_prompt(tokenizer, "(a:2) BREAK", weighted=False).ids, tokenizer(["(a:2) BREAK"])
    )
    assert (chunk_prompt(tokenizer, "(a:2) BREAK", weighted=False).weights == 1).all()


def rows(prompt):
    """The ids inside of each chunk."""
    assert (prompt.ids[:, 0] == START).all()
    ends = [list(row).index(END) for row in prompt.ids]
    assert all((row[end:] == END).all() for row, end in zip(prompt.ids, ends, strict=True))
    assert all((row[end:] == 1).all() and row[0] == 1 for row, end in zip(prompt.weights, ends, strict=True))
    return [list(row[1:end]) for row, end in zip(prompt.ids, ends, strict=True)]


@pytest.mark.parametrize(("count", "chunks"), [(0, 1), (1, 1), (75, 1), (76, 2), (150, 2), (151, 3)])
def test_number_of_chunks(tokenizer, count, chunks):
    prompt = chunk_prompt(tokenizer, "cat " * count)
    assert prompt.ids.shape == prompt.weights.shape == (chunks, 77)
    assert list(itertools.chain(*rows(prompt))) == [CAT] * count


def test_words_stay_whole(short):
    b = short.encode("bbb")
    assert len(b) == 3
    assert rows(chunk_prompt(short, "bbb bbb bbb a")) == [b + b, [*b, A]]
    assert rows(chunk_prompt(short, "a bbbbbbbb a")) == [[A], short.encode("bbbbbbbb"), [A]]
    nine = short.encode("bbbbbbbbb")  # longer than a chunk
    assert rows(chunk_prompt(short, "bbbbbbbbb")) == [nine[:8], nine[8:]]
    assert rows(chunk_prompt(short, "a bbbbbbbbb")) == [[A], nine[:8], nine[8:]]
    marks = chunk_prompt(short, "cat dog cat dog cat a cat,dog")  # white space rather than before the comma
    assert rows(marks) == [[CAT, DOG, CAT, DOG, CAT, A], [CAT, COMMA, DOG]]
    assert rows(chunk_prompt(short, "cat," * 5)) == [[CAT, COMMA] * 4, [CAT, COMMA]]
    assert rows(chunk_prompt(short, "cat a(cat)" + " a" * 5 + "(a)")) == [[CAT, A, CAT] + [A] * 4, [A, A]]


def test_white_space_only_late_in_a_chunk(tokenizer):
    """A text without spaces, CJK say, fills its chunks."""
    ids = rows(chunk_prompt(tokenizer, "a " + "cat," * 60))
    assert list(map(len, ids)) == [75, 46]


def test_weights_go_with_their_tokens(short):
    ids, weights = chunk_prompt(short, "cat dog a (cat:2) dog (bbb a bbb:0.5) BREAK [a]")
    assert ids.shape == (3, 10)
    np.testing.assert_allclose(weights[0], [1, 1, 1, 1, 2, 1, 0.5, 0.5, 0.5, 1])
    np.testing.assert_allclose(weights[1], [1] + [0.5] * 4 + [1] * 5)
    np.testing.assert_allclose(weights[2], [1, DOWN] + [1] * 8, rtol=1e-6)


def test_added_tokens_stay_together(short):
    more = short.with_tokens({"<t>": 3})
    t = list(range(518, 521))
    assert rows(chunk_prompt(more, "cat " * 6 + "<t> a")) == [[CAT] * 6, [*t, A]]
    ids, weights = chunk_prompt(more, "(<t>:1.5)")
    np.testing.assert_array_equal(ids[0, 1:4], t)
    np.testing.assert_allclose(weights[0, :5], [1, 1.5, 1.5, 1.5, 1])


def test_breaks_begin_chunks(short):
    assert rows(chunk_prompt(short, "cat BREAK dog")) == [[CAT], [DOG]]
    assert rows(chunk_prompt(short, "cat BREAK")) == [[CAT]]
    assert rows(chunk_prompt(short, "BREAK")) == [[]]
    assert rows(chunk_prompt(short, "BREAK cat BREAK BREAK dog")) == [[], [CAT], [], [DOG]]


def test_several_prompts_have_the_same_number_of_chunks(short):
    prompts = chunk_prompts(dataclasses.replace(short, pad=0), ["cat", "dog " * 20, ""])
    assert prompts.ids.shape == prompts.weights.shape == (3, 3, 10)
    assert prompts.ids.dtype == np.int32 and prompts.weights.dtype == np.float32
    np.testing.assert_array_equal(prompts.ids[0, 0], [START, CAT, END, *[0] * 7])
    for row in (prompts.ids[0, 1], prompts.ids[0, 2], prompts.ids[2, 0]):
        np.testing.assert_array_equal(row, [START, END, *[0] * 8])
    assert chunk_prompts(short, ["cat"], min_chunks=4).ids.shape == (1, 4, 10)
    assert chunk_prompts(short, ["(a) BREAK b"], weighted=False).ids.shape == (1, 2, 10)


def test_weigh_restores_the_mean():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2, 3, 7, 5)) + 0.4).astype(np.float32)
    w = rng.uniform(0.5, 1.5, size=(2, 3, 7)).astype(np.float32)
    found = weigh(x, w)
    assert found.shape == x.shape and found.dtype == x.dtype
    for i in range(2):
        for j in range(3):
            y = x[i, j].astype(float) * w[i, j][:, None]
            np.testing.assert_allclose(found[i, j], y * x[i, j].mean() / y.mean(), rtol=1e-4)
    np.testing.assert_allclose(found.mean((-2, -1)), x.mean((-2, -1)), rtol=1e-5)
    np.testing.assert_allclose(weigh(x, w, restore_mean=False), x * w[..., None], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(weigh)(x, w), found, rtol=1e-5)


def test_weigh_leaves_what_has_weight_one():
    x = np.random.default_rng(1).normal(size=(1, 7, 5)).astype(np.float32)
    np.testing.assert_array_equal(weigh(x, np.ones((1, 7))), x)
    np.testing.assert_array_equal(weigh(np.zeros((1, 7, 5)), np.full((1, 7), 2.0)), np.zeros((1, 7, 5)))
    half = jnp.asarray(x, jnp.bfloat16)
    found = weigh(half, np.full((1, 7), 1.5))
    assert found.dtype == jnp.bfloat16  # one weight for all changes nothing
    np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(half, np.float32), rtol=1e-2)


def test_errors(short):
    with pytest.raises(TypeError, match=r"write \[text\]"):
        chunk_prompts(short, "cat")
    with pytest.raises(TypeError, match="text 1 must be a string, got 3"):
        chunk_prompts(short, ["cat", 3])
    with pytest.raises(TypeError, match="expected a prompt"):
        chunk_prompt(short, ["cat"])
    with pytest.raises(ValueError, match="at least one prompt"):
        chunk_prompts(short, [])
    with pytest.raises(ValueError, match=r"got \[2, 7, 5\] and \[2, 5\]"):
        weigh(np.zeros((2, 7, 5)), np.zeros((2, 5)))
    with pytest.raises(ValueError, match=r"weights \[..., T\]"):
        weigh(np.zeros(7), np.zeros(()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chunk_prompt(short, "a ) b ] :) (c:d)")

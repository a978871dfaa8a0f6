"""Tokens of Textual Inversion: where their vectors go, in every layout of files, and the refusals."""

import dataclasses
from pathlib import Path

import hub_folders
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import nn, pipelines
from diffjax.formats.tensors import read_tensors, write_tensors
from diffjax.pipelines import loading
from diffjax.pretrained import stable_diffusion as sd
from diffjax.text import load_tokenizer

RNG = np.random.default_rng(0)
END, START = hub_folders.VOCABULARY - 1, hub_folders.VOCABULARY - 2


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "tokenizer"
    hub_folders.write_tokenizer(path)
    return load_tokenizer(path)


def made(tokenizer, xl=False, dtype=jnp.float32):
    """A pipeline without files; no network of it is compiled here."""
    schedule = sd.schedule_from_config(loading.PUBLISHED | loading.OF_OTHERS)
    parts = hub_folders.parts(xl)
    model = loading.latent_model(parts["unet"], parts["vae"], schedule, (64, 64), dtype)
    count = 2 if xl else 1
    return loading._assembled(model, parts, (tokenizer,) * count, schedule, True, dtype)


@pytest.fixture(scope="module")
def pipe(tokenizer):
    return made(tokenizer)


def vectors(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def write(path, **tensors):
    write_tensors(path, {name: np.asarray(x) for name, x in tensors.items()})
    return path


def rows(pipe, tower=0):
    return np.asarray(pipe.towers[tower].params["params"]["tokens"]["embedding"])


def test_a_token_of_three_vectors_stands_for_three_ids(pipe, tmp_path):
    """One that a text has behind it, in capitals too; the tower's other rows and its width stay."""
    x = vectors(3, 8)
    own = pipelines.add_textual_inversion(pipe, write(tmp_path / "a.safetensors", **{"<cat-toy>": x}))
    first = hub_folders.VOCABULARY
    mark = own.tokenizers[0].encode("!")
    assert own.tokenizers[0](["<CAT-toy>!"])[0, :6].tolist() == [START, first, first + 1, first + 2, *mark, END]
    assert own.towers[0].net == pipe.towers[0].net.clone(vocabulary=first + 3)
    np.testing.assert_array_equal(rows(own)[first:], x)
    np.testing.assert_array_equal(rows(own)[:first], rows(pipe))
    assert len(rows(pipe)) == len(pipe.tokenizers[0]) == first  # the old pipeline is as it was
    one = pipelines.add_textual_inversion(own, write(tmp_path / "ink.safetensors", emb_params=x[0]))
    assert list(one.tokenizers[0].added) == ["<cat-toy>", "ink"]  # a webui's file has its name
    np.testing.assert_array_equal(rows(one)[first + 3 :], x[:1])
    two = pipelines.add_textual_inversion(one, tmp_path / "ink.safetensors", "<b>")
    assert two.tokenizers[0].encode("<b>") == [first + 4]


@pytest.mark.slow
def test_the_states_are_those_of_diffusers(pipe, tmp_path):
    arrays = read_tensors(Path(__file__).with_name("variants.safetensors"))
    file = write(tmp_path / "a.safetensors", **{"<cat-toy>": np.asarray(arrays["in/toy"], np.float32)})
    own = pipelines.add_textual_inversion(pipe, file)
    states = own.encode(["a <cat-toy>, red", "a Fox"]).cond["context"]
    np.testing.assert_allclose(states, arrays["states"], atol=1e-5)


@pytest.mark.slow
def test_a_token_with_a_word_s_vector_is_that_word(pipe, tmp_path):
    letter = pipe.tokenizers[0].encode("q")[0]
    file = write(tmp_path / "a.safetensors", **{"<q>": rows(pipe)[letter]})
    own = pipelines.add_textual_inversion(pipe, file)
    np.testing.assert_allclose(*(own.encode([f"a {word} b"]).cond["context"] for word in ("q", "<q>")), atol=1e-6)


def test_xl_has_a_pair(tokenizer, tmp_path):
    pipe = made(tokenizer, xl=True, dtype=jnp.bfloat16)
    left, right = vectors(2, 8), vectors(2, 8)
    file = write(tmp_path / "s.safetensors", clip_l=left, clip_g=right)
    own = pipelines.add_textual_inversion(pipe, file, "<s>")
    for i, x in enumerate((left, right)):
        np.testing.assert_array_equal(rows(own, i)[hub_folders.VOCABULARY :], x.astype(jnp.bfloat16))
        assert own.tokenizers[i].encode("<s>") == [hub_folders.VOCABULARY, hub_folders.VOCABULARY + 1]
    refiner = dataclasses.replace(pipe, towers=pipe.towers[1:], tokenizers=pipe.tokenizers[1:])
    own = pipelines.add_textual_inversion(refiner, file, "<s>")
    np.testing.assert_array_equal(rows(own)[hub_folders.VOCABULARY :], right.astype(jnp.bfloat16))
    assert own.notes[-1].endswith("'clip_l' is for a text tower that this model does not have")
    for tensors, message in (
        (dict(clip_l=left), "has 'clip_l', but .* need 'clip_l' and 'clip_g'"),
        (dict(clip_l=left, clip_g=right[:1]), "has 1 vectors for one tower, but 2 for the other"),
        ({"<s>": left}, "has one tensor, but .* need 'clip_l' and 'clip_g'"),
    ):
        with pytest.raises(ValueError, match=message):
            pipelines.add_textual_inversion(pipe, write(tmp_path / "s.safetensors", **tensors))


def test_what_is_no_token_here_is_refused(pipe, tmp_path):
    x, file = vectors(1, 8), tmp_path / "a.safetensors"
    for tensors, message in (
        ({"<a>": vectors(2, 768)}, "768 channels, but a text tower here has 8: it is for Stable Diffusion 1"),
        ({"<a>": vectors(2, 9)}, "9 channels, but a text tower here has 8$"),
        (dict(clip_l=x, clip_g=x), "has 'clip_g' and 'clip_l', but this model's text towers need one tensor"),
        ({"q": x}, "'q' is a token already: choose another name .`token`"),
        ({"<a>": x, "<b>": x}, "no file of Textual Inversion: it holds '<a>', '<b>'; known are"),
        (dict(clip_l=x, other=x), "no file of Textual Inversion: it holds 'clip_l', 'other'"),
        ({}, "it holds no tensor"),
        ({"two words": x}, "a text without white space, got 'two words'"),
        ({"<a>": vectors(80, 8)}, "must stand for 1 to 75 ids, got 80"),
        ({"<a>": vectors(2, 3, 8)}, r"must hold vectors \[n, D\] of floats, got float32\[2, 3, 8\]"),
        ({"<a>": np.zeros((2, 8), np.int32)}, "of floats, got int32"),
        ({"<a>": np.full((1, 8), np.nan, np.float32)}, "NaN or infinite: the file is damaged"),
    ):
        with pytest.raises(ValueError, match=message):
            pipelines.add_textual_inversion(pipe, write(file, **tensors))
    with pytest.raises(ValueError, match="'<a>_1' is a token already"):
        write(file, **{"<a>": vectors(2, 8)})
        pipelines.add_textual_inversion(pipelines.add_textual_inversion(pipe, file, "<a>_1"), file)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"damaged|truncated"):
        pipelines.add_textual_inversion(pipe, file)
    for name in ("a.pt", "a.bin"):
        with pytest.raises(ValueError, match="is a pickle, which can run any code"):
            pipelines.add_textual_inversion(pipe, tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        pipelines.add_textual_inversion(pipe, tmp_path / "none.safetensors")
    assert isinstance(pipe.towers[0].net, nn.TextEncoder)

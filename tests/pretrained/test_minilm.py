"""The text encoder at a tiny size: the whole package written, loaded and compared with NumPy."""

import json
import math
import zipfile

import jax
import numpy as np
import pytest
from safetensors.numpy import save

from diffjax.pretrained import Tokens, load_minilm, minilm, sentence_vectors

CONFIG = {
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "vocab_size": 8,
    "max_position_embeddings": 9,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "car", "##s", "dog"]
TOKENIZER = {
    "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": {p: i for i, p in enumerate(VOCAB)}},
    "normalizer": {"type": "BertNormalizer", "lowercase": True},
}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    shapes = {name: like.shape for name, like in minilm.layout(CONFIG).items()}
    return {name: (rng.normal(size=shape) / 2).astype(np.float32) for name, shape in shapes.items()}


def package(path, arrays, config=CONFIG, tokenizer=TOKENIZER):
    extra = {"pooler.dense.weight": np.zeros((12, 12), np.float32), "embeddings.position_ids": np.arange(9)[None]}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("tokenizer.json", json.dumps(tokenizer))
        archive.writestr("model.safetensors", save(arrays | extra))
    return path


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, arrays):
    tokenize, encode = load_minilm(package(tmp_path_factory.mktemp("minilm") / "model.zip", arrays))
    return tokenize, jax.tree_util.Partial(jax.jit(minilm.encode), *encode.args)


def norm(a, name, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * a[f"{name}.weight"] + a[f"{name}.bias"]


def expected(a, ids):
    """One text without padding, [T] -> states [T, C]: loops over heads and tokens."""
    a = {name: x.astype(np.float64) for name, x in a.items()}
    dense = lambda name, x: x @ a[f"{name}.weight"].T + a[f"{name}.bias"]  # noqa: E731
    e = "embeddings."
    x = a[e + "word_embeddings.weight"][ids] + a[e + "position_embeddings.weight"][: len(ids)]
    x = norm(a, e + "LayerNorm", x + a[e + "token_type_embeddings.weight"][0])
    for i in range(2):
        at = f"encoder.layer.{i}."
        q, k, v = (dense(f"{at}attention.self.{name}", x) for name in ("query", "key", "value"))
        h = np.zeros_like(x)
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            for t in range(len(ids)):
                weights = np.exp([q[t, part] @ k[s, part] / 2 for s in range(len(ids))])
                h[t, part] = weights @ v[:, part] / weights.sum()
        x = norm(a, at + "attention.output.LayerNorm", x + dense(at + "attention.output.dense", h))
        h = dense(at + "intermediate.dense", x)
        h = h * np.vectorize(lambda z: (1 + math.erf(z / math.sqrt(2))) / 2)(h)
        x = norm(a, at + "output.LayerNorm", x + dense(at + "output.dense", h))
    return x


def test_encoding(arrays, loaded):
    tokenize, encode = loaded
    tokens = tokenize(["Red cars", "", "dog dog dog red car"], length=7)
    np.testing.assert_array_equal(tokens.ids[0], [2, 4, 5, 6, 3, 0, 0])
    states, mask, pooled = encode(tokens)
    np.testing.assert_array_equal(mask, tokens.mask)
    for i, n in enumerate((5, 2, 7)):
        x = expected(arrays, tokens.ids[i, :n])
        np.testing.assert_allclose(states[i, :n], x, rtol=1e-4, atol=1e-4)
        mean = x.mean(0)
        np.testing.assert_allclose(pooled[i], mean / np.sqrt(mean @ mean), rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(loaded):
    tokenize, encode = loaded
    short, long = (encode(tokenize(["red dog", "", "car"], length=n)) for n in (4, 7))
    np.testing.assert_allclose(long.states[:, :2], short.states[:, :2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(long.pooled, short.pooled, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="9 positions, got 10 tokens"):
        encode(tokenize(["red"], length=10))


def test_encode_is_a_pytree_of_its_parameters(arrays, loaded):
    tokenize, encode = loaded
    tokens = tokenize(["red", "dog", "car"], length=7)
    doubled = jax.tree.map(lambda p: 2 * p, encode)
    assert not np.allclose(doubled(tokens).pooled, encode(tokens).pooled, atol=1e-3)
    count = sum(x.size for x in arrays.values()) - 2 * 12  # token types have gone into the positions
    assert isinstance(tokens, Tokens) and sum(x.size for x in jax.tree.leaves(encode)) == count


def bad(**change):
    return {**CONFIG, **change}


@pytest.mark.parametrize(
    ("config", "tokenizer", "message"),
    [
        (bad(hidden_act="relu"), TOKENIZER, "another kind of network.*gelu"),
        (bad(num_attention_heads=5), TOKENIZER, "12 channels cannot be split into 5 heads"),
        ({}, TOKENIZER, "another kind of network.*vocab_size"),
        (CONFIG, {"model": {"type": "BPE"}}, "another kind of network or tokenizer"),
        (CONFIG, {**TOKENIZER, "normalizer": {"type": "BertNormalizer", "lowercase": False}}, "small letters"),
        (
            CONFIG,
            {**TOKENIZER, "model": {**TOKENIZER["model"], "vocab": {"[PAD]": 0}}},
            r"lacks \[CLS\], \[SEP\], \[UNK\]",
        ),
        (bad(vocab_size=7), TOKENIZER, "does not fit a table of 7 words"),
        (bad(intermediate_size=24), TOKENIZER, r"'encoder.layer.0.intermediate.dense.bias' has the shape \(20,\)"),
        (bad(num_hidden_layers=1), TOKENIZER, "holds 'encoder.layer.1"),
    ],
)
def test_another_package(tmp_path, arrays, config, tokenizer, message):
    with pytest.raises(ValueError, match=message):
        load_minilm(package(tmp_path / "model.zip", arrays, config, tokenizer))


def test_damaged_and_missing_files(tmp_path, arrays):
    path = tmp_path / "model.zip"
    with pytest.raises(FileNotFoundError, match="make data"):
        load_minilm(path)
    whole = package(path, arrays).read_bytes()
    for broken in (b"", whole[:-10], whole[:200] + b"\0" * 50 + whole[250:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"model\.zip is truncated or no package"):
            load_minilm(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        load_minilm(path)


def test_sentence_vectors_in_batches(loaded, arrays, tmp_path):
    tokenize, encode = loaded
    texts = ["red car", "dog", "red red dogs"]
    found = sentence_vectors(package(tmp_path / "model.zip", arrays), texts, batch_size=2, length=6)
    np.testing.assert_allclose(found, encode(tokenize(texts, 6)).pooled, atol=1e-5)

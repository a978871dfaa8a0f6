"""CLIP's byte-pair tokenizer, of Stable Diffusion's text encoders: texts -> rows of integers.

    clean       NFC, each run of white space becomes one space, letters become small
    split       into words, contractions ('s, 't, 're, 've, 'm, 'll, 'd), single digits, and runs of other marks
    bytes       each word is UTF-8, a letter for each of the 256 bytes, and </w> after the last one
    merge       the pair of neighbours that comes first in the list of merges is joined, again and again
    frame       start tokens end pad ... pad

Sources: Sennrich et al. (2016); Radford et al. (2021) and openai/CLIP, simple_tokenizer.py. The ids are those of
CLIPTokenizer (that is CLIPTokenizerFast) of transformers 5, as the same library, `tokenizers`, cuts the words. Three
rules of others are not followed by default:

- openai/CLIP and transformers' slow tokenizer (until 4) also repair a text with ftfy (curly quotes become straight,
  full-width letters narrow, control characters go), the first one HTML entities too. transformers' fast one, which
  diffusers uses, does not.
- The text of the start or end token stands for that token wherever it is in a text, in capitals too, as in openai/CLIP
  and in transformers 4; with Stable Diffusion 1's files transformers 5 takes it in small letters only.
- Where "!" is the padding token (Stable Diffusion 2 and XL), transformers makes padding of each "!" in a text. The code
  that trained these networks did not, and neither does this one, but with `load_tokenizer(path, split_padding=True)`.
"""

from __future__ import annotations

import dataclasses
import itertools
import numbers
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from diffjax.text.wordpiece import Tokens

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
PRINTED = (*range(33, 127), *range(161, 173), *range(174, 256))
LETTERS = {chr(b): b for b in PRINTED} | {chr(256 + i): b for i, b in enumerate(sorted({*range(256)} - {*PRINTED}))}
WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Word(NamedTuple):
    """A word, a run of marks or an added token of a text.

    Attributes:
      ids: its tokens, one or more.
      start: where it begins, a position in the text.
      spaced: whether white space, or nothing, comes before it.
    """

    ids: tuple[int, ...]
    start: int
    spaced: bool


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Tokenizer:
    """CLIP's tokenizer with its vocabulary; `load_tokenizer` makes one of files.

    Attributes:
      backend: the vocabulary, the merges and the rules of cutting; not to be changed in place.
      start, end, pad: the ids around a text. `dataclasses.replace(tokenizer, pad=0)` pads with another one.
      length: T, the tokens of a row, start and end among them.
      added: for each token that `with_tokens` added, the ids that it stands for.
    """

    backend: tokenizers.Tokenizer
    start: int
    end: int
    pad: int
    length: int = 77
    added: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check_length(self.length)
        for name in ("start", "end", "pad"):
            if not 0 <= getattr(self, name) < len(self):
                raise ValueError(f"{name} must be one of the {len(self)} tokens, got {getattr(self, name)}")

    def __len__(self) -> int:
        """The number of tokens, which is that of the rows in the encoder's table."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def __repr__(self) -> str:
        ids = f"start={self.start}, end={self.end}, pad={self.pad}, length={self.length}"
        return f"Tokenizer({len(self)} tokens, {ids}, added={list(self.added)})"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> int32 [B, T], the ids of `tokenize`."""
        return self.tokenize(texts).ids

    def tokenize(self, texts: Sequence[str], length: int | None = None) -> Tokens:
        """Texts -> `Tokens` of T = `length`, by default that of the tokenizer.

        What is longer loses its end, with a UserWarning that says what; `diffjax.text.chunk_prompts` keeps all of it.
        The mask tells the text, start and end from padding; Stable Diffusion's encoders read padding as well.

        Raises:
          TypeError: `texts` is a single string, or holds something else.
          ValueError: `length` leaves no room for a token between start and end, or a text is no valid Unicode.
        """
        texts = check_texts(texts)
        length = self.length if length is None else length
        check_length(length)
        ids = np.full((len(texts), length), self.pad, np.int32)
        mask = np.zeros((len(texts), length), bool)
        for i, text in enumerate(texts):
            words = list(self.words(text))
            inside = [n for word in words for n in word.ids]
            if len(inside) > length - 2:
                _warn_of_cut(i, text, words, length - 2)
            row = [self.start, *inside[: length - 2], self.end]
            ids[i, : len(row)] = row
            mask[i, : len(row)] = True
        return Tokens(ids, mask)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, as many as there are, without start, end and padding."""
        return [n for word in self.words(text) for n in word.ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a row of ids, in small letters, words and marks apart; start, end and padding are shown as well.

        Raises:
          ValueError: there is no such token.
        """
        whole = self.backend.get_added_tokens_decoder()
        parts = []
        for n in map(int, ids):
            name = self.backend.id_to_token(n) if n >= 0 else None
            if name is None:
                raise ValueError(f"there is no token {n}: the vocabulary has {len(self)}")
            letters = name.removesuffix(END_OF_WORD)
            ended = b" " if letters != name else b""
            parts.append(f" {name} ".encode() if n in whole else bytes(LETTERS[c] for c in letters) + ended)
        return " ".join(b"".join(parts).decode("utf-8", "replace").split())

    def words(self, text: str) -> Iterator[Word]:
        """The words of a text in order.

        Raises:
          TypeError: it is no string.
          ValueError: it holds half of a surrogate pair, which is no valid Unicode.
        """
        whole = {ids[0]: ids for ids in self.added.values()}
        found = self._encode(text)
        before = 0
        for _, group in itertools.groupby(range(len(found.ids)), lambda i: found.word_ids[i]):
            places = list(group)
            start, end = found.offsets[places[0]][0], found.offsets[places[-1]][1]
            ids = tuple(n for i in places for n in whole.get(found.ids[i], (found.ids[i],)))
            yield Word(ids, start, start == 0 or any(c.isspace() for c in text[before:start]))
            before = end

    def split(self, text: str) -> list[tuple[str, int]]:
        """The words of a text, each with its number of tokens."""
        words = list(self.words(text))
        ends = [word.start for word in words[1:]] + [len(text)]
        return [(text[w.start : end].strip(), len(w.ids)) for w, end in zip(words, ends, strict=True)]

    def with_tokens(self, tokens: Mapping[str, int]) -> Tokenizer:
        """A tokenizer with tokens of Textual Inversion (Gal et al. 2022) added; this one stays as it is.

        Args:
          tokens: `{"<cat-toy>": n}`: wherever a text has <cat-toy>, in small letters or capitals, n new ids stand, from
            `len(self)` on, in the order of the dict. As in diffusers, <cat-toy>_1, ..., <cat-toy>_(n-1) name the
            second to the last of them. A token that begins or ends with a letter or a digit is matched only where no
            other one adjoins: "zwx" not in "zwxs" (HF's added tokens are matched there also, by default).

        Raises:
          TypeError: `tokens` is no dict from strings to integers.
          ValueError: one is a token already, is empty or has white space in it, or n does not fit into `length`.
        """
        if not isinstance(tokens, Mapping):
            raise TypeError(f"expected a dict from tokens to their numbers of ids, got {tokens!r}")
        for token, n in tokens.items():
            if not isinstance(token, str) or isinstance(n, bool) or not isinstance(n, numbers.Integral):
                raise TypeError(f"expected a dict from tokens to their numbers of ids, got {token!r}: {n!r}")
            if not token or any(c.isspace() for c in token):
                raise ValueError(f"a token must be a text without white space, got {token!r}")
            if not 1 <= n <= self.length - 2:
                raise ValueError(f"{token!r} must stand for 1 to {self.length - 2} ids, got {n}")
        return self._with(tokens, check=True)

    def _with(self, tokens: Mapping[str, int], check: bool = False) -> Tokenizer:
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        new = dataclasses.replace(self, backend=backend, added=dict(self.added))
        for token, n in tokens.items():
            names = [token, *(f"{token}_{i}" for i in range(1, n))]
            ids = tuple(range(len(new), len(new) + int(n)))
            for name in names:
                if check and (backend.token_to_id(name) is not None or len(new._encode(name).ids) == 1):
                    raise ValueError(f"{name!r} is a token already: choose another name")
                edges = (name[0] + name[-1]).replace("_", "a")
                alone = any(c.isalnum() for c in edges)
                backend.add_tokens([AddedToken(name, single_word=alone, normalized=True)])
            if tuple(map(backend.token_to_id, names)) != ids:
                raise ValueError(f"{token!r} cannot be added: one of {names} is a token already")
            new.added[token] = ids  # type: ignore[index]
        return new

    def _encode(self, text: str) -> tokenizers.Encoding:
        if not isinstance(text, str):
            raise TypeError(f"expected a text, got {text!r}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"the text {text[:60]!r} holds half of a surrogate pair, at {error.start}") from error
        return self.backend.encode(text, add_special_tokens=False)


def cutting(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, str]], specials: Sequence[str]
) -> tokenizers.Tokenizer:
    """The rules at the head of this file, for a vocabulary that holds the special tokens, as `Tokenizer.backend`."""
    model = models.BPE(dict(vocabulary), list(merges), end_of_word_suffix=END_OF_WORD, unk_token=specials[-1])
    backend = tokenizers.Tokenizer(model)
    space = normalizers.Replace(Regex(r"\s+"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), space, normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.add_special_tokens([AddedToken(token, normalized=True, special=True) for token in specials])
    return backend


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts in a list.

    Raises:
      TypeError: `texts` is a single string, or holds something else.
    """
    if isinstance(texts, str):
        raise TypeError("expected a list of texts, got one string; write [text]")
    texts = list(texts)
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {i} must be a string, got {text!r}")
    return texts


def check_length(length: int) -> None:
    """Raise unless rows of this length have room for start, a token and end."""
    if isinstance(length, bool) or not isinstance(length, numbers.Integral):
        raise TypeError(f"length must be an integer, got {length!r}")
    if length < 3:
        raise ValueError(f"length must be 3 or more, for start, a token and end; got {length}")


def _warn_of_cut(i: int, text: str, words: list[Word], room: int) -> None:
    count = np.cumsum([len(word.ids) for word in words])
    rest = text[words[int(np.argmax(count > room))].start :]
    shown = rest if len(rest) <= 200 else rest[:200] + " ..."
    message = f"text {i} has {count[-1]} tokens, and there is room for {room}: cut off is {shown!r}. "
    warnings.warn(message + "diffjax.text.chunk_prompts keeps all of a long text", stacklevel=3)

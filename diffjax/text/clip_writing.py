"""CLIP's tokenizer as a folder of the hub, as transformers and `load_tokenizer` read it: vocab.json and merges.txt.

Tokens that were added stand in tokenizer_config.json with their ids, those of Textual Inversion one by one: <cat-toy>,
<cat-toy>_1, ...
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffjax.files import replacing
from diffjax.text.clip_bpe import Tokenizer


def save_tokenizer(tokenizer: Tokenizer, path: str | Path) -> None:
    """Write a folder, the inverse of `load_tokenizer`; whether padding splits a text is not kept in it."""
    path, whole = Path(path), json.loads(tokenizer.backend.to_str())
    start, end, pad = (tokenizer.backend.id_to_token(n) for n in (tokenizer.start, tokenizer.end, tokenizer.pad))
    flags = {"lstrip": False, "normalized": True, "rstrip": False}
    added = {
        str(entry["id"]): {"content": entry["content"], "single_word": entry["single_word"], **flags}
        | {"special": entry["content"] in (start, end)}
        for entry in whole["added_tokens"]
        if entry["content"] in (start, end) or entry["content"] not in whole["model"]["vocab"]
    }
    names = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": pad}
    settings = names | {"tokenizer_class": "CLIPTokenizer", "model_max_length": tokenizer.length, "do_lower_case": True}
    settings |= {"add_prefix_space": False, "errors": "replace", "added_tokens_decoder": added}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in whole["model"]["merges"]]
    _write(path / "vocab.json", json.dumps(whole["model"]["vocab"], ensure_ascii=False))
    _write(path / "merges.txt", "\n".join(["#version: 0.2", *merges, ""]))
    _write(path / "special_tokens_map.json", _indented(names))
    _write(path / "tokenizer_config.json", _indented(settings))


def _indented(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write(file: Path, text: str) -> None:
    with replacing(file) as part:
        part.write_bytes(text.encode())

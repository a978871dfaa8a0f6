"""CLIP vocabularies of any size, in the forms of files that hold them. It imports nothing of diffjax."""

import gzip
import itertools
import json

START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = 48_894
PRINTED = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTERS = [chr(b) for b in PRINTED] + [chr(256 + i) for i in range(256 - len(PRINTED))]  # GPT-2's, for the bytes
NEVER = [LETTERS[PRINTED.index(b)] for b in (0xC0, 0xC1, *range(0xF5, 0x100))]  # bytes that UTF-8 does not have


def vocabulary(merges):
    """{token: id}: bytes, bytes that end a word, merges, start and end."""
    tokens = [*LETTERS, *(c + "</w>" for c in LETTERS), *(a + b for a, b in merges), START, END]
    return {token: i for i, token in enumerate(tokens)}


def completed(used):
    """All 48,894 merges from those that texts use, {place: "a b"}; the others join bytes that no text has."""

    def others():
        tokens = list(NEVER)
        for token in tokens:
            for letter in NEVER:
                tokens.append(token + letter)
                yield token, letter

    other = others()
    return [tuple(used[str(i)].split()) if str(i) in used else next(other) for i in range(MERGES)]


def old_folder(path, merges, pad=END, **config):
    """A folder of the hub as transformers wrote it until version 4."""
    flags = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    names = {"bos_token": {"content": START, **flags}, "eos_token": {"content": END, **flags}}
    config = {"model_max_length": 77, "pad_token": END, "tokenizer_class": "CLIPTokenizer", **names, **config}
    files = {
        "vocab.json": json.dumps(vocabulary(merges)),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]),
        "special_tokens_map.json": json.dumps({**names, "pad_token": pad, "unk_token": names["eos_token"]}),
        "tokenizer_config.json": json.dumps(config),
    }
    return written(path, files)


def new_folder(path, merges, pad=END, added=(), pairs=True):
    """A folder of the hub as transformers 5 writes it."""
    tokens = vocabulary(merges)
    extra = [{"id": tokens[token], "content": token, "special": True} for token in (START, END)]
    extra += [{"id": len(tokens) + i, "content": token, "special": False} for i, token in enumerate(added)]
    model = {"type": "BPE", "end_of_word_suffix": "</w>", "vocab": tokens}
    model["merges"] = [list(pair) if pairs else " ".join(pair) for pair in merges]
    normalizer = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}
    config = {"bos_token": START, "eos_token": END, "pad_token": pad, "model_max_length": 77}
    whole = {"added_tokens": extra, "normalizer": normalizer, "model": model}
    return written(path, {"tokenizer.json": json.dumps(whole), "tokenizer_config.json": json.dumps(config)})


def original(path, merges, zipped=True):
    """openai/CLIP's file, which goes on with merges that CLIP does not use."""
    lines = ['"bpe_simple_vocab_16e6.txt#version: 0.2', *(" ".join(pair) for pair in merges), "no t</w>", ""]
    data = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(data, 1) if zipped else data)
    return path


def written(path, files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text, encoding="utf-8")
    return path


def steps(word, ranks):
    """The merges that the letters of a word go through, and the parts they end as: byte pairs as they are defined."""
    parts, made = [*word[:-1], word[-1] + "</w>"], []
    while known := [pair for pair in itertools.pairwise(parts) if pair in ranks]:
        best = min(known, key=ranks.__getitem__)
        made.append(best)
        out = []
        for part in parts:
            fresh = bool(out) and (out[-1], part) == best
            out[-1:] = [out[-1] + part] if fresh else [*out[-1:], part]
        parts = out
    return made, parts

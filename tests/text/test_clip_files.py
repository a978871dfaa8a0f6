"""The folders and files of CLIP's tokenizer: every form gives the same one, and a damaged one is named."""

import json

import pytest
from clip_folders import END, START, completed, new_folder, old_folder, original, vocabulary

from diffjax.text import load_tokenizer

MERGES = [("c", "at</w>"), ("r", "e"), ("re", "d</w>"), ("a", "t</w>")]
N = 512 + len(MERGES) + 2
ROW = [512, 514, 256]  # cat, red, !


def edit(path, change):
    """Rewrite a JSON file of a folder."""
    found = json.loads(path.read_text())
    path.write_text(json.dumps(change(found) or found))


@pytest.mark.parametrize("pad", [END, "!"])
def test_every_form_gives_the_same_tokenizer(tmp_path, pad):
    folders = [
        old_folder(tmp_path / "old", MERGES, pad=pad),
        new_folder(tmp_path / "new", MERGES, pad=pad),
        new_folder(tmp_path / "strings", MERGES, pad=pad, pairs=False),
    ]
    merges = MERGES + completed({})[: 48_894 - len(MERGES)]
    files = [original(tmp_path / "bpe.txt.gz", merges), original(tmp_path / "bpe.txt", merges, zipped=False)]
    for path in folders + files:
        tokenizer = load_tokenizer(str(path))
        size = N if path in folders else 49_408
        assert tokenizer.encode("Cat red!") == ROW
        assert (len(tokenizer), tokenizer.start, tokenizer.end, tokenizer.length) == (size, size - 2, size - 1, 77)
        assert tokenizer.pad == (0 if pad == "!" and path in folders else size - 1)


def test_special_tokens_map_counts_more_than_the_config(tmp_path):
    old = old_folder(tmp_path / "old", MERGES, pad="!")
    assert json.loads((old / "tokenizer_config.json").read_text())["pad_token"] == END
    assert load_tokenizer(old).pad == 0
    (old / "special_tokens_map.json").unlink()
    assert load_tokenizer(old).pad == N - 1
    (old / "tokenizer_config.json").unlink()  # CLIP's own names
    assert (load_tokenizer(old).start, load_tokenizer(old).pad) == (N - 2, N - 1)


@pytest.mark.parametrize(("stated", "length"), [(20, 20), (1e30, 77), (None, 77)])
def test_length(tmp_path, stated, length):
    tokenizer = load_tokenizer(old_folder(tmp_path / "old", MERGES, model_max_length=stated))
    assert tokenizer.length == length and tokenizer(["cat"]).shape == (1, length)


def test_padding_may_be_split_off(tmp_path):
    folder = old_folder(tmp_path / "old", [*MERGES, ("!", "!</w>")], pad="!")
    assert load_tokenizer(folder).encode("cat!!") == [512, 516]
    assert load_tokenizer(folder, split_padding=True).encode("cat!! !") == [512, 0, 0, 0]


def test_tokens_added_by_others(tmp_path):
    names = ["<toy>", "<b>", "<toy>_1"]
    new = new_folder(tmp_path / "new", MERGES, added=names)
    old = old_folder(tmp_path / "old", MERGES)
    (old / "added_tokens.json").write_text(json.dumps({name: N + i for i, name in enumerate(names)}))
    config = {str(N + i): {"content": name} for i, name in enumerate(names)}
    for path in (new, old, old_folder(tmp_path / "config", MERGES, added_tokens_decoder=config)):
        tokenizer = load_tokenizer(path)
        assert tokenizer.encode("cat <toy> <b>") == [512, N, N + 2, N + 1]
        assert len(tokenizer) == N + 3
        assert tokenizer.with_tokens({"<c>": 1}).encode("<c><toy>") == [N + 3, N, N + 2]
    (old / "added_tokens.json").write_text(json.dumps({"<toy>": N + 1}))
    with pytest.raises(ValueError, match=rf"must have the ids from {N} on"):
        load_tokenizer(old)
    (old / "added_tokens.json").write_text(json.dumps({"<toy>": None}))
    with pytest.raises(ValueError, match="cannot read the added tokens"):
        load_tokenizer(old)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder and no file .*nowhere"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no vocab.json with merges.txt, and no tokenizer.json"):
        load_tokenizer(tmp_path)
    old = old_folder(tmp_path / "tokenizer", MERGES)
    with pytest.raises(FileNotFoundError, match="Did you mean its folder `tokenizer`"):
        load_tokenizer(tmp_path)
    (old / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"has a vocab.json, but no merges.txt"):
        load_tokenizer(old)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("vocab.json", '{"a": 0', r"vocab.json is damaged, or no JSON"),
        ("vocab.json", "[1]", r"vocab.json must hold a JSON object, got list"),
        ("vocab.json", "{}", r"vocab.json holds no vocabulary"),
        ("vocab.json", '{"a": "b"}', r"vocab.json holds no vocabulary"),
        ("vocab.json", json.dumps({START: 0, END: 1}), "lacks 512 of the 512 bytes"),
        ("vocab.json", json.dumps({"a": 0}), r"start token '<\|startoftext\|>' is not in the vocabulary"),
        (
            "merges.txt",
            "#version: 0.2\nc at</w>\nr e\n",
            r"2 tokens of the vocabulary are made by no merge, such as 'at",
        ),
        ("merges.txt", "#version: 0.2\nc at</w>\nr\n", r"merges.txt: merge 1 must be two tokens, got 'r'"),
        ("merges.txt", "#version: 0.2\no n\n", "the merge 'o n' does not fit the vocabulary"),
        ("special_tokens_map.json", '{"pad_token": "[PAD]"}', r"the padding token '\[PAD\]' is not in the vocabulary"),
        ("special_tokens_map.json", '{"pad_token": 3}', "pad_token must be a string"),
        ("tokenizer_config.json", "", r"tokenizer_config.json is damaged"),
    ],
)
def test_a_damaged_folder(tmp_path, file, text, message):
    folder = old_folder(tmp_path / "old", MERGES)
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(folder)


def test_bytes_that_are_no_text(tmp_path):
    folder = old_folder(tmp_path / "old", MERGES)
    (folder / "merges.txt").write_bytes(b"#version\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"merges.txt is damaged"):
        load_tokenizer(folder)


@pytest.mark.parametrize("change", ["gap", "twice"])
def test_a_vocabulary_whose_size_does_not_match(tmp_path, change):
    folder = old_folder(tmp_path / "old", MERGES)
    tokens = vocabulary(MERGES)
    tokens[END] = N if change == "gap" else 5
    (folder / "vocab.json").write_text(json.dumps(tokens))
    with pytest.raises(ValueError, match=f"{N} tokens must have the ids 0 to {N - 1}, each once"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("model") and d, "another kind of tokenizer"),
        (lambda d: d["model"].update(end_of_word_suffix=None), "another kind of tokenizer"),
        (lambda d: d.update(normalizer=None), "CLIP's makes letters small"),
        (lambda d: d["model"].update(vocab=None), "holds no vocabulary"),
        (lambda d: d["model"].update(merges=None), "merge 0 must be two tokens"),
        (lambda d: d["model"].update(merges=[["a"]]), "merge 0 must be two tokens"),
        (lambda d: d["model"]["merges"].pop(), "made by no merge"),
        (lambda d: d.update(added_tokens=[{"id": 3}]), "cannot read the added tokens"),
    ],
)
def test_a_damaged_tokenizer_json(tmp_path, change, message):
    folder = new_folder(tmp_path / "new", MERGES)
    edit(folder / "tokenizer.json", lambda found: change(found) and None)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(folder)


def test_a_damaged_original(tmp_path):
    path = original(tmp_path / "bpe.txt.gz", MERGES)
    with pytest.raises(ValueError, match="truncated: it has 5 merges of 48894"):
        load_tokenizer(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"bpe.txt.gz is damaged"):
        load_tokenizer(path)
    path.write_bytes(b"just some text")
    with pytest.raises(ValueError, match="no vocabulary of CLIP: its first line must name the version"):
        load_tokenizer(path)

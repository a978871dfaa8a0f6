"""CLIP's tokenizer as a folder: what is written is read again."""

import numpy as np
import pytest
from clip_folders import END, old_folder

from diffjax.text import load_tokenizer, save_tokenizer

MERGES = [("c", "at</w>"), ("r", "e"), ("re", "d</w>"), ("a", "t</w>"), ("\u00c3", "\u00a9</w>")]
TEXTS = ["a red cat!", "Caf\u00e9 NA\u00cfVE 123 don't", "<toy>s <TOY>, <|endoftext|> <sks>"]


@pytest.mark.parametrize("pad", [END, "!"])
def test_a_tokenizer_comes_back(tmp_path, pad):
    tokenizer = load_tokenizer(old_folder(tmp_path / "given", MERGES, pad=pad, model_max_length=20))
    tokenizer = tokenizer.with_tokens({"<toy>": 2, "ink": 1})
    save_tokenizer(tokenizer, tmp_path / "written")
    again = load_tokenizer(tmp_path / "written")
    np.testing.assert_array_equal(again(TEXTS), tokenizer(TEXTS))
    for name in ("start", "end", "pad", "length", "added"):
        assert getattr(again, name) == getattr(tokenizer, name)
    assert again.pad == (0 if pad == "!" else again.end)

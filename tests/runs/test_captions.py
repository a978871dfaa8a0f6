"""The text encoder of the latent experiments refuses what is no list of texts."""

import numpy as np
import pytest

from diffjax.runs import captions
from diffjax.text.wordpiece import Tokens


@pytest.fixture
def states(monkeypatch):
    """TextStates whose tokens are letters, and whose network counts them."""

    def tokenize(texts, length):
        ids = np.array([[len(text)] * length for text in texts])
        return Tokens(ids, np.arange(length) < ids)

    encode = lambda tokens: (tokens.ids[..., None].astype(np.float32), tokens.mask, None)  # noqa: E731
    monkeypatch.setattr(captions.packages, "find", lambda *_: None)
    monkeypatch.setattr(captions.pretrained, "load_minilm", lambda _: (tokenize, encode))
    return captions.TextStates


def test_a_text_alone_is_no_list_of_texts(states, tmp_path):
    encode = states(2, 2)
    with pytest.warns(UserWarning, match="1 of 3 texts have more than 2 tokens and lose their end, the first is 'fox'"):
        found = encode(["a", "fox", "in"])
    np.testing.assert_array_equal(found[..., 0], [[1, 0], [3, 3], [2, 2]])
    for wrong in ("fox", ["fox", None], np.array([1, 2]), None, (c for c in "ab")):
        for call in (encode, lambda x: encode.kept(x, tmp_path)):
            with pytest.raises(TypeError, match="a list of texts, got"):
                call(wrong)
    for sizes, bound in (((1,), "2 to 512"), ((600,), "2 to 512"), ((2, 0), "at least 1")):
        with pytest.raises(ValueError, match=bound):
            states(*sizes)

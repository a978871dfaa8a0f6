"""The text encoder of the latent experiments refuses what is no list of texts."""

import numpy as np
import pytest

from diffjax.runs import captions


@pytest.fixture
def states(monkeypatch):
    """TextStates whose network counts letters."""
    tokenize = lambda texts, length: np.array([[len(text)] * length for text in texts])  # noqa: E731
    encode = lambda tokens: (tokens[..., None].astype(np.float32), tokens > 0, None)  # noqa: E731
    monkeypatch.setattr(captions.packages, "find", lambda *_: None)
    monkeypatch.setattr(captions.pretrained, "load_minilm", lambda _: (tokenize, encode))
    return captions.TextStates


def test_a_text_alone_is_no_list_of_texts(states, tmp_path):
    encode = states(2, 2)
    np.testing.assert_array_equal(encode(["a", "fox", "in"])[..., 0], [[1, 1], [3, 3], [2, 2]])
    for wrong in ("fox", ["fox", None], np.array([1, 2])):
        for call in (encode, lambda x: encode.kept(x, tmp_path)):
            with pytest.raises(TypeError, match="a list of texts, got"):
                call(wrong)
    for sizes in ((0,), (2, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            states(*sizes)

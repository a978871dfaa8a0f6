"""Files of Textual Inversion (Gal et al. 2022): n vectors that stand for one token, in a text tower's table.

    found = read_textual_inversion("learned_embeds.safetensors")     # Inversion("<cat-toy>", {"": [n, 768]})

    diffusers          {"<token>": [n, D] or [D]}, one tensor under the token's own name
    webui              {"emb_params": [n, D]}; the token is the file's name
    XL                 {"clip_l": [n, 768], "clip_g": [n, 1280]}, for two towers; the token is the file's name

`pipelines.add_textual_inversion` gives the token to a pipeline.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from diffjax.formats.tensors import read_tensors
from diffjax.pretrained.stable_diffusion.layout import listed

WEBUI, PAIR = "emb_params", ("clip_l", "clip_g")


class Inversion(NamedTuple):
    """A token and its vectors.

    Attributes:
      token: its name.
      vectors: [n, D] by the tower that they are for: "clip_l" and "clip_g", or "" where a file does not name it.
    """

    token: str
    vectors: dict[str, np.ndarray]


def read_textual_inversion(path: str | Path) -> Inversion:
    """The token of a file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is a pickle, damaged, of another layout, or holds what are no vectors; what is wrong is named.
    """
    path = Path(path)
    tensors = {name: np.asarray(x) for name, x in read_tensors(path).items()}
    named = {name: x for name, x in tensors.items() if name in PAIR}
    if len(tensors) == 1 and not named:
        (name, x), token = next(iter(tensors.items())), path.stem
        found = Inversion(token if name == WEBUI else name, {"": x})
    elif named and len(named) == len(tensors):
        found = Inversion(path.stem, named)
    else:
        raise ValueError(
            f"{path} is no file of Textual Inversion: it holds {listed(sorted(tensors), ()) or 'no tensor'}; known are "
            f"one tensor under its token's name, {WEBUI!r}, and XL's {' and '.join(map(repr, PAIR))}"
        )
    return found._replace(vectors={name: _rows(path, name or found.token, x) for name, x in found.vectors.items()})


def _rows(path: Path, name: str, x: np.ndarray) -> np.ndarray:
    """Vectors [n, D] of one [D], or of [n, D].

    Raises:
      ValueError: they have another shape, are no numbers, or are not finite.
    """
    if x.ndim not in (1, 2) or 0 in x.shape or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{path}: {name!r} must hold vectors [n, D] of floats, got {x.dtype}{list(x.shape)}")
    x = np.atleast_2d(x)
    if not np.isfinite(x.astype(np.float32)).all():
        raise ValueError(f"{path}: {name!r} holds values that are NaN or infinite: the file is damaged")
    return x

"""Tokens of Textual Inversion in a pipeline: its tokenizers know the token, and its towers have the vectors.

    pipe = add_textual_inversion(pipe, "cat-toy.safetensors", "<cat-toy>")
    x = pipe.text_to_image(key, ["a <cat-toy> on a beach"])

A token of n vectors becomes n ids in its place, <cat-toy>, <cat-toy>_1, ..., as in diffusers. XL's pooled vector stays
that of the end token; diffusers takes it from the largest id, an added one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from diffjax.parameters import flatten, unflatten
from diffjax.pipelines.prompts import Tower
from diffjax.pipelines.stable_diffusion import StableDiffusion
from diffjax.pretrained.stable_diffusion.textual_inversion import Inversion, read_textual_inversion
from diffjax.text.clip_bpe import Tokenizer

OF_TOWERS = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
TABLE = "tokens/embedding"


def add_textual_inversion(pipe: StableDiffusion, path: str | Path, token: str | None = None) -> StableDiffusion:
    """The pipeline with the token of a file; see `pretrained.stable_diffusion.textual_inversion` for its layouts.

    Args:
      path: a safetensors file.
      token: the text that stands for it in prompts; by default that of the file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: as `read_textual_inversion`; its vectors are for other text towers, or the token is one already, or
        has white space in it: give another one.
    """
    found = read_textual_inversion(path)
    name = found.token if token is None else token
    vectors = _of_towers(pipe, found, path)
    lengths = sorted({len(x) for x in vectors})
    if len(lengths) > 1:
        raise ValueError(f"{path} has {lengths[0]} vectors for one tower, but {lengths[1]} for the other")
    try:
        tokenizers = [one.with_tokens({name: lengths[0]}) for one in pipe.tokenizers]
    except ValueError as error:
        raise ValueError(f"{path}: {error} (`token` is the name that it gets)") from error
    towers = [
        _with_rows(tower, tokenizer, name, x)
        for tower, tokenizer, x in zip(pipe.towers, tokenizers, vectors, strict=True)
    ]
    unused = sorted(set(found.vectors) - {"", *(OF_TOWERS[part] for part in pipe.text_parts)})
    notes = [f"{path}: {one!r} is for a text tower that this model does not have" for one in unused]
    return dataclasses.replace(pipe, towers=tuple(towers), tokenizers=tuple(tokenizers), notes=(*pipe.notes, *notes))


def _of_towers(pipe: StableDiffusion, found: Inversion, path: str | Path) -> list[np.ndarray]:
    """The vectors for each tower of the pipeline."""
    parts, own = pipe.text_parts, set(found.vectors)
    wanted = [OF_TOWERS[part] for part in parts]
    if pipe.model.network.pooled_width and own >= set(wanted):
        vectors = [found.vectors[name] for name in wanted]
    elif len(parts) == 1 and own == {""}:
        vectors = [found.vectors[""]]
    else:
        needs = " and ".join(map(repr, wanted)) if len(parts) > 1 else "one tensor"
        has = " and ".join(map(repr, sorted(own))) if own != {""} else "one tensor"
        raise ValueError(f"{path} has {has}, but this model's text towers need {needs}: it is for another version")
    for tower, x in zip(pipe.towers, vectors, strict=True):
        if x.shape[1] != tower.net.width:
            made = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 1280: "XL's second tower"}.get(x.shape[1])
            hint = f": it is for {made}" if made else ""
            raise ValueError(
                f"{path} has vectors of {x.shape[1]} channels, but a text tower here has {tower.net.width}{hint}"
            )
    return vectors


def _with_rows(tower: Tower, tokenizer: Tokenizer, token: str, x: np.ndarray) -> Tower:
    """The tower with x [n, D] as the rows of the token's ids."""
    flat = flatten(tower.params["params"])
    table = np.asarray(flat[TABLE])
    rows = max(len(tokenizer), len(table))
    grown = np.concatenate([table, np.zeros((rows - len(table), table.shape[1]), table.dtype)])
    grown[list(tokenizer.added[token])] = x.astype(table.dtype)
    flat[TABLE] = jnp.asarray(grown)
    return Tower(tower.net.clone(vocabulary=rows), {"params": unflatten(flat)})

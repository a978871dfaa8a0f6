"""Prompt-to-Prompt on scenes (Hertz et al. 2023): a word is changed, the rest of the picture is to stay.

    make data                                          # MiniLM
    python experiments/prompt_to_prompt.py             # trains nothing; the committed model of text_to_image.py

Each pair is a caption and that of the scene's twin, in which one object has another colour or shape; both are drawn
from one noise. A row of the table is a pair of windows, the shares of the steps in which the edit takes over the cross-
and the self-attention of its source; 0 and 0 is a picture of its own from the same noise. Networks that took no part
judge the drawn pictures:

    edit     how often the changed object's new pair of colour and shape is seen in the edit; "source" is how often its
             old pair is in the source's picture, which bounds what an edit can be
    old      how often the old pair still is
    others   how many of the other objects are
    kept     mean absolute difference from the source's picture, in [0, 2], where neither picture has the changed object
    ratio    kept, over that of the row "0, 0"

"blend" is LocalBlend, by the changed word and the object's shape.

240 pairs, 8 minutes on two CPU cores, 2026-11-30: with cross-attention taken over in 0.6 of the steps the edit is seen
in 0.87 of the pictures, as with none (the source in 0.89), and the rest changes 0.55 times as much; in 0.8 of the steps
0.86 and 0.44, with LocalBlend 0.86 and 0.33.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

import diffjax as dj
from diffjax import control, plots
from diffjax.checks import check_count, check_number
from diffjax.constraints import LocalBlend
from diffjax.data.scene_drawing import COLOURS, SHAPES
from diffjax.runs import captions, experiment, latent_run, scene_edits, scene_reader

WEIGHTS = Path(__file__).with_name("weights")


@dataclasses.dataclass(frozen=True)
class Config:
    weights: Path = WEIGHTS / "text-to-image-scenes.safetensors"
    """The model of `text_to_image.py`, on scenes: the folder of its run, or a file."""
    judge: Path = WEIGHTS / "scene-judge.safetensors"
    """The judge of pairs, of `scene_judge.py`."""
    segmenter: Path = WEIGHTS / "scene-segmenter.safetensors"
    """The judge of pixels, of `scene_judge.py --preset segmenter`."""
    samples: int = 240
    """Pairs of captions."""
    batch: int = 60
    """Pairs that are drawn at a time."""
    sampling_steps: int = 20
    """Steps of DPM++ 2M."""
    scale: float = 3.0
    """Guidance scale."""
    cross: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Shares of the steps in which cross-attention is the source's."""
    self_share: float = 0.4
    """The share in which self-attention is too, or that of cross-attention where that is less."""
    method: Literal["replace", "refine"] = "replace"
    """Whether the changed word takes over the attention of the old one, or has its own."""
    blend: float | None = 0.8
    """The share of cross-attention at which LocalBlend is tried as well; None: it is not."""
    threshold: float = 0.3
    """Of LocalBlend."""
    seed: int = 0
    workdir: Path = Path("runs/prompt_to_prompt")


def main(config: Config) -> dict[str, Any]:
    check(config)
    model, judge = latent_run.text_model(config.weights), latent_run.scene_judge(config.judge)
    reader = scene_reader.SceneReader(dj.load(config.segmenter))
    codec: Any = model.codec
    experiment.start(config.workdir, config)
    drawn = scene_edits.recoloured(config.samples, codec.shape[0])
    tokens = captions.TextStates(model.network.context_length)
    drawn = fitting(drawn, tokens)
    ways = {f"{c:g}, {min(c, config.self_share):g}": (c, False) for c in config.cross}
    if config.blend is not None:
        ways |= {f"{config.blend:g}, {min(config.blend, config.self_share):g}, blend": (config.blend, True)}
    figures: dict[str, Any] = {"pairs": len(drawn.captions)}
    rows: dict[str, np.ndarray] = {}
    independent = None
    for name, (share, blend) in ways.items():
        source, edit = edited(config, model, tokens, drawn, share, blend)
        found = {"source": judge(source, scene_edits.only(drawn, scene_edits.changed(drawn)))["binding"]}
        found |= scene_edits.edit_figures(judge, edit, drawn) | {"kept": kept(reader, source, edit, drawn)}
        independent = found["kept"] if independent is None else independent
        found |= {"ratio": found["kept"] / independent}
        print(f"{name:<18}", *(f"{of} {value:.3f} " for of, value in found.items()), flush=True)
        figures |= {f"{name}, {of}": value for of, value in found.items()}
        rows |= {"source": source[:16], name: edit[:16]}
    plots.image_rows(config.workdir / "edits.png", rows)
    experiment.finish(config.workdir, figures)
    return figures


def check(config: Config) -> None:
    """Raise before anything is drawn."""
    try:
        for name in ("samples", "batch", "sampling_steps"):
            check_count(name, getattr(config, name))
        for share in (*config.cross, config.self_share, *([] if config.blend is None else [config.blend])):
            check_number("a share of the steps", share, 0, 1)
    except (TypeError, ValueError) as error:
        raise SystemExit(str(error)) from error
    if not config.cross or config.cross[0] != 0:
        raise SystemExit("--cross begins with 0, the pictures that the others are compared with: --cross 0 0.4 0.8")


def fitting(drawn: Any, tokens: captions.TextStates) -> Any:
    """The scenes whose captions are read to their end, and their twins' too."""
    counts = [
        [sum(n for _, n in tokens.split(text)) for text in texts] for texts in (drawn.captions, drawn.twins.captions)
    ]
    short = np.flatnonzero(np.max(counts, 0) + 2 <= tokens.length)
    if not len(short):
        raise SystemExit(f"no caption fits into the {tokens.length} tokens that the model reads")
    return scene_edits.rows_of(drawn, short)


def edited(
    config: Config, model: dj.Model, tokens: captions.TextStates, drawn: Any, share: float, blend: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The sources' pictures and the edits', [N, S, S, 3] each."""
    ts = dj.times.uniform_logsnr(model.sde, config.sampling_steps)
    until, self_until = (control.time_after(ts, s) for s in (share, min(share, config.self_share)))
    keys = dj.arrays.example_keys(jax.random.key(config.seed), len(drawn.captions))
    parts = []
    for first in range(0, len(drawn.captions), config.batch):
        chosen = np.minimum(np.arange(first, first + config.batch), len(drawn.captions) - 1)  # one compiled shape
        some = scene_edits.rows_of(drawn, chosen)
        prompts = [*map(str, some.captions), *map(str, some.twins.captions)]
        source = [*range(config.batch)] * 2
        attend = control.prompt_to_prompt(
            tokens, prompts, source, until=until, self_until=self_until, method=config.method
        )
        sampler: Any = dj.DPMpp2M()
        if blend:
            sampler = LocalBlend(sampler, attend.source, words(tokens, some), config.threshold, height=model.shape[0])
        cond = {"context": jnp.asarray(tokens(prompts), jnp.float32), "attend": attend}
        twice = jnp.concatenate([keys[chosen]] * 2)
        x = model.sample(twice, len(prompts), sampler, steps=ts, cond=cond, guidance_scale=config.scale)
        parts.append(np.asarray(x).reshape(2, config.batch, *x.shape[1:]))
    source, edit = np.clip(np.concatenate(parts, 1)[:, : len(drawn.captions)], -1, 1)
    return source, edit


def words(tokens: captions.TextStates, drawn: Any) -> jax.Array:
    """The tokens of the changed object's colour and shape, in the captions and in those of the twins, bool [2 N, M]."""
    found = []
    for part in (drawn, drawn.twins):
        for i, slot in enumerate(drawn.edited):
            named = [list(COLOURS)[part.colours[i, slot]], list(SHAPES)[part.classes[i, slot]]]
            found.append(control.tokens_of_words(tokens, [str(part.captions[i])], named)[0])
    return jnp.stack(found)


def kept(reader: scene_reader.SceneReader, source: np.ndarray, edit: np.ndarray, drawn: Any) -> float:
    """The mean absolute difference of two pictures where neither has the changed object, nor a pixel beside it."""
    old, new = (pair[:, None, None] for pair in scene_edits.changed_pairs(drawn))
    seen = [reader.read(x) for x in (source, edit)]
    there = np.any([(one == old) | (one == new) for one in seen], 0)
    beside = np.asarray(ndimage.binary_dilation(there, np.ones((1, 3, 3))), bool)
    return float(np.abs(source - edit).mean(-1)[~beside].mean())


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

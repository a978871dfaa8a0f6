"""Latent models of scenes that are told where: layouts, maps, small pictures, pictures with a hole; image to image.

    python experiments/text_to_image.py                                             # the model that these begin from
    python experiments/scene_judge.py --preset segmenter                            # or the committed judges
    python experiments/latent_conditions.py --begin runs/text_to_image              # preset layout
    python experiments/latent_conditions.py --preset semantic --begin runs/text_to_image
    python experiments/latent_conditions.py --preset super-resolution --begin runs/text_to_image
    python experiments/latent_conditions.py --preset inpainting --begin runs/text_to_image
    python experiments/latent_conditions.py --preset img2img --weights runs/text_to_image       # trains nothing

Each takes about half an hour on two CPU cores, img2img a few minutes. `weights/layout-scenes.safetensors` was trained
for 4,000 steps, 26 minutes, 2026-11-30: at scale 3 the overlap (IoU) of wanted and found boxes is 0.67, of true
pictures 0.80. With --steps 3000, 1600, 2000 (20, 9, 12 minutes) semantic, super-resolution and inpainting reach, with a
caption (without): pixels of the class that was given 0.97 (0.95), of objects 0.85 (0.69); pairs of colour and shape
0.83 (0.12); pairs of hidden objects 0.86 (0.04). RESULTS.md has more.

The U-Net is that of `text_to_image.py`. Its further inputs begin as zeros, all else with the text model's weights;
without --begin everything is new. A tenth of the examples lose their context, for guidance, and never what is joined.

    preset             context                 joined to the 4 channels of the latent          judged by
    layout             a token for each object                                                 boxes that are found
    semantic           captions                shares of 9 colours and 7 shapes in a cell: 20  pixels of each class
    super-resolution   captions                the picture of 8 x 8 pixels: 7                  PSNR; pairs found
    inpainting         captions                mask, and latent of the rest: 9                 the hidden object's pair
    img2img            captions                nothing; SDEdit of latents, by `strength`       what changed and what not

Rows: true pictures, what the codec leaves of them, and each guidance scale; scale 0 is the null condition, "no text"
(of layout: no layout). A model that has never seen a text is that of --drop 1. The judges took no part in training:
`scene_judge.py` reads which pairs of colour and shape are in a picture, its segmenter where. Scenes of "test", and for
layout and semantic also of "heldout", the split in which each scene has a pair that was never trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import OmitArgPrefixes, Suppress

import diffjax as dj
from diffjax import conditions, data, nn, plots, train
from diffjax.data import scenes
from diffjax.data.scene_drawing import COLOURS, SHAPES, palette
from diffjax.runs import captions, experiment, judges, latent_run, scene_edits, scene_figures, scene_reader
from diffjax.spatial_conditions import BoxTokens, class_map, masked_latents, small_picture

WEIGHTS = Path(__file__).with_name("weights")
TOKENS = BoxTokens((len(SHAPES), len(COLOURS)))
Drawn = Any  # scenes.Pictures
Encode = Callable[[list[str]], np.ndarray]
Figures = Callable[[np.ndarray], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Config:
    task: Literal["layout", "semantic", "super-resolution", "inpainting", "img2img"] = "layout"
    """What the model is told; each preset has its own."""
    count: int = 60_000
    """Scenes to train on."""
    size: int = 32
    data_dir: Path | None = None
    """Where prepared data and encoded captions are kept; default: DIFFJAX_DATA or ~/.cache/diffjax."""
    begin: Path | None = None
    """A model to begin from, that of `text_to_image.py`: its network, its codec, and the weights that fit."""
    codec: Path = WEIGHTS / "codec.safetensors"
    """The autoencoder of `autoencoder.py --preset kl`, where there is no model to begin from."""
    judge: Path = WEIGHTS / "scene-judge.safetensors"
    """The judge of pairs, of `scene_judge.py`."""
    segmenter: Path = WEIGHTS / "scene-segmenter.safetensors"
    """The judge of pixels, of `scene_judge.py --preset segmenter`."""
    net: Suppress[nn.ConditionalUNet] = latent_run.SMALL
    length: int = 32
    """Tokens of a caption in training; a model keeps their number."""
    drop: float = 0.1
    """Share of the examples that lose their context; 1: a model without text."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=7e-4, lr_end=1e-5, warmup=200, ema=(0.998,)
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=6000, log_every=100, checkpoint_every=1000, sample_every=0
    )
    batch_size: int = 64
    samples: int = 500
    """Pictures for each split and each scale."""
    sampling_steps: int = 20
    """Steps of DPM++ 2M."""
    scales: tuple[float, ...] = (0.0, 1.0, 3.0)
    """Guidance scales that are compared; the last one is that of img2img."""
    strengths: tuple[float, ...] = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)
    """Of img2img."""
    weights: Path | None = None
    """A model to judge in place of training; that of img2img."""
    seed: int = 0
    workdir: Path = Path("runs/layout")


def main(config: Config) -> dict[str, Any]:
    workdir = config.workdir if config.weights is None or config.task == "img2img" else config.workdir / "measured"
    config = dataclasses.replace(config, workdir=workdir)
    if config.task == "img2img" and config.weights is None:
        raise SystemExit("img2img trains nothing: give --weights, a model of text_to_image.py")
    latent_run.check(config)
    pairs = latent_run.scene_judge(config.judge)
    reader = scene_reader.SceneReader(dj.load(config.segmenter)) if config.task in ("layout", "semantic") else None
    experiment.start(workdir, config)
    if config.weights is None:
        model, summary = fit(config)
        latent_run.keep(workdir, model, "scenes", summary)  # whatever becomes of judging
    else:
        width = TOKENS.width if config.task == "layout" else latent_run.MINILM_WIDTH
        model, summary = latent_run.text_model(config.weights, width), {}
    summary |= edited(config, model, pairs) if config.task == "img2img" else measure(config, model, pairs, reader)
    if config.weights is None:
        latent_run.keep(workdir, model, "scenes", summary)
    experiment.finish(workdir, summary)
    return summary


def fit(config: Config) -> tuple[dj.Model, dict[str, Any]]:
    """The trained model and the summary of its training."""
    drawn = scenes.read(config.count, "train", config.size, config.data_dir)
    begin = None if config.begin is None else latent_run.text_model(config.begin, None)
    codec: Any = dj.load(config.codec) if begin is None else begin.codec
    if begin is not None:
        print(f"Network, codec and weights are those of {config.begin}")
    encode = None
    if config.task != "layout":
        encode = partial(captions.TextStates(config.length).kept, data_dir=config.data_dir)
    fields = conditioned(config, codec, drawn, encode, 0.5)
    null = {"context": 0.0} | ({"concat": conditions.Kept()} if "concat" in fields else {})
    net = config.net if begin is None else begin.network
    joined = fields["concat"].shape[-1] if "concat" in fields else 0
    net = net.clone(in_channels=codec.latent_shape[-1] + joined, context_width=fields["context"].shape[-1])
    return latent_run.fit(config, net, {"image": captions.latents(codec, drawn.images)} | fields, codec, null, begin)


def conditioned(
    config: Config, codec: dj.Codec, drawn: Drawn, encode: Encode | None, rectangles: float = 0.0
) -> dict[str, np.ndarray]:
    """The condition of scenes: {"context": [N, L, D]}, and but for layouts {"concat": [N, h, w, C]}; see `holes`."""
    if config.task == "layout":
        return {"context": TOKENS.encode(drawn.boxes, drawn.classes, drawn.colours)}
    assert encode is not None, "all but layouts have captions"
    size = codec.latent_shape[0], codec.latent_shape[1]
    if config.task == "semantic":
        maps = scene_reader.colour_and_shape(scene_reader.pair_map(drawn))
        joined = latent_run.in_batches(partial(both_maps, size=size), *maps)
    elif config.task == "super-resolution":
        joined = latent_run.in_batches(lambda x: small_picture(data.to_float(x), size), drawn.images)
    else:
        masks, _ = holes(drawn, config.seed, size[0], rectangles)
        hide = jax.jit(partial(masked_latents, codec))
        joined = latent_run.in_batches(lambda x, mask: hide(data.to_float(x), mask), drawn.images, masks)
    return {"context": encode(list(map(str, drawn.captions))), "concat": joined}


def both_maps(colours: np.ndarray, shapes: np.ndarray, size: tuple[int, int]) -> jax.Array:
    """Shares of the colours and of the shapes in each cell, with the background in both: [B, h, w, 9 + 7]."""
    maps = (colours, 1 + len(COLOURS)), (shapes, 1 + len(SHAPES))
    return jnp.concatenate([class_map(one, count, size) for one, count in maps], -1)


def holes(drawn: Drawn, seed: int, cells: int, rectangles: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """A hole in each picture, masks float32 [N, S, S, 1] with 1 inside, and the slots of the objects they hide [N].

    It is the box of an object, grown to whole cells of the latent; or, for a share of the pictures, any rectangle of
    two to six cells a side.
    """
    rng, n = np.random.default_rng(seed), len(drawn.classes)
    slots = (rng.random(n) * (drawn.classes >= 0).sum(1)).astype(int)
    boxes = drawn.boxes[np.arange(n), slots]
    low, high = np.floor(boxes[:, :2] * cells), np.ceil(boxes[:, 2:] * cells)
    sides = rng.integers(2, min(6, cells) + 1, (n, 2))
    corners = np.floor(rng.random((n, 2)) * (cells + 1 - sides))
    free = (rng.random(n) < rectangles)[:, None]
    low, high = np.where(free, corners, low), np.where(free, corners + sides, high)
    at = np.arange(cells)
    columns, rows = ((at >= low[:, i, None]) & (at < high[:, i, None]) for i in (0, 1))
    mask = (rows[:, :, None] & columns[:, None, :]).astype(np.float32)
    each = drawn.images.shape[1] // cells
    return mask.repeat(each, 1).repeat(each, 2)[..., None], slots


def measure(
    config: Config, model: dj.Model, pairs: judges.SceneJudge, reader: scene_reader.SceneReader | None
) -> dict[str, float]:
    """The judges' figures of scenes that were not trained on, at each scale, beside true pictures and the codec's."""
    codec: Any = model.codec
    through = jax.jit(lambda x: codec.decode(codec.encode(x)))
    encode = None if config.task == "layout" else captions.TextStates(model.network.context_length)
    figures: dict[str, float] = {}
    for split in ("test", "heldout") if config.task in ("layout", "semantic") else ("test",):
        wanted = scenes.make(scene_figures.AFTERWARDS + np.arange(config.samples), config.size, split)
        fields = conditioned(config, codec, wanted, encode)
        true = data.to_float(wanted.images)
        figure, given = judged(config, wanted, codec.latent_shape[0], pairs, reader)
        rows = {"given": given, "true pictures": true, "codec": np.clip(latent_run.in_batches(through, true), -1, 1)}
        if config.task == "super-resolution":
            small = jnp.asarray(fields["concat"])
            rows["bilinear"] = np.asarray(jax.image.resize(small, true.shape, "bilinear"))
        for scale in config.scales:
            how = {"steps": config.sampling_steps, "guidance_scale": scale}
            rows[f"scale {scale:g}"] = latent_run.draw(model, jax.random.key(config.seed + 1), fields, **how)
        for of, x in list(rows.items())[1:]:
            found = figure(x)
            print(f"{split:<8} {of:<14}", *(f"{name} {value:.3f} " for name, value in found.items()), flush=True)
            figures |= {f"{split}, {of}, {name}": value for name, value in found.items()}
        plots.image_rows(config.workdir / f"{split}.png", {name: x[:16] for name, x in rows.items()})
    return figures


def judged(
    config: Config, wanted: Drawn, cells: int, pairs: judges.SceneJudge, reader: scene_reader.SceneReader | None
) -> tuple[Figures, np.ndarray]:
    """A function of pictures, their figures; and what the model was given of the first sixteen, to look at."""
    true = data.to_float(wanted.images)
    if reader is not None:
        maps = scene_reader.pair_map(wanted)
        if config.task == "semantic":
            return lambda x: reader.map_figures(x, maps), in_colour(maps[:16])
        binding = lambda x: {"binding": pairs(x, wanted)["binding"]}  # noqa: E731
        return lambda x: reader.box_figures(x, wanted) | binding(x), in_colour(outlines(wanted, config.size))
    if config.task == "super-resolution":
        psnr = lambda x: {"psnr": psnr_of(x, true, np.ones_like(true[..., :1]))}  # noqa: E731
        small = np.asarray(small_picture(true[:16], (cells, cells)))
        each = config.size // cells
        return lambda x: psnr(x) | pairs(x, wanted), small.repeat(each, 1).repeat(each, 2)
    masks, slots = holes(wanted, config.seed, cells)
    hidden = scene_edits.only(wanted, np.arange(3) == slots[:, None])

    def inpainted(x: np.ndarray) -> dict[str, float]:
        inside, outside = (psnr_of(x, true, m) for m in (masks, 1 - masks))
        seen = pairs(x, hidden)
        return {"hole psnr": inside, "known psnr": outside} | {k: seen[k] for k in ("colour", "shape", "binding")}

    return inpainted, (true * (1 - masks))[:16]


def psnr_of(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
    """The mean PSNR in dB over the pixels where a mask [N, S, S, 1] is 1; 106 of equal pictures."""
    axes = (1, 2, 3)
    error = ((x - y) ** 2 * mask).sum(axes) / np.maximum(mask.sum(axes) * x.shape[-1], 1)
    return float(np.mean(10 * np.log10(4 / np.maximum(error, 1e-10))))


def in_colour(maps: np.ndarray) -> np.ndarray:
    """Maps of pairs as pictures in [-1, 1], on white."""
    colours, _ = scene_reader.colour_and_shape(maps)
    return np.concatenate([[[255.0] * 3], palette()])[colours].astype(np.float32) / 127.5 - 1


def outlines(wanted: Drawn, size: int) -> np.ndarray:
    """The boxes of the first sixteen scenes as maps."""
    maps = np.zeros((min(16, len(wanted.boxes)), size, size), np.uint8)
    for one, boxes, pair in zip(maps, wanted.boxes, len(SHAPES) * wanted.colours + wanted.classes, strict=False):
        for (x0, y0, x1, y1), kind in zip((boxes * (size - 1)).round().astype(int), pair, strict=True):
            if kind >= 0:
                one[[y0, y1], x0 : x1 + 1] = one[y0 : y1 + 1, [x0, x1]] = 1 + kind
    return maps


def edited(config: Config, model: dj.Model, judge: judges.SceneJudge) -> dict[str, float]:
    """Image to image: scenes under the captions of their twins, of another colour or shape, at each strength.

    "edit" and "old" are how often the judge sees the changed object's new and old pair, "others" how many of the other
    objects; "kept psnr" is that of the pixels which the twin shares with the picture.
    """
    drawn = scene_edits.recoloured(config.samples, config.size)
    changed = (drawn.masks | drawn.twins.masks)[np.arange(len(drawn.edited)), drawn.edited]
    source, twin = data.to_float(drawn.images), data.to_float(drawn.twins.images)
    states = captions.TextStates(model.network.context_length)(list(map(str, drawn.twins.captions)))
    rows = {"source": source, "twin": twin}
    rows |= {f"strength {s:g}": edit(config, model, source, states, s) for s in config.strengths}
    figures: dict[str, float] = {}
    for of, x in rows.items():
        found = scene_edits.edit_figures(judge, x, drawn) | {"kept psnr": psnr_of(x, source, 1.0 - changed[..., None])}
        print(f"{of:<14}", *(f"{name} {value:.3f} " for name, value in found.items()), flush=True)
        figures |= {f"{of}, {name}": value for name, value in found.items()}
    plots.image_rows(config.workdir / "img2img.png", {name: x[:16] for name, x in rows.items()})
    return figures


def edit(config: Config, model: dj.Model, x: np.ndarray, states: np.ndarray, strength: float) -> np.ndarray:
    keys = dj.arrays.example_keys(jax.random.key(config.seed + 1), len(x))

    def some(x: np.ndarray, states: np.ndarray, rows: np.ndarray) -> jax.Array:
        cond = {"context": jnp.asarray(states, jnp.float32)}
        how: dict[str, Any] = dict(steps=config.sampling_steps, cond=cond, guidance_scale=config.scales[-1])
        return model.sdedit(keys[rows], jnp.asarray(x), strength, **how)

    return np.clip(latent_run.in_batches(some, x, states, np.arange(len(x)), batch_size=125), -1, 1)


def preset(task: Any, **changes: Any) -> Callable[[], Config]:
    return lambda: Config(task=task, workdir=Path("runs") / task.replace("-", "_"), **changes)


PRESETS = {
    "layout": preset("layout"),
    "semantic": preset("semantic"),
    "super-resolution": preset("super-resolution"),
    "inpainting": preset("inpainting"),
    "img2img": preset("img2img"),
}

if __name__ == "__main__":
    main(experiment.configure(PRESETS, __doc__))

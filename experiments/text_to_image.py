"""Text to image in a latent space (Rombach et al. 2022), on captioned pictures, judged by networks that took no part.

    make data                                                                   # MiniLM, and the emoji
    python experiments/autoencoder.py --preset kl                               # or the committed codec
    python experiments/text_to_image.py                                         # preset cpu-scenes
    python experiments/text_to_image.py --preset cpu-emoji --begin runs/text_to_image --steps 8000
    python experiments/text_to_image.py --weights runs/text_to_image --prompt "a large red ring left of a blue star"

The U-Net is Stable Diffusion's with other numbers, its latents 8 x 8 x 4, its text the states of MiniLM (frozen), which
a tenth of the examples lose, for guidance. Captions are encoded once and kept. The run leaves the whole model, codec
included, as `ema.safetensors`: `dj.load(folder).sample(key, n, cond={"context": states})` returns pictures.

cpu-scenes: `scene_judge.py` reads which colours, shapes and pairs of both are in the pictures for captions of "test"
and of "heldout", the split in which each caption has a pair that was never trained on. The committed model,
`weights/text-to-image-scenes.safetensors`, was trained for 40,000 steps in four parts, four hours on two shared CPU
cores, 2026-11-30: at scale 3 it draws 0.86 of the pairs, and 0.76 of "heldout". `--begin` goes on from it.

cpu-emoji: a CLIP tells which of ten captions a picture was drawn for, of captions that were trained on and of others.
`weights/text-to-image-emoji.safetensors` began as the committed model of scenes: 8,000 steps, 53 minutes, 2026-11-30.
At scale 3 it is right for 0.90 of the pictures (true ones 0.99) and for 0.67 of those of captions that were never
trained on (true ones 0.62: the judge has learnt from the same captions as the model); the Fréchet distance is 205
(floor 56).
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import jax
import numpy as np
from tyro.conf import OmitArgPrefixes, Suppress

import diffjax as dj
from diffjax import data, nn, plots, pretrained, train
from diffjax.data import packages, scenes
from diffjax.runs import captions, experiment, judges, latent_run, scene_figures

WEIGHTS = Path(__file__).with_name("weights")
LARGE = nn.ConditionalUNet(channels=(192, 384), layers=2, attention=(True, True), heads=8, context_width=384)


@dataclasses.dataclass(frozen=True)
class Config:
    data: Literal["scenes", "emoji"] = "scenes"
    count: int = 60_000
    """Scenes to train on."""
    size: int = 32
    data_dir: Path | None = None
    """Where prepared data and encoded captions are kept; default: DIFFJAX_DATA or ~/.cache/diffjax."""
    codec: Path = WEIGHTS / "codec.safetensors"
    """The autoencoder of `autoencoder.py --preset kl`."""
    judge: Path = WEIGHTS / "scene-judge.safetensors"
    """The judge of scenes, of `scene_judge.py`."""
    net: Suppress[nn.ConditionalUNet] = latent_run.SMALL
    length: int = 32
    """Tokens of a caption in training; a model keeps their number. The committed one of scenes reads 40."""
    drop: float = 0.1
    """Share of the examples that lose their caption."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig(
        lr=1e-3, lr_end=1e-5, warmup=200, ema=(0.999,)
    )
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig(
        steps=30_000, log_every=100, checkpoint_every=1000, sample_every=0
    )
    batch_size: int = 64
    begin: Path | None = None
    """The weights of such a model to begin from."""
    samples: int = 500
    """Pictures for each set of captions and each scale."""
    sampling_steps: int = 20
    """Steps of DPM++ 2M."""
    scales: tuple[float, ...] = (1.0, 3.0, 6.0)
    """Guidance scales that are compared."""
    weights: Path | None = None
    """A model to sample from, and to judge, in place of training."""
    prompt: tuple[str, ...] = ()
    """Draw these, sixteen pictures each, and judge nothing; without --weights after training."""
    seed: int = 0
    workdir: Path = Path("runs/text_to_image")


def main(config: Config) -> dict[str, Any]:
    workdir = config.workdir if config.weights is None else config.workdir / "measured"
    config = dataclasses.replace(config, workdir=workdir)
    latent_run.check(config)
    judge = latent_run.scene_judge(config.judge) if config.data == "scenes" and not config.prompt else None
    experiment.start(workdir, config)
    model, summary = fit(config) if config.weights is None else (latent_run.text_model(config.weights), {})
    if config.weights is None:
        latent_run.keep(workdir, model, config.data, summary)  # whatever becomes of judging
    encode = captions.TextStates(model.network.context_length)
    if config.prompt:
        x = [draw(config, model, encode([prompt] * 16), config.scales[-1]) for prompt in config.prompt]
        plots.image_rows(workdir / "prompts.png", dict(zip(config.prompt, x, strict=True)))
        summary["pictures"] = str(workdir / "prompts.png")
    elif judge is not None:
        summary |= measure_scenes(config, model, encode, judge)
    else:
        summary |= measure_emoji(config, model, encode)
    if config.weights is None:
        latent_run.keep(workdir, model, config.data, summary)
    experiment.finish(workdir, summary)
    return summary


def training_set(config: Config) -> tuple[np.ndarray, list[str]]:
    """Pictures uint8 [N, S, S, 3] and their captions."""
    if config.data == "scenes":
        drawn = scenes.read(config.count, "train", config.size, config.data_dir)
        return drawn.images, list(map(str, drawn.captions))
    images = data.load("emoji", config.data_dir, size=config.size)
    return images.train_images, list(images.train_captions or ())


def fit(config: Config) -> tuple[dj.Model, dict[str, Any]]:
    """The trained model and the summary of its training."""
    encode = captions.TextStates(config.length)
    images, texts = training_set(config)
    codec: dj.Codec = dj.load(config.codec)
    fields = {"image": captions.latents(codec, images), "context": encode.kept(texts, config.data_dir)}
    begin = None if config.begin is None else latent_run.text_model(config.begin, None)
    return latent_run.fit(config, config.net, fields, codec, {"context": 0.0}, begin)


def draw(config: Config, model: dj.Model, states: np.ndarray, scale: float) -> np.ndarray:
    """A picture for each row of states, [N, S, S, 3] in [-1, 1]."""
    how = {"steps": config.sampling_steps, "guidance_scale": scale}
    return latent_run.draw(model, jax.random.key(config.seed + 1), {"context": states}, **how)


def measure_scenes(
    config: Config, model: dj.Model, encode: captions.TextStates, judge: judges.SceneJudge
) -> dict[str, float]:
    """What the judge sees of captions of "test" and "heldout", at each scale, beside what it sees of true pictures."""
    ways = {f"scale {scale:g}": partial(draw, config, model, scale=scale) for scale in config.scales}
    return scene_figures.measure(judge, ways, encode, config.samples, config.size, config.workdir)


def measure_emoji(config: Config, model: dj.Model, encode: captions.TextStates) -> dict[str, float]:
    """How often the judge takes a picture's caption out of ten, and distances from the training images, at each scale.

    The captions are those of "train" and those of "test", emoji that were not trained on; beside the pictures that were
    drawn, true ones and what the codec leaves of them are judged.
    """
    images, codec = data.load("emoji", config.data_dir, size=config.size), cast(dj.Codec, model.codec)
    clip, minilm = dj.load(WEIGHTS / "emoji-clip-judge.safetensors"), packages.find(*pretrained.MINILM)
    rng = np.random.default_rng(config.seed)
    ways = {f"scale {scale:g}": partial(draw, config, model, scale=scale) for scale in config.scales}
    figures: dict[str, float] = {}

    def add(of: str, found: dict[str, Any]) -> None:
        known = {name: value for name, value in found.items() if value is not None}
        print(f"{of:<20}", *(f"{name} {value:.3g} " for name, value in known.items()), flush=True)
        figures.update({f"{of}, {name}": value for name, value in known.items()})

    parts = {"train": (images.train_images, images.train_captions), "test": (images.test_images, images.test_captions)}
    for part, (pictures, given) in parts.items():
        texts, choices, own = judges.one_of_ten(rng, given or (), config.samples)
        judge = judges.caption_judge(clip, images.shape, pretrained.sentence_vectors(minilm, texts), choices)
        true = data.to_float(pictures[own])
        through = latent_run.in_batches(jax.jit(lambda x: codec.decode(codec.encode(x))), true)
        states = encode(texts)[choices[:, 0]]
        rows = {"true pictures": true, "codec": np.clip(through, -1, 1)} | {of: way(states) for of, way in ways.items()}
        for of, x in rows.items():
            add(f"{part}, {of}", judge(x))
        plots.image_rows(config.workdir / f"{part}.png", {of: x[:16] for of, x in rows.items()})
    distance = judges.judge(images) or (lambda x: {})
    states = encode(rng.choice(np.asarray(images.train_captions), max(config.samples, 1000)).tolist())
    for of, way in ways.items():
        add(of, distance(way(states)))
    return figures


def cpu_emoji() -> Config:
    return Config(data="emoji", length=24, samples=500, workdir=Path("runs/text_to_image_emoji"))


def emoji_64() -> Config:
    """For accelerators: emoji of 64 x 64 and a large U-Net; not run yet.

    Its codec is of 64 x 64 pictures: `autoencoder.py --preset kl --data folder --data.path DIR --data.size 64`.
    """
    return dataclasses.replace(
        cpu_emoji(),
        size=64,
        net=LARGE,
        codec=Path("runs/autoencoder_64"),
        optim=train.OptimConfig(lr=2e-4, lr_end=1e-5, warmup=2000, ema=(0.9999,)),
        loop=train.LoopConfig(steps=200_000, log_every=200, checkpoint_every=5000, sample_every=0),
        batch_size=256,
        workdir=Path("runs/text_to_image_64"),
    )


if __name__ == "__main__":
    main(experiment.configure({"cpu-scenes": Config, "cpu-emoji": cpu_emoji, "emoji-64": emoji_64}, __doc__))

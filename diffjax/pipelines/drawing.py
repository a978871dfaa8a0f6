"""The compiled program of a pipeline, and its settings: noise or a picture, the reverse process, the decoder.

One program serves every prompt, seed, guidance scale, strength and number of steps (up to `BOUND`, 2 `BOUND`, ...) of
one solver, size and batch size.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax import constraints, guidance
from diffjax.arrays import normal, split
from diffjax.checks import check_count, check_number
from diffjax.model import Model
from diffjax.pipelines.solvers import Plan
from diffjax.samplers import sample
from diffjax.samplers.sdedit import sdedit
from diffjax.spatial_conditions import cells_of_mask, masked_latents
from diffjax.typing import Cond, Key, Sampler

BOUND = 64  # steps of one compiled program; twice as many, and so on, where there are more


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures are drawn. Prompts, seeds, and what is marked * change without a new compilation.

    Attributes:
      solver: a name of `pipelines.solvers.names()`; None: the model's own.
      steps: * their number.
      scale: * of classifier-free guidance, above 0; None for none, and half of the evaluations.
      size: (height, width) of the pictures, multiples of 8; None: what the model was trained on, or the picture's.
      rescale: * phi of `guidance.cfg`; None for none.
      clip_skip: blocks at the end of the text encoder that are left out (webui's "clip skip" less 1), for both prompts;
        diffusers leaves them out for the positive one alone.
      restore_mean: whether the states of a prompt with weights get the mean that they had without; see `text.weigh`.
      spacing: * of the times, "leading", "trailing" or "linspace"; None: see `solvers.plan`.
      batch_size: pictures at a time; None for all at once.
      tile: side in pixels of the tiles in which large pictures are decoded, with less memory (`codec.tiled`); None for
        whole pictures.
      progress: called after each batch with the number of pictures that are drawn, and of all.
    """

    solver: str | None = None
    steps: int = 30
    scale: float | None = 7.5
    size: tuple[int, int] | None = None
    rescale: float | None = None
    clip_skip: int = 0
    restore_mean: bool = True
    spacing: str | None = None
    batch_size: int | None = None
    tile: int | None = None
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self):
        check_count("steps", self.steps)
        check_count("clip_skip", self.clip_skip, 0)
        for name, high in (("scale", np.inf), ("rescale", 1)):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0, high)
        if self.scale == 0:
            raise ValueError(
                "a scale of 0 would leave the prompts out: None is for no guidance, as "
                'guidance_scale=0 of diffusers is, and the prompt "" for pictures without one'
            )
        if self.size is not None:
            if not isinstance(self.size, list | tuple) or len(self.size) != 2:
                raise ValueError(f"size is (height, width), got {self.size!r}")
            for name, side in zip(("height", "width"), self.size, strict=True):
                check_count(name, side)
        for name in ("batch_size", "tile"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))


def draw(
    model: Model,
    plan: Plan,
    size: tuple[int, int],
    settings: Settings,
    start: dict[str, Any],
    conds: tuple[Cond, Cond],
    more: Mapping[str, float] | None = None,
    decoded: bool = True,
) -> np.ndarray:
    """Pictures [B, *size, 3] of conditions and null conditions of B examples, a batch at a time.

    Args:
      plan: the run; its times may be the end of a grid.
      start: "keys" [B]; and perhaps "latents" [B, h, w, C] at the first time, or "image" [B, H, W, 3], with which a run
        begins in place of noise, "mask" [B, H, W, 1], 1 where the image is painted anew, and "noisy" [B], if it begins
        with noise all the same. What the U-Net sees besides: "concat" [B, h, w, C] as it is, "seen" [B, H, W, 3] as
        latents without their scale, "small" [B, h, w, 3] with noise.
      more: numbers that change without a new compilation: "image_scale" of what is seen, "alpha" and "sigma" of the
        small picture's noise.
      decoded: false for latents [B, h, w, C] at the last time in place of pictures.

    Raises:
      ValueError: a picture holds NaN or infinite values, or tiles do not divide into latents.
    """
    factor = model.codec.shape[0] // model.shape[0]  # type: ignore[union-attr]
    if settings.tile is not None and settings.tile % factor:
        raise ValueError(f"tile must be a multiple of {factor} pixels, those of one latent, got {settings.tile}")
    tile = None if settings.tile is None else settings.tile // factor
    steps = BOUND
    while steps < len(plan.ts) - 1:
        steps *= 2
    numbers: dict[str, Any] = {"ts": constraints.pad_grid(plan.ts, steps)}
    given = {"noise": plan.noise, "scale": settings.scale, "rescale": settings.rescale, **(more or {})}
    numbers |= {name: None if value is None else np.float64(value) for name, value in given.items()}
    n = len(start["keys"])
    at_once, parts = min(settings.batch_size or n, n), []
    for i in range(0, n, at_once):
        rows = np.minimum(np.arange(i, i + at_once), n - 1)  # one compiled shape: the last batch is filled up
        batch, both = jax.tree.map(lambda x, rows=rows: x[rows], (start, conds))
        found = _pictures(model, plan.sampler, size, numbers, batch, both, decoded, tile)
        parts.append(np.asarray(found))
        if settings.progress is not None:
            settings.progress(min(i + at_once, n), n)
    found = np.concatenate(parts)[:n]
    if lost := int((~np.isfinite(found)).any((1, 2, 3)).sum()):
        raise ValueError(
            f"{lost} of {n} pictures hold NaN or infinite values: the weights, or a LoRA, may be damaged; if not, take "
            "dtype float32 or a smaller scale"
        )
    return found


@partial(jax.jit, static_argnames=("size", "decoded", "tile"))
def _pictures(
    model: Model,
    sampler: Sampler,
    size: tuple[int, int],
    numbers: Any,
    start: Any,
    conds: Any,
    decoded: bool = True,
    tile: int | None = None,
) -> Array:
    codec: Any = model.codec
    factor = codec.shape[0] // model.shape[0]
    k_noise, k_steps, k_image, k_more = split(start["keys"], 4)
    n = len(k_noise)
    z0: Any = None
    mask = None
    if "image" in start:
        z0 = codec.encode(start["image"], k_image)
    if "mask" in start:
        mask = cells_of_mask(start["mask"], (size[0] // factor, size[1] // factor))
    joined = _joined(model, numbers, start, mask, k_more)
    if joined is not None:
        conds, mask = tuple(c | {"concat": joined} for c in conds), None
    if mask is not None:
        sampler = constraints.inpaint(sampler, z0, 1 - mask)
    denoise, cond = guided(model, numbers, *conds)
    run = denoise, model.sde, constraints.Padded(sampler), numbers["ts"]
    if "latents" in start:
        z = sample(k_steps, *run, start["latents"], cond)
    elif z0 is None or "noisy" in start:
        shape = (n, *(side // factor for side in size), model.shape[-1])
        z = sample(k_steps, *run, numbers["noise"] * normal(k_noise, jnp.zeros(shape)), cond)
    else:
        z = sdedit(k_steps, *run, z0, cond)
    if mask is not None and z0 is not None:  # a grid that ends above t = 0 leaves the noise of its end on what is known
        z = jnp.where(mask > 0, z, z0)
    return codec.decode(z, tile=tile) if decoded else z


def _joined(model: Model, numbers: Any, start: Any, mask: Array | None, key: Key) -> Array | None:
    """What the U-Net sees besides the latents [B, h, w, C], or None."""
    codec: Any = model.codec
    if mask is not None and model.network.in_channels > model.shape[-1]:
        return masked_latents(codec, start["image"], start["mask"], key)
    if "seen" in start:
        return codec.encode(start["seen"]) / codec.scale + codec.shift
    if "small" in start:
        return numbers["alpha"] * start["small"] + numbers["sigma"] * normal(key, start["small"])
    return start.get("concat")


def guided(model: Model, numbers: Any, cond: Any, null: Any) -> tuple[Any, Any]:
    """(denoiser, condition) under classifier-free guidance, all parts in one call; without a scale as they are."""
    scale, rescale = numbers["scale"], numbers["rescale"]
    if model.network.guidance_width:  # an LCM: the scale is an input of the network
        n = len(cond["context"])
        return model.denoise, cond | {"scale": jnp.broadcast_to(1.0 if scale is None else scale, (n,))}
    if scale is None:
        return model.denoise, cond
    if numbers.get("image_scale") is None:
        return guidance.cfg(model.denoise, scale, null, rescale=rescale, batched=True), cond
    nothing = null | {"concat": jnp.zeros_like(null["concat"])}
    return guidance.dual_cfg(model.denoise, scale, numbers["image_scale"], null, nothing, rescale=rescale), cond

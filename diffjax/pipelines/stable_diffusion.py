"""Stable Diffusion 1.x, 2.x and XL as one object: prompts -> pictures, with networks in the types of this library.

    pipe = load_stable_diffusion("stable-diffusion-v1-5")                      # a folder in the hub's layout
    x = pipe.text_to_image(jax.random.key(0), ["a red fox"] * 4, "blurry")     # [4, 512, 512, 3] in [-1, 1]

`pipe.model` is a `dj.Model` of latents with its codec, and so everything of this library takes it: `pipe.model.denoise`
and `pipe.model.sde`, whose integer times t = 1 ... 1000 are the network's indices t - 1.

Sources: Rombach et al. 2022; Podell et al. 2023 (XL); the conventions of diffusers 0.42, where one had to be chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax import constraints, guidance
from diffjax.arrays import example_keys, normal, split
from diffjax.checks import check_count, check_key, check_number
from diffjax.codec import Codec
from diffjax.model import Model
from diffjax.pipelines import solvers
from diffjax.pipelines.prompts import Tower, encode_prompts
from diffjax.pretrained.stable_diffusion import Schedule
from diffjax.samplers import sample
from diffjax.text.clip_bpe import Tokenizer, check_texts
from diffjax.typing import Cond, Key, Sampler

BOUND = 64  # steps of one compiled program; twice as many, and so on, where there are more


@dataclasses.dataclass(frozen=True)
class Settings:
    """How pictures are drawn. Prompts, seeds, and what is marked * change without a new compilation.

    Attributes:
      solver: a name of `pipelines.solvers.names()`; None: the model's own.
      steps: * their number.
      scale: * of classifier-free guidance; None for none, and half of the evaluations.
      size: (height, width) of the pictures, multiples of 8; None: what the model was trained on.
      rescale: phi of `guidance.cfg`; None for none.
      clip_skip: blocks at the end of the text encoder that are left out (webui's "clip skip" less 1).
      spacing: * of the times, "leading", "trailing" or "linspace"; None: see `solvers.plan`.
      batch_size: pictures at a time; None for all at once.
    """

    solver: str | None = None
    steps: int = 30
    scale: float | None = 7.5
    size: tuple[int, int] | None = None
    rescale: float | None = None
    clip_skip: int = 0
    spacing: str | None = None
    batch_size: int | None = None

    def __post_init__(self):
        check_count("steps", self.steps)
        check_count("clip_skip", self.clip_skip, 0)
        for name in ("scale", "rescale"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), 0)
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)


class Encoded(NamedTuple):
    """Conditions of B prompts, and what takes their place in guidance."""

    cond: Cond
    null: Cond


@dataclasses.dataclass(frozen=True, eq=False)
class StableDiffusion:
    """The parts of a pipeline; `load_stable_diffusion` makes one of files, and `dataclasses.replace` a changed one.

    Attributes:
      model: the U-Net, its process, prediction and codec.
      towers: of text, one, or two of XL; each with its tokenizer.
      tokenizers: of the towers.
      schedule: the model's grid of times and its solver.
      zero_null: whether an absent negative prompt is encoded as zeros (XL), or as the empty text.
      notes: what reading did that the files do not say.
    """

    model: Model
    towers: tuple[Tower, ...]
    tokenizers: tuple[Tokenizer, ...]
    schedule: Schedule
    zero_null: bool = False
    notes: tuple[str, ...] = ()

    @property
    def codec(self) -> Codec:
        assert self.model.codec is not None
        return self.model.codec

    @property
    def factor(self) -> int:
        """Pixels of a picture's side for one of the latents."""
        return self.codec.shape[0] // self.model.shape[0]

    def encode(
        self, prompts: Sequence[str], negative: str | Sequence[str] | None = None, settings: Settings = Settings()
    ) -> Encoded:
        """B prompts -> their conditions, with weights and chunks as `text.prompts` has them.

        Args:
          negative: one for all, or one each; None: none.

        Raises:
          TypeError: prompts are a single string, or no strings.
          ValueError: there is none, or another number of negative ones.
        """
        texts = check_texts(prompts)
        if not texts:
            raise ValueError("expected at least one prompt, got none")
        others = [negative or ""] * len(texts) if negative is None or isinstance(negative, str) else list(negative)
        if len(others) != len(texts):
            raise ValueError(f"expected one negative prompt, or {len(texts)}, got {len(others)}")
        both = encode_prompts(self.towers, self.tokenizers, [*others, *texts], settings.clip_skip)
        null, cond = ({name: x[part] for name, x in both.items()} for part in _halves(len(texts)))
        net = self.model.network
        null = {name: x for name, x in null.items() if name != "pooled" or net.pooled_width}
        cond = {name: x for name, x in cond.items() if name in null}
        if self.zero_null and negative is None:
            null = {name: np.zeros_like(x) for name, x in null.items()}
        if net.size_count:
            sizes = _sizes(net.size_count, self._size(settings))
            cond, null = cond | {"sizes": [sizes[0]] * len(texts)}, null | {"sizes": [sizes[1]] * len(texts)}
        return Encoded(*({n: np.asarray(x, np.float32) for n, x in c.items()} for c in (cond, null)))

    def text_to_image(
        self,
        key: Key,
        prompts: Sequence[str],
        negative: str | Sequence[str] | None = None,
        settings: Settings = Settings(),
    ) -> np.ndarray:
        """A picture for each of B prompts: [B, H, W, 3] in [-1, 1].

        Args:
          key: one key, of which picture i is the same for every number and batch size; or a key for each picture [B].
          negative: one prompt for all, or one each, that guidance leads away from.

        Raises:
          ValueError: as `encode` and `solvers.plan`; a side is no multiple of `factor`; the model needs a picture.
        """
        net = self.model.network
        if net.in_channels != self.model.shape[-1]:
            raise ValueError(
                f"this U-Net has in_channels = {net.in_channels}: besides the prompt it takes a picture and a mask "
                "(`inpaint`), or another condition"
            )
        chosen = self._plan(settings)
        keys = example_keys(check_key(key) or key, len(check_texts(prompts)))
        start = {"keys": keys}
        return self._draw(start, self.encode(prompts, negative, settings), chosen, settings)

    def _plan(self, settings: Settings) -> solvers.Plan:
        name = settings.solver or solvers.own_solver(self.schedule)
        return solvers.plan(name, self.schedule, settings.steps, settings.spacing)

    def _size(self, settings: Settings) -> tuple[int, int]:
        size, f = settings.size or self.codec.shape[:2], self.factor
        if len(size) != 2 or any(side < f or side % f for side in size):
            raise ValueError(f"height and width must be multiples of {f} pixels, got {' x '.join(map(str, size))}")
        return size[0], size[1]

    def _draw(self, start: dict[str, Any], encoded: Encoded, chosen: solvers.Plan, settings: Settings) -> np.ndarray:
        """Pictures from the conditions, a batch at a time; `start` has keys [B], and perhaps latents and a mask."""
        f, n = self.factor, len(start["keys"])
        H, W = self._size(settings)
        steps = BOUND
        while steps < len(chosen.ts) - 1:
            steps *= 2
        ts = constraints.pad_grid(chosen.ts.astype(np.float32), steps)
        numbers = {"ts": ts, "noise": np.float32(chosen.noise)}
        for name in ("scale", "rescale"):
            value = getattr(settings, name)
            numbers[name] = None if value is None else np.float32(value)
        size = min(settings.batch_size or n, n)
        parts = []
        for i in range(0, n, size):
            rows = np.minimum(np.arange(i, i + size), n - 1)  # one compiled shape: the last batch is filled up
            batch, conds = jax.tree.map(lambda x, rows=rows: x[rows], (start, tuple(encoded)))
            shape = (H // f, W // f, self.model.shape[-1])
            parts.append(np.asarray(_pictures(self.model, chosen.sampler, shape, numbers, batch, conds)))
        return np.concatenate(parts)[:n]


@partial(jax.jit, static_argnames="shape")
def _pictures(model: Model, sampler: Sampler, shape: tuple[int, ...], numbers: Any, start: Any, conds: Any) -> Array:
    """The whole program: noise, the reverse process, the decoder."""
    cond, null = conds
    k_noise, k_steps = split(start["keys"])
    x = numbers["noise"] * normal(k_noise, jnp.zeros((len(k_noise), *shape)))
    denoise = guided(model, numbers["scale"], numbers["rescale"], null)
    if model.network.guidance_width:
        cond = cond | {"scale": jnp.ones(len(x)) if numbers["scale"] is None else numbers["scale"]}
    z = sample(k_steps, denoise, model.sde, constraints.Padded(sampler), numbers["ts"], x, cond)
    assert model.codec is not None
    return model.codec.decode(z)


def guided(model: Model, scale: Any, rescale: Any, null: Cond) -> Any:
    """The denoiser under guidance; a U-Net with the scale as an input (LCM) takes it from the condition."""
    if scale is None or model.network.guidance_width:
        return model.denoise
    return guidance.cfg(model.denoise, scale, null, rescale=rescale, batched=True)


def _halves(n: int) -> tuple[slice, slice]:
    return slice(0, n), slice(n, 2 * n)


def _sizes(count: int, size: tuple[int, int]) -> tuple[list[float], list[float]]:
    """XL's sizes of the original, the crop's corner and the target; the refiner's end with a score of the looks."""
    H, W = map(float, size)
    if count == 6:
        return ([H, W, 0, 0, H, W],) * 2
    return [H, W, 0, 0, 6.0], [H, W, 0, 0, 2.5]

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
from typing import Any, NamedTuple

import numpy as np

from diffjax.arrays import example_keys
from diffjax.checks import check_key, check_number, check_pictures
from diffjax.codec import Codec
from diffjax.model import Model
from diffjax.pipelines import solvers
from diffjax.pipelines.drawing import Settings, draw
from diffjax.pipelines.prompts import Tower, encode_prompts
from diffjax.pretrained.stable_diffusion import Schedule
from diffjax.text.clip_bpe import Tokenizer, check_texts
from diffjax.typing import Cond, Key


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

    @property
    def text_parts(self) -> tuple[str, ...]:
        """The names that the towers have in a folder; XL's refiner has the second one alone."""
        if len(self.towers) == 2:
            return "text_encoder", "text_encoder_2"
        return ("text_encoder_2",) if self.model.network.pooled_width else ("text_encoder",)

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
        net = self.model.network
        xl = bool(net.pooled_width)
        both = encode_prompts(self.towers, self.tokenizers, [*others, *texts], settings.clip_skip, xl)
        null, cond = ({name: x[part] for name, x in both.items()} for part in _halves(len(texts)))
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
        self._check_channels(0)
        keys = self._keys(key, prompts)
        encoded = self.encode(prompts, negative, settings)
        return draw(self.model, self._plan(settings), self._size(settings), settings, {"keys": keys}, encoded)

    def image_to_image(
        self,
        key: Key,
        prompts: Sequence[str],
        image: Any,
        strength: float,
        negative: str | Sequence[str] | None = None,
        settings: Settings = Settings(),
    ) -> np.ndarray:
        """SDEdit in latents: the image noised, and the last int(steps x strength) steps of the grid: [B, H, W, 3].

        Args:
          image: in [-1, 1], [H, W, 3] for all prompts, or [B, H, W, 3].
          strength: 0 to 1; the larger, the less is left of the image.

        Raises:
          ValueError: as `text_to_image`; the strength leaves no step, the image has another shape than the settings'
            size, or values beyond [-1, 1].
        """
        check_number("the strength", strength, 0, 1)
        self._check_channels(0)
        keys = self._keys(key, prompts)
        start = {"keys": keys, "image": self._image(image, len(keys), settings)}
        size = start["image"].shape[1:3]
        settings = dataclasses.replace(settings, size=size)
        encoded = self.encode(prompts, negative, settings)
        return draw(self.model, _tail(self._plan(settings), strength), size, settings, start, encoded)

    def inpaint(
        self,
        key: Key,
        prompts: Sequence[str],
        image: Any,
        mask: Any,
        negative: str | Sequence[str] | None = None,
        settings: Settings = Settings(),
        strength: float = 1.0,
    ) -> np.ndarray:
        """The image with what is under the mask painted anew: [B, H, W, 3].

        A U-Net of 9 channels sees the mask and the rest of the image; with one of 4 the rest is put in at every step
        (`constraints.Known`). What is kept goes through the autoencoder too, and comes back a little changed.

        Args:
          image: in [-1, 1], [H, W, 3] for all prompts, or [B, H, W, 3].
          mask: 1 (white) is PAINTED ANEW, 0 (black) is KEPT: [H, W] or [B, H, W]; of each cell of 8 x 8 pixels the one
            above and to the left decides.
          strength: 1 begins with noise alone under the mask, less with the noised image (see `image_to_image`).

        Raises:
          ValueError: as `image_to_image`; the mask has another size, values beyond [0, 1], or no white pixel.
        """
        check_number("the strength", strength, 0, 1)
        self._check_channels(0, self.model.shape[-1] + 1)
        keys = self._keys(key, prompts)
        start = {"keys": keys, "image": self._image(image, len(keys), settings)}
        size = start["image"].shape[1:3]
        start["mask"] = _mask(mask, len(keys), size)
        start |= {"noisy": np.ones(len(keys))} if strength == 1 else {}
        settings = dataclasses.replace(settings, size=size)
        encoded = self.encode(prompts, negative, settings)
        return draw(self.model, _tail(self._plan(settings), strength), size, settings, start, encoded)

    def _check_channels(self, *allowed: int) -> None:
        """Raise a ValueError unless the U-Net takes so many channels besides its latents."""
        net = self.model.network
        if net.in_channels - self.model.shape[-1] not in allowed:
            kind = "inpainting, with an image and a mask: `inpaint`" if net.in_channels == 9 else "another use"
            raise ValueError(f"this U-Net has in_channels = {net.in_channels}, and was made for {kind}")

    def _keys(self, key: Key, prompts: Sequence[str]) -> Key:
        check_key(key)
        return example_keys(key, len(check_texts(prompts)))

    def _plan(self, settings: Settings) -> solvers.Plan:
        name = settings.solver or solvers.own_solver(self.schedule)
        return solvers.plan(name, self.schedule, settings.steps, settings.spacing)

    def _size(self, settings: Settings) -> tuple[int, int]:
        size, f = settings.size or self.codec.shape[:2], self.factor
        if len(size) != 2 or any(side < f or side % f for side in size):
            raise ValueError(f"height and width must be multiples of {f} pixels, got {' x '.join(map(str, size))}")
        return size[0], size[1]

    def _image(self, image: Any, n: int, settings: Settings) -> np.ndarray:
        """The image of each of n examples [n, H, W, 3]."""
        image = np.asarray(image)
        batch = image[None] if image.ndim == 3 else image
        check_pictures(batch, "the image", channels=self.codec.shape[-1:])
        self._size(dataclasses.replace(settings, size=batch.shape[1:3]))
        if settings.size is not None and batch.shape[1:3] != tuple(settings.size):
            raise ValueError(f"the image is of {list(batch.shape[1:3])} pixels, and the settings' size {settings.size}")
        if len(batch) not in (1, n):
            raise ValueError(f"expected one image, or one for each of {n} prompts, got {len(batch)}")
        return np.broadcast_to(batch.astype(np.float32), (n, *batch.shape[1:]))


def _tail(plan: solvers.Plan, strength: float) -> solvers.Plan:
    """The last int(n strength) of a run's n steps.

    Raises:
      ValueError: there is none.
    """
    n = len(plan.ts) - 1
    kept = int(n * strength + 1e-6)
    if kept == 0:
        raise ValueError(f"a strength of {strength:g} leaves none of {n} steps: raise it, or take more steps")
    return plan._replace(ts=plan.ts[n - kept :])


def _mask(mask: Any, n: int, size: tuple[int, int]) -> np.ndarray:
    """The mask of each of n examples, 0 or 1, [n, H, W, 1]."""
    mask = np.asarray(mask, np.float32)
    batch = mask[None] if mask.ndim == 2 else mask
    if batch.shape[1:] != tuple(size) or len(batch) not in (1, n):
        raise ValueError(f"a mask of {list(size)} pixels is needed, one or one for each of {n}, got {list(mask.shape)}")
    if not (batch.min() >= 0 and batch.max() <= 1):
        raise ValueError(f"a mask has values from 0 (kept) to 1 (painted anew), got {batch.min()} to {batch.max()}")
    white = batch >= 0.5
    if not white.any((1, 2)).all():
        raise ValueError("the mask is black everywhere: white, 1, is what is painted anew")
    return np.broadcast_to(white[..., None].astype(np.float32), (n, *size, 1))


def _halves(n: int) -> tuple[slice, slice]:
    return slice(0, n), slice(n, 2 * n)


def _sizes(count: int, size: tuple[int, int]) -> tuple[list[float], list[float]]:
    """XL's sizes of the original, the crop's corner and the target; the refiner's end with a score of the looks."""
    H, W = map(float, size)
    if count == 6:
        return [H, W, 0, 0, H, W], [H, W, 0, 0, H, W]
    return [H, W, 0, 0, 6.0], [H, W, 0, 0, 2.5]

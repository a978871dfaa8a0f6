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
from diffjax.checks import check_count, check_key, check_number
from diffjax.codec import Codec
from diffjax.model import Model
from diffjax.pipelines import inputs, solvers
from diffjax.pipelines.drawing import Settings, draw
from diffjax.pipelines.prompts import Tower, encode_prompts
from diffjax.pretrained.stable_diffusion import Schedule
from diffjax.text.clip_bpe import Tokenizer, check_texts
from diffjax.typing import Cond, Key

MAX_NOISE_LEVEL = 350  # the largest that the upscaler was trained with
PURPOSES = {  # channels of a U-Net besides its latents: purpose, what it needs, the methods
    0: ("text", "prompts", "`text_to_image`, `image_to_image` and `inpaint`"),
    5: ("inpaint", "inpainting, with an image and a mask", "`inpaint`"),
    1: ("depth", "images with a depth map", "`depth_to_image`"),
    4: ("edit", "editing an image by instructions", "`edit`"),
    3: ("upscale", "enlarging an image by four", "`upscale`"),
}


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
      low_res: of an upscaler the noise levels of the small image.
      zero_null: whether an absent negative prompt is encoded as zeros (XL), or as the empty text.
      notes: what reading did that the files do not say.
    """

    model: Model
    towers: tuple[Tower, ...]
    tokenizers: tuple[Tokenizer, ...]
    schedule: Schedule
    zero_null: bool = False
    notes: tuple[str, ...] = ()
    low_res: Schedule | None = None

    @property
    def purpose(self) -> str:
        """What the U-Net was made for: "text", "inpaint", "depth", "edit", "upscale", or "" for what is not known."""
        return PURPOSES.get(self.model.network.in_channels - self.model.shape[-1], ("",))[0]

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
          ValueError: there is none, or another number of negative ones; as `check_guidance`.
        """
        texts = check_texts(prompts)
        if not texts:
            raise ValueError("expected at least one prompt, got none")
        others = [negative or ""] * len(texts) if negative is None or isinstance(negative, str) else list(negative)
        if len(others) != len(texts):
            raise ValueError(f"expected one negative prompt, or {len(texts)}, got {len(others)}")
        self.check_guidance(negative, settings)
        net = self.model.network
        xl, mean = bool(net.pooled_width), settings.restore_mean
        cond, null = encode_prompts(
            self.towers, self.tokenizers, (texts, others), skip=settings.clip_skip, xl=xl, restore_mean=mean
        )
        if self.zero_null and negative is None:
            null = {name: np.zeros_like(x) for name, x in null.items()}
        if net.size_count:
            sizes = inputs.sizes(net.size_count, self.size_of(settings))
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
          ValueError: as `encode` and `solvers.plan`; a side is no multiple of `factor`; the model needs a picture;
            what is drawn is NaN or infinite.
        """
        self.check_purpose("text")
        keys = self.keys_of(key, prompts)
        encoded = self.encode(prompts, negative, settings)
        return draw(self.model, self.plan(settings), self.size_of(settings), settings, {"keys": keys}, encoded)

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
        self.check_purpose("text")
        start, settings = self._start(key, prompts, image, settings)
        encoded = self.encode(prompts, negative, settings)
        plan = inputs.tail(self.plan(settings), strength)
        return draw(self.model, plan, self.size_of(settings), settings, start, encoded)

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
          mask: 1 (white) is PAINTED ANEW, 0 (black) is KEPT: [H, W] or [B, H, W]; greys are rounded. A cell of 8 x 8
            pixels is painted anew if one of them is.
          strength: 1 begins with noise alone under the mask, less with the noised image (see `image_to_image`).

        Raises:
          ValueError: as `image_to_image`; the mask has another size, values beyond [0, 1], or no white pixel.
        """
        check_number("the strength", strength, 0, 1)
        self.check_purpose("text", "inpaint")
        start, settings = self._start(key, prompts, image, settings)
        size = self.size_of(settings)
        start["mask"] = inputs.as_masks(mask, len(start["keys"]), size)
        start |= {"noisy": np.ones(len(start["keys"]))} if strength == 1 else {}
        encoded = self.encode(prompts, negative, settings)
        return draw(self.model, inputs.tail(self.plan(settings), strength), size, settings, start, encoded)

    def depth_to_image(
        self,
        key: Key,
        prompts: Sequence[str],
        image: Any,
        depth: Any,
        strength: float,
        negative: str | Sequence[str] | None = None,
        settings: Settings = Settings(),
    ) -> np.ndarray:
        """`image_to_image` under a depth map, which keeps its shapes: [B, H, W, 3]; of a U-Net of 5 channels.

        Args:
          depth: of any size, [H, W] or [B, H, W], the larger the nearer, as MiDaS estimates it. Its unit is free:
            the smallest value counts as the farthest, the largest as the nearest.
          image, strength: as in `image_to_image`; with a strength of 1 little is left of the image but its depth.

        Raises:
          ValueError: as `image_to_image`; the depth map is no map, flat, or not finite.
        """
        check_number("the strength", strength, 0, 1)
        self.check_purpose("depth")
        start, settings = self._start(key, prompts, image, settings)
        size = self.size_of(settings)
        latents = size[0] // self.factor, size[1] // self.factor
        start["concat"] = inputs.as_depths(depth, len(start["keys"]), latents)
        encoded = self.encode(prompts, negative, settings)
        return draw(self.model, inputs.tail(self.plan(settings), strength), size, settings, start, encoded)

    def edit(
        self,
        key: Key,
        prompts: Sequence[str],
        image: Any,
        negative: str | Sequence[str] | None = None,
        settings: Settings = Settings(),
        image_scale: float = 1.5,
    ) -> np.ndarray:
        """The image changed as instructions say, such as "make it winter": [B, H, W, 3]; of a U-Net of 8 channels.

        InstructPix2Pix (Brooks et al. 2023): `guidance.dual_cfg` with `settings.scale` for the text, `image_scale` for
        the image. Without a scale there is no guidance, by the image neither.

        Args:
          image: in [-1, 1], [H, W, 3] for all prompts, or [B, H, W, 3].
          image_scale: the larger, the more is kept of the image; 1 to 2.

        Raises:
          ValueError: as `image_to_image`.
        """
        check_number("image_scale", image_scale, 0)
        self.check_purpose("edit")
        start, settings = self._start(key, prompts, image, settings)
        start["seen"] = start.pop("image")
        encoded = self.encode(prompts, negative, settings)
        numbers = {"image_scale": image_scale}
        return draw(self.model, self.plan(settings), self.size_of(settings), settings, start, encoded, numbers)

    def upscale(
        self,
        key: Key,
        prompts: Sequence[str],
        image: Any,
        noise_level: int = 20,
        negative: str | Sequence[str] | None = None,
        settings: Settings = Settings(),
    ) -> np.ndarray:
        """The image enlarged by four, [B, h, w, 3] -> [B, 4 h, 4 w, 3]; of the upscaler's U-Net of 7 channels.

        Args:
          image: the small one, in [-1, 1], [h, w, 3] for all prompts, or [B, h, w, 3].
          noise_level: of the noise that is added to it, 0 to 350; the larger, the more is made up.

        Raises:
          ValueError: as `image_to_image`; the settings have another size than the large picture's.
        """
        self.check_purpose("upscale")
        check_count("noise_level", noise_level, 0, min(MAX_NOISE_LEVEL, self.model.network.num_classes - 1))
        assert self.low_res is not None
        keys, f = self.keys_of(key, prompts), self.factor
        wanted = None if settings.size is None else tuple(side // f for side in self.size_of(settings))
        small = inputs.as_images(image, len(keys), self.codec.shape[-1], 1, wanted)  # type: ignore[arg-type]
        size = f * small.shape[1], f * small.shape[2]
        settings = dataclasses.replace(settings, size=size)
        level = np.full(len(keys), noise_level, np.int32)
        cond, null = (c | {"label": level} for c in self.encode(prompts, negative, settings))
        abar = float(np.prod(1 - self.low_res.betas[: noise_level + 1]))
        start, numbers = {"keys": keys, "small": small}, {"alpha": abar**0.5, "sigma": (1 - abar) ** 0.5}
        return draw(self.model, self.plan(settings), size, settings, start, (cond, null), numbers)

    def check_purpose(self, *purposes: str) -> None:
        """Raise a ValueError unless the U-Net was made for one of these; it says for what, and names the methods."""
        if self.purpose not in purposes:
            net = self.model.network
            known = {purpose: f"{what}: {methods}" for purpose, what, methods in PURPOSES.values()}
            made = known.get(self.purpose, "another use")
            raise ValueError(f"this U-Net has in_channels = {net.in_channels}, and was made for {made}")

    def check_guidance(self, negative: str | Sequence[str] | None, settings: Settings) -> None:
        """Raise a ValueError for what acts through classifier-free guidance where there is none."""
        if settings.scale is not None and not self.model.network.guidance_width:
            return
        why = "settings.scale is None" if settings.scale is None else "this U-Net takes the scale as an input (LCM)"
        for what, given in (("a negative prompt", any(negative or ())), ("rescale", settings.rescale is not None)):
            if given:
                raise ValueError(f"{what} has no effect without classifier-free guidance, and {why}: leave it out")

    def keys_of(self, key: Key, prompts: Sequence[str]) -> Key:
        """A key for each prompt [B]; raises as `text_to_image`."""
        check_key(key)
        return example_keys(key, len(check_texts(prompts)))

    def plan(self, settings: Settings) -> solvers.Plan:
        """The run that the settings ask for; raises as `solvers.plan`."""
        name = settings.solver or solvers.own_solver(self.schedule)
        return solvers.plan(name, self.schedule, settings.steps, settings.spacing)

    def size_of(self, settings: Settings) -> tuple[int, int]:
        """(height, width) of the settings' pictures; raises a ValueError for no multiples of `factor`."""
        return inputs.check_size(settings.size or self.codec.shape[:2], self.factor)

    def _start(
        self, key: Key, prompts: Sequence[str], image: Any, settings: Settings
    ) -> tuple[dict[str, Any], Settings]:
        """The keys and the image of each prompt, and the settings with the image's size."""
        keys = self.keys_of(key, prompts)
        images = inputs.as_images(image, len(keys), self.codec.shape[-1], self.factor, settings.size)
        return {"keys": keys, "image": images}, dataclasses.replace(settings, size=images.shape[1:3])

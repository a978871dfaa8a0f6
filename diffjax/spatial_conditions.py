"""Conditions that say where: channels that are joined to the input of a latent model, and boxes as tokens of a context.

A condition with the layout of the picture is joined to the noisy latent z_t [B, h, w, c] on channels (Rombach et al.
2022, Section 4.3.2 and App. D). It is cond["concat"], on the grid of the latents, for an `nn.ConditionalUNet` with
in_channels = c + its channels; with c = 4

    class_map        the share of each of K classes in a cell          4 + K       semantic synthesis
    small_picture    the mean of each cell, of a colour picture        4 + 3       super-resolution (SD's upscaler)
                     and of a map with one channel                     4 + 1       depth (SD 2's)
    masked_latents   the mask, and the latent of what is not hidden    4 + 1 + 4   inpainting (SD's)

where a cell is the pixels that one latent stands for. Under guidance of another entry it stays as it is: null =
{"context": 0.0, "concat": conditions.Kept()}.

Boxes are tokens of cond["context"], one for each object (the layout model there has three tokens of a learned
vocabulary for each: class, upper left and lower right). Here a token is a vector, for the classes v_i and a box
(x_0, y_0, x_1, y_1) in [0, 1]

    onehot(v_1), onehot(v_2), ..., and sin(2^j pi x), cos(2^j pi x) for each of the four x and j = 0 .. F - 1      (1)

and zeros where there is no object: a context of zeros is the null condition. Eq. 1 can be inverted, for x =
atan2(sin(pi x), cos(pi x)) / pi. GLIGEN has Fourier features of boxes too (Li et al. 2023, Section 4.1).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_count, check_pictures, known
from diffjax.codec import Codec
from diffjax.typing import Key


def class_map(labels: Any, classes: int, size: tuple[int, int]) -> Array:
    """Maps [B, H, W] of integers 0 .. classes - 1 -> [B, h, w, classes], the share of each class in a cell.

    Args:
      size: (h, w), which divide H and W.

    Raises:
      TypeError: the map holds no integers.
      ValueError: it is no [B, H, W], a label is out of range, or the sides do not divide.
    """
    check_count("classes", classes)
    values = np.asarray(labels) if known(labels) else None
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"a map of classes holds integers, got {labels.dtype}{list(labels.shape)}")
    if labels.ndim != 3:
        raise ValueError(f"maps of classes are [B, H, W], got the shape {list(labels.shape)}")
    if values is not None and values.size and not (values.min() >= 0 and values.max() < classes):
        raise ValueError(f"the classes go from 0 to {classes - 1}, got {values.min()} to {values.max()}")
    return _cells(jax.nn.one_hot(labels, classes), size)


def small_picture(x: Any, size: tuple[int, int]) -> Array:
    """Pictures [B, H, W, C] in [-1, 1] -> [B, h, w, C], the mean of each cell.

    Raises:
      TypeError, ValueError: x are no pictures, or h and w do not divide H and W.
    """
    check_pictures(x, "x")
    return _cells(jnp.asarray(x), size)


def masked_latents(codec: Codec, x: Any, mask: Any, key: Key | None = None) -> Array:
    """The mask and the latent of what it leaves: [B, h, w, 1 + c] for pictures x [B, H, W, C] in [-1, 1].

    Hidden pixels are grey, 0, for the encoder. A cell of the mask is the largest of its pixels: see `cells_of_mask`.

    Args:
      mask: [B, H, W, 1], 1 where the picture is hidden, to be painted anew, and 0 where it is known.
      key: for a draw of the latent; its mode without one.

    Raises:
      TypeError, ValueError: x are no pictures of the codec, or the mask is no mask of them.
    """
    x, mask = jnp.asarray(x), jnp.asarray(mask)
    if mask.shape != (*x.shape[:3], 1):
        raise ValueError(f"the mask of pictures {list(x.shape)} is {[*x.shape[:3], 1]}, got {list(mask.shape)}")
    if known(mask) and not np.isin(np.asarray(mask), (0, 1)).all():
        raise ValueError(
            "a mask is 1 where the picture is hidden and 0 where it is known: threshold other values first"
        )
    hidden = codec.encode(jnp.where(mask == 1, 0, x), key)
    return jnp.concatenate([cells_of_mask(mask, (hidden.shape[1], hidden.shape[2])).astype(hidden.dtype), hidden], -1)


def cells_of_mask(mask: Array, size: tuple[int, int]) -> Array:
    """A mask at the size of latents, [B, H, W, 1] -> [B, *size, 1], the largest of each cell's pixels.

    So a cell is painted anew if one of its pixels is. Stable Diffusion's nearest neighbours look at the pixel above and
    to the left alone, which loses thin masks; where a mask hides whole cells the two are the same.
    """
    B, H, W, _ = mask.shape
    h, w = size
    return mask.reshape(B, h, H // h, w, W // w, 1).max((2, 4))


def _cells(x: Array, size: tuple[int, int]) -> Array:
    """The means of cells: [B, H, W, C] -> [B, *size, C]."""
    B, H, W, C = x.shape
    if np.shape(size) != (2,):
        raise TypeError(f"size is (h, w), got {size!r}")
    h, w = size
    if min(h, w) < 1 or H % h or W % w:
        raise ValueError(f"{H} x {W} pixels do not divide into {h} x {w} cells")
    return x.reshape(B, h, H // h, w, W // w, C).mean((2, 4))


@dataclasses.dataclass(frozen=True)
class BoxTokens:
    """Boxes with classes, such as shape and colour, <-> tokens by Eq. 1.

    Attributes:
      classes: how many there are of each kind, (6, 8) for six shapes in eight colours.
      frequencies: F.
    """

    classes: tuple[int, ...]
    frequencies: int = 6

    def __post_init__(self):
        if not isinstance(self.classes, tuple) or not self.classes:
            raise TypeError(
                f"classes are a tuple, the numbers of one kind or more such as (6, 8), got {self.classes!r}"
            )
        for count in self.classes:
            check_count("a number of classes", count)
        check_count("frequencies", self.frequencies)

    @property
    def width(self) -> int:
        """The length of a token."""
        return sum(self.classes) + 8 * self.frequencies

    def encode(self, boxes: Any, *values: Any) -> np.ndarray:
        """Boxes [..., 4] in [0, 1] as (x_0, y_0, x_1, y_1) and integers [...] -> float32 [..., width].

        Where the integers are -1 there is no object: all of them, and the token is zeros.

        Raises:
          TypeError: a kind is no array of integers.
          ValueError: there is another number of kinds, shapes differ, a value is out of range or missing beside others,
            or the box of an object is not x_0 < x_1, y_0 < y_1 in [0, 1].
        """
        boxes, kinds = np.asarray(boxes, np.float64), [np.asarray(v) for v in values]
        if len(kinds) != len(self.classes) or any(boxes.shape != (*v.shape, 4) for v in kinds):
            shapes = ", ".join(str(list(v.shape)) for v in kinds)
            raise ValueError(f"boxes [..., 4] and {len(self.classes)} arrays [...], got {list(boxes.shape)}; {shapes}")
        for value, count in zip(kinds, self.classes, strict=True):
            if value.size and not np.issubdtype(value.dtype, np.integer):
                raise TypeError(f"classes are integers from 0 to {count - 1}, got {value.dtype}: {value}")
            if value.max(initial=-1) >= count or value.min(initial=-1) < -1:
                raise ValueError(f"classes go from 0 to {count - 1}, or are -1 of an absent object, got {value}")
        kinds = [value.astype(int) for value in kinds]
        there = kinds[0] >= 0
        if not all(np.array_equal(value >= 0, there) for value in kinds):
            raise ValueError(f"all of an absent object are -1, got {', '.join(map(str, kinds))}")
        own = boxes[there]
        if not ((own >= 0) & (own <= 1)).all() or not (own[:, :2] < own[:, 2:]).all():
            raise ValueError("boxes are (x_0, y_0, x_1, y_1) in [0, 1] with x_0 < x_1 and y_0 < y_1")
        hot = [np.eye(count)[value] for value, count in zip(kinds, self.classes, strict=True)]
        angles = np.pi * boxes[..., None] * 2.0 ** np.arange(self.frequencies)
        waves = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(*there.shape, 8 * self.frequencies)
        return np.where(there[..., None], np.concatenate([*hot, waves], -1), 0).astype(np.float32)

    def decode(self, tokens: Any) -> tuple[np.ndarray, ...]:
        """Tokens [..., width] -> boxes [..., 4] and an integer array [...] for each kind; zeros and -1 if absent.

        Raises:
          ValueError: the tokens have another length.
        """
        tokens = np.asarray(tokens)
        if not tokens.ndim or tokens.shape[-1] != self.width:
            raise ValueError(f"tokens are [..., {self.width}], got the shape {list(tokens.shape)}")
        there = (tokens != 0).any(-1)
        *hot, waves = np.split(tokens, np.cumsum(self.classes), axis=-1)
        slow = waves.reshape(*there.shape, 4, self.frequencies, 2)[..., 0, :]
        boxes = np.where(there[..., None], np.arctan2(slow[..., 0], slow[..., 1]) / np.pi, 0)
        return boxes.astype(np.float32), *(np.where(there, part.argmax(-1), -1).astype(np.int32) for part in hot)

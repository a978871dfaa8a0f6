"""Reading scenes back: which pixels of a picture belong to which object, and the boxes around them.

A network that took no part in drawing (`experiments/scene_judge.py --preset segmenter`) names the pair of colour and
shape of each pixel, or the background. Maps hold 0 for the background and 1 + pair, pair = 6 colour + shape as in
`judges.pairs`. What is found is compared with a map or with boxes that were wanted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from diffjax.data.scene_drawing import COLOURS, SHAPES
from diffjax.model import Trained

CLASSES = 1 + len(COLOURS) * len(SHAPES)
SMALLEST = 4  # pixels of 32 x 32; what is smaller is no object


def pair_map(scenes: Any) -> np.ndarray:
    """The map of scenes' masks, uint8 [N, S, S]; a pixel that two objects touch is the first one's."""
    pair = len(SHAPES) * np.asarray(scenes.colours) + np.asarray(scenes.classes)
    found = np.zeros((len(pair), *scenes.masks.shape[2:]), np.uint8)
    for slot in reversed(range(pair.shape[1])):
        found = np.where(scenes.masks[:, slot] > 0, 1 + pair[:, slot, None, None], found)
    return found.astype(np.uint8)


def colour_and_shape(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A map as two: 0 for the background, and 1 + colour, 1 + shape."""
    maps = np.asarray(maps, np.int32)
    there = maps > 0
    return (np.where(there, 1 + (maps - 1) // len(SHAPES), 0), np.where(there, 1 + (maps - 1) % len(SHAPES), 0))


class Found(NamedTuple):
    """What is connected in a map and of one class."""

    pair: int
    pixels: int
    box: tuple[float, float, float, float]  # x_0, y_0, x_1, y_1 in [0, 1]


class SceneReader:
    """Pictures x [N, S, S, 3] in [-1, 1] to maps, and figures of what they show.

    Args:
      segmenter: the network, with a logit for each class and pixel.
    """

    def __init__(self, segmenter: Trained, batch_size: int = 125):
        self.apply, self.batch_size = jax.jit(segmenter), batch_size

    def read(self, x: np.ndarray) -> np.ndarray:
        """The maps of pictures, uint8 [N, S, S]."""
        parts = []
        for i in range(0, len(x), self.batch_size):
            rows = np.minimum(np.arange(i, i + self.batch_size), len(x) - 1)  # one compiled shape
            logits = self.apply(jnp.asarray(x[rows]), jnp.zeros(()))
            parts.append(np.asarray(logits.argmax(-1), np.uint8))
        return np.concatenate(parts)[: len(x)]

    def map_figures(self, x: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
        """How the pictures' maps fit the wanted ones [N, S, S].

        "accuracy" is the share of pixels of the right class, "empty" that of a picture with no object; "objects" is the
        share among the pixels of wanted objects, and "mean iou" the mean over the pictures' objects of the intersection
        over the union of the pixels of its class.
        """
        seen = self.read(x)
        right, there = seen == wanted, wanted > 0
        return {
            "accuracy": float(right.mean()),
            "empty": float(1 - there.mean()),
            "objects": float(right[there].mean()),
            "mean iou": float(np.mean([v for pair in zip(seen, wanted, strict=True) for v in _overlaps(*pair)])),
        }

    def box_figures(self, x: np.ndarray, scenes: Any) -> dict[str, float]:
        """How boxes found in the pictures fit the wanted ones, scenes with `boxes`, `classes` and `colours`.

        For each wanted object: "iou", the intersection over union with the box of what is found of its colour and shape
        (the largest, 0 if there is none), "place", the same with whatever is nearest, of any class, and "hit", how
        often "iou" is 0.5 or more. "shuffled" is "iou" for the boxes of another picture: what any layout would have.
        """
        seen = [objects(one) for one in self.read(x)]
        rows, slots = np.nonzero(scenes.classes >= 0)
        pair = (len(SHAPES) * scenes.colours + scenes.classes)[rows, slots]
        boxes = scenes.boxes[rows, slots]
        own, other, place = [], [], []
        elsewhere = np.roll(np.arange(len(boxes)), len(boxes) // 2)  # boxes of far away scenes, one for each object
        for row, kind, box, wrong in zip(rows, pair, boxes, boxes[elsewhere], strict=True):
            same = max((f for f in seen[row] if f.pair == kind), key=lambda f: f.pixels, default=None)
            own.append(iou(same.box, box) if same else 0.0)
            other.append(iou(same.box, wrong) if same else 0.0)
            place.append(max((iou(f.box, box) for f in seen[row]), default=0.0))
        means = {"iou": own, "place": place, "hit": np.array(own) >= 0.5, "shuffled": other}
        return {name: float(np.mean(values)) for name, values in means.items()}


def _overlaps(seen: np.ndarray, wanted: np.ndarray) -> list[float]:
    """Intersection over union of each class that is wanted in a map."""
    both = [(seen == k, wanted == k) for k in np.unique(wanted) if k]
    return [float((a & b).sum() / (a | b).sum()) for a, b in both]


def objects(one: np.ndarray) -> list[Found]:
    """The connected parts of a map [S, S], of `SMALLEST` pixels or more, without the background."""
    found, (S, W) = [], one.shape
    for value in np.unique(one[one > 0]):
        labelled: Any = ndimage.label(one == value)
        parts, _ = labelled
        for number, (rows, columns) in enumerate(ndimage.find_objects(parts), 1):
            pixels = int((parts[rows, columns] == number).sum())
            if pixels >= SMALLEST:
                box = columns.start / W, rows.start / S, columns.stop / W, rows.stop / S
                found.append(Found(int(value) - 1, pixels, box))
    return found


def iou(a: Any, b: Any) -> float:
    """Intersection over union of two boxes (x_0, y_0, x_1, y_1)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    area = lambda box: float(np.prod(box[2:] - box[:2]))  # noqa: E731
    union = area(a) + area(b) - float(np.prod(sides))
    return float(np.prod(sides)) / union if union > 0 else 0.0

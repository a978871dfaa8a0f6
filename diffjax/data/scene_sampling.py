"""What is in a scene, by chance, and its English: objects, the edit that makes the twin, captions and instructions.

Everything is a function of (SERIES, split, index) alone: these are the key of a counter-based random generator.

    train, test    no object, before or after the edit, has a pair of colour and shape in HELD_OUT
    heldout        one object has such a pair and the others have none; the edit may take it away, or make another
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diffjax.data.scene_drawing import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    SLOTS,
    STYLES,
    TEXTURES,
    WAVES,
    Picture,
    Thing,
)

SERIES = 1  # increase it with any change of the pictures
SPLITS = ("train", "test", "heldout")
HELD_OUT = (
    ("red", "star"), ("orange", "circle"), ("yellow", "cross"),
    ("green", "ring"), ("blue", "triangle"), ("purple", "square"),
)  # fmt: skip
EDITS = ("colour", "shape", "size", "texture", "remove", "background", "style")
PAIRS = tuple(itertools.product(range(len(COLOURS)), range(len(SHAPES))))
HELD_PAIRS = tuple((tuple(COLOURS).index(colour), SHAPES.index(shape)) for colour, shape in HELD_OUT)
OTHER_PAIRS = tuple(pair for pair in PAIRS if pair not in HELD_PAIRS)
TURN = 0.2  # rad; objects are turned by less
MARGIN, GAP = 0.015, 0.035  # around an object: to the picture's rim, and to another object
PLACES = 64  # how many arrangements are tried at once
RELATIONS = ("left of", "right of", "above", "below")
TEMPLATES = {  # of captions, in turn; "background" with its article
    "flat": (
        "{things}, on {background}",
        "on {background}, {things}",
        "a picture of {things} against {background}",
        "there is {things} in front of {background}",
    ),
    "sketch": (
        "a sketch of {things}, on {background}",
        "on {background}, {things}, drawn as a sketch",
        "a hand-drawn picture of {things} against {background}",
        "in this sketch there is {things} in front of {background}",
    ),
}
Pick = Callable[[int], int]


class Scene(NamedTuple):
    """A picture and its twin, in which one attribute is changed."""

    picture: Picture
    twin: Picture
    edit: int  # counted into EDITS
    edited: int  # the slot of the changed object; -1 for the background and the style


def sample(index: int, split: str) -> Scene:
    """The scene of an index >= 0 of one of SPLITS."""
    rng = np.random.Generator(np.random.Philox(key=[SERIES << 8 | SPLITS.index(split), index]))
    pick: Pick = lambda count: int(rng.random() * count)  # noqa: E731  (0 ... count - 1)
    pairs = _pairs(1 + pick(SLOTS), split, pick)
    things = [Thing(shape, colour, 0, pick(len(TEXTURES)), 0, 0, *_hand(rng)) for colour, shape in pairs]
    background, style, phase = pick(len(BACKGROUNDS)), pick(len(STYLES)), 2 * np.pi * rng.random()
    edit, edited = _edit(len(things), pick)
    while True:  # until there is room
        sizes = [pick(len(SIZES)) for _ in things]
        placed = [thing._replace(size=size) for thing, size in zip(things, sizes, strict=True)]
        picture = Picture((*placed, *[None] * (SLOTS - len(things))), background, style, phase)
        twin = _change(picture, edit, edited, split, pick)
        radii = [max(x.radius for x in both if x) for both in zip(placed, twin.things, strict=False)]
        places = _arrange(np.array(radii), rng)
        if places is not None:
            return Scene(_move(picture, places), _move(twin, places), edit, edited)


def _hand(rng: np.random.Generator) -> tuple[float, tuple[float, ...]]:
    """How an object is turned, and the phases of its outline."""
    u = rng.random(1 + len(WAVES)).tolist()
    return TURN * (2 * u[0] - 1), tuple(2 * np.pi * phase for phase in u[1:])


def _pairs(count: int, split: str, pick: Pick) -> list[tuple[int, int]]:
    """Different pairs of colour and shape."""
    held = pick(count) if split == "heldout" else -1
    found: list[tuple[int, int]] = []
    while len(found) < count:
        choice = HELD_PAIRS if len(found) == held else OTHER_PAIRS
        pair = choice[pick(len(choice))]
        if pair not in found:
            found.append(pair)
    return found


def _edit(count: int, pick: Pick) -> tuple[int, int]:
    """The kind of an edit and the slot that it changes; the only object of a picture is not removed."""
    kinds = [i for i, name in enumerate(EDITS) if name != "remove" or count > 1]
    edit, slot = kinds[pick(len(kinds))], pick(count)
    return edit, -1 if EDITS[edit] in ("background", "style") else slot


def _change(picture: Picture, edit: int, edited: int, split: str, pick: Pick) -> Picture:
    """The twin; the new value is any other one that leaves the pairs of colour and shape different and allowed."""
    name = EDITS[edit]
    another = lambda old, count: (old + 1 + pick(count - 1)) % count  # noqa: E731
    if name == "background":
        return picture._replace(background=another(picture.background, len(BACKGROUNDS)))
    if name == "style":
        return picture._replace(style=another(picture.style, len(STYLES)))
    things = list(picture.things)
    thing = things[edited]
    assert thing is not None
    if name == "remove":
        new = None
    elif name == "size":
        new = thing._replace(size=another(thing.size, len(SIZES)))
    elif name == "texture":
        new = thing._replace(texture=another(thing.texture, len(TEXTURES)))
    else:
        taken = {(x.colour, x.shape) for x in things if x}
        allowed = [pair for pair in (PAIRS if split == "heldout" else OTHER_PAIRS) if pair not in taken]
        kept = 1 if name == "colour" else 0  # of a pair: the shape, or the colour
        choice = [pair for pair in allowed if pair[kept] == (thing.colour, thing.shape)[kept]]
        colour, shape = choice[pick(len(choice))]
        new = thing._replace(colour=colour, shape=shape)
    things[edited] = new
    return picture._replace(things=tuple(things))


def _arrange(radii: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """Centres [n, 2] at which any two of n objects are apart along x or y; None if none were found."""
    centres = radii[:, None] + MARGIN + (1 - 2 * (radii[:, None] + MARGIN)) * rng.random((PLACES, len(radii), 2))
    good = np.ones(PLACES, bool)
    for i, j in itertools.combinations(range(len(radii)), 2):
        good &= abs(centres[:, i] - centres[:, j]).max(-1) >= radii[i] + radii[j] + GAP
    return centres[good.argmax()] if good.any() else None


def _move(picture: Picture, places: np.ndarray) -> Picture:
    at = [*places.tolist(), *[(0.0, 0.0)] * (SLOTS - len(places))]
    things = [x._replace(x=c[0], y=c[1]) if x else None for x, c in zip(picture.things, at, strict=True)]
    return picture._replace(things=tuple(things))


def caption(picture: Picture, boxes: np.ndarray, index: int) -> str:
    """The picture in English; the boxes [SLOTS, 4] decide on the relations, the index on the template.

    Objects are named in the order of their slots, and the relations are those of the first of them to the others.
    Medium size and plain texture go without saying.
    """
    named = [(_noun(x), box) for x, box in zip(picture.things, boxes, strict=True) if x]
    first, *others = [noun for noun, _ in named]
    relations = [relation(named[0][1], box) for _, box in named[1:]]
    if len(others) == 2 and relations[0] == relations[1]:
        things = f"{first} {relations[0]} {others[0]} and {others[1]}"
    else:
        things = ", and ".join(f"{how} {noun}" for how, noun in zip(relations, others, strict=True))
        things = f"{first} {things}".strip()
    template = TEMPLATES[STYLES[picture.style]][index % len(TEMPLATES["flat"])]
    return template.format(things=things, background=_article(f"{tuple(BACKGROUNDS)[picture.background]} background"))


def relation(a: np.ndarray, b: np.ndarray) -> str:
    """Where box a lies, seen from box b, each (x0, y0, x1, y1): along the axis on which they are farther apart."""
    gaps = (b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3])
    return RELATIONS[int(np.argmax(gaps))]


def instruction(scene: Scene) -> str:
    """What to do with the picture to have its twin."""
    name, slot = EDITS[scene.edit], scene.edited
    if name == "background":
        new = tuple(BACKGROUNDS)[scene.twin.background]
        return f"turn the background {'into a ' if new in ('gradient', 'checkerboard') else ''}{new}"
    if name == "style":
        return "draw it as a sketch" if STYLES[scene.twin.style] == "sketch" else "draw it in flat colours"
    old, new = scene.picture.things[slot], scene.twin.things[slot]
    assert old is not None
    alone = sum(x.shape == old.shape for x in scene.picture.things if x) == 1
    who = f"the {SHAPES[old.shape]}" if alone else f"the {tuple(COLOURS)[old.colour]} {SHAPES[old.shape]}"
    if new is None:
        return f"remove {who}"
    if name == "shape":
        return f"turn {who} into {_article(SHAPES[new.shape])}"
    value = {"colour": tuple(COLOURS)[new.colour], "size": tuple(SIZES)[new.size], "texture": TEXTURES[new.texture]}
    return f"make {who} {value[name]}"


def _noun(thing: Thing) -> str:
    size, texture = tuple(SIZES)[thing.size], TEXTURES[thing.texture]
    words = [size, texture, tuple(COLOURS)[thing.colour], SHAPES[thing.shape]]
    return _article(" ".join(word for word in words if word not in ("medium", "plain")))


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

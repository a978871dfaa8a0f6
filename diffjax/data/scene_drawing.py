"""Drawing of scenes: up to three shapes on a background, flat or as a sketch, in NumPy alone; see `scenes`.

Lengths are fractions of the picture's side, x to the right and y down, so that a picture is the same at every size. A
shape is the set of points whose distance from the centre is at most a function of the angle (and, of a ring, at least a
part of it), in units of the object's radius. This function is tabulated. Pixels are averages over a grid of samples.

    flat      the colour, with stripes and dots of a dark shade of it (of black: grey)
    sketch    a dark wavy outline and a paler fill on paper; the background is hatched
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (214, 24, 36),
    "orange": (244, 102, 0),
    "yellow": (230, 186, 0),
    "green": (16, 138, 52),
    "cyan": (0, 176, 200),
    "blue": (28, 68, 214),
    "purple": (134, 36, 172),
    "black": (24, 24, 28),
}
SIZES = {"small": 0.125, "medium": 0.17, "large": 0.225}  # radii
TEXTURES = ("plain", "striped", "dotted")
STYLES = ("flat", "sketch")
BACKGROUNDS = {  # paler than every object: L* from 84 on, and that of the objects is below 78
    "white": (250, 250, 250),
    "grey": (214, 214, 216),
    "light blue": (196, 222, 252),
    "light green": (200, 240, 204),
    "pink": (254, 210, 222),
    "gradient": (188, 212, 252),  # the colour above; the one below is SECOND's
    "checkerboard": (250, 250, 250),
}
SECOND = {"gradient": (255, 226, 184), "checkerboard": (210, 212, 218)}
PAPER = np.array((252, 248, 238), np.float32)
SLOTS = 3
ANGLES = 2048
HOLE = 0.45  # the inner radius of a ring, of the outer one
WAVES, SWING = (2, 3, 5, 8), 0.06  # of a sketched outline: periods around the shape, and how far it strays in all
STROKE = 0.026  # width of a sketched outline
PERIOD = {"striped": 0.11, "dotted": 0.095}  # of textures: two to five of them across an object
DOT = 0.3  # radius of a dot, in periods


class Thing(NamedTuple):
    """An object; the first four count into SHAPES, COLOURS, SIZES and TEXTURES."""

    shape: int
    colour: int
    size: int
    texture: int
    x: float
    y: float
    angle: float  # rad
    phases: tuple[float, ...]  # of the waves of a sketched outline, rad

    @property
    def radius(self) -> float:
        return tuple(SIZES.values())[self.size]


class Picture(NamedTuple):
    """What is in a picture; `background` and `style` count into BACKGROUNDS and STYLES."""

    things: tuple[Thing | None, ...]  # SLOTS of them; None is absent
    background: int
    style: int
    phase: float  # of the hatching of a sketched background, rad


def palette() -> np.ndarray:
    """The colours of objects, float32 [8, 3] in 0..255."""
    return np.array(list(COLOURS.values()), np.float32)


def draw(picture: Picture, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The image uint8 [S, S, 3], and the pixels that each object touches, uint8 [SLOTS, S, S] of 0 and 1; S = size."""
    canvas = _background(picture, size).copy()
    masks = np.zeros((SLOTS, size, size), np.uint8)
    for thing, mask in zip(picture.things, masks, strict=True):
        if thing is not None:
            rows, columns, inks, parts = _paint(thing, picture.style, size)
            covered = parts.sum(0)
            canvas[rows, columns] *= (1 - covered)[..., None]
            canvas[rows, columns] += np.tensordot(parts, inks, (0, 0))
            mask[rows, columns] = covered > 0
    return np.rint(canvas).astype(np.uint8), masks


def boxes(picture: Picture) -> np.ndarray:
    """The smallest boxes around the objects, float32 [SLOTS, 4] as (x0, y0, x1, y1) in [0, 1]; zeros if absent."""
    found = np.zeros((SLOTS, 4), np.float32)
    for thing, box in zip(picture.things, found, strict=True):
        if thing is not None:
            box[:] = _box(thing, picture.style)
    return found


def _box(thing: Thing, style: int) -> tuple[float, float, float, float]:
    outer = _outline(thing, style)
    turned = _circle()[0] + thing.angle
    dx, dy = thing.radius * outer * np.cos(turned), thing.radius * outer * np.sin(turned)
    return thing.x + dx.min(), thing.y + dy.min(), thing.x + dx.max(), thing.y + dy.max()


def _paint(thing: Thing, style: int, size: int) -> tuple[slice, slice, np.ndarray, np.ndarray]:
    """Rows and columns that hold an object, its inks [3, 3], and what part of each pixel they cover [3, rows, columns].

    The inks are the fill, the stripes or dots, and the outline.
    """
    k = samples(size)
    rows, columns = _stretch(thing.y, thing.radius, size), _stretch(thing.x, thing.radius, size)
    y, x = (_grid(part, size, k) - centre for part, centre in ((rows, thing.y), (columns, thing.x)))
    rho = np.sqrt(x**2 + y[:, None] ** 2) * np.float32(1 / thing.radius)
    theta = np.arctan2(y[:, None], x) - np.float32(thing.angle)
    at = np.rint(theta * np.float32(ANGLES / (2 * np.pi))).astype(np.int32) & (ANGLES - 1)
    outer = _outline(thing, style)
    depth = outer[at] - rho  # along the ray from the centre
    if SHAPES[thing.shape] == "ring":
        depth = np.minimum(depth, rho - HOLE * outer[at])
    inside = depth >= 0
    second = _texture(thing, x, y[:, None])
    edge = np.zeros_like(inside)
    if STYLES[style] == "sketch":
        edge = inside & (depth * _slopes()[thing.shape][at] < STROKE / thing.radius)
    layers = np.stack([inside & ~second & ~edge, inside & second & ~edge, edge])
    shape = (3, layers.shape[1] // k, k, layers.shape[2] // k, k)
    return rows, columns, _inks(thing, style), layers.reshape(shape).mean((2, 4), dtype=np.float32)


def samples(size: int) -> int:
    """How many samples a pixel has along each side."""
    return 4 if size < 64 else 3


def _stretch(centre: float, radius: float, size: int) -> slice:
    """The pixels from centre - radius to centre + radius."""
    return slice(max(int((centre - radius) * size), 0), min(int((centre + radius) * size) + 1, size))


def _grid(part: slice, size: int, k: int) -> np.ndarray:
    """The places of the samples of some pixels, k for each: float32 [k * pixels]."""
    return ((np.arange(part.start * k, part.stop * k) + 0.5) / (size * k)).astype(np.float32)


def _texture(thing: Thing, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where stripes or dots are, bool [rows, columns]; offsets x and y from the centre."""
    name = TEXTURES[thing.texture]
    if name == "plain":
        return np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    if name == "striped":
        return (x + y) * np.float32(0.5**0.5 / PERIOD[name]) % 1 < 0.45
    u, v = (x / np.float32(PERIOD[name]) + 0.5) % 1 - 0.5, (y / np.float32(PERIOD[name]) + 0.5) % 1 - 0.5
    return u**2 + v**2 < DOT**2


def _inks(thing: Thing, style: int) -> np.ndarray:
    """The colours of fill, texture and outline, float32 [3, 3]."""
    colour = palette()[thing.colour]
    dark = 0.4 * colour if colour.max() > 60 else 6.5 * colour
    if STYLES[style] == "flat":
        return np.stack([colour, dark, colour])
    return np.stack([0.65 * colour + 0.35 * PAPER, dark, 0.6 * colour])


def _background(picture: Picture, size: int) -> np.ndarray:
    """float32 [S, S, 3]."""
    plain = _flat_background(picture.background, size)
    if STYLES[picture.style] == "flat":
        return plain
    at = _grid(slice(0, size), size, 1)
    across = 2 * np.pi * (at + 0.6 * at[:, None])
    strokes = np.sin(6 * across + 1.5 * np.sin(across + picture.phase))
    return PAPER + (plain - PAPER) * (0.6 + 0.4 * strokes).astype(np.float32)[..., None]


@functools.lru_cache(maxsize=32)
def _flat_background(background: int, size: int) -> np.ndarray:
    name = tuple(BACKGROUNDS)[background]
    first = np.array(BACKGROUNDS[name], np.float32)
    second = np.array(SECOND.get(name, first), np.float32)
    if name == "checkerboard":  # the mean over a pixel of a product of two signs is the product of their means
        k = samples(size)
        sign = np.where(_grid(slice(0, size), size, k) * 4 % 2 < 1, 1, -1).reshape(size, k).mean(1)
        weight = (1 - sign * sign[:, None]) / 2
    else:
        weight = np.broadcast_to(_grid(slice(0, size), size, 1)[:, None], (size, size))
    return first + (second - first) * weight.astype(np.float32)[..., None]


def _outline(thing: Thing, style: int) -> np.ndarray:
    """The distance of the outline from the centre at each angle, in radii, float32 [ANGLES]; at most 1.17."""
    outer = _outlines()[thing.shape]
    if STYLES[style] == "flat":
        return outer
    cosines, sines = _circle()[1:]
    waves = np.cos(thing.phases, dtype=np.float32) @ cosines - np.sin(thing.phases, dtype=np.float32) @ sines
    return outer * (1 - SWING + SWING / len(WAVES) * waves)


@functools.cache
def _circle() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The angles of the tables [ANGLES], and cosine and sine of the waves around them [waves, ANGLES], float32."""
    angles = (np.arange(ANGLES) * (2 * np.pi / ANGLES)).astype(np.float32)
    around = np.array(WAVES, np.float32)[:, None] * angles
    return angles, np.cos(around), np.sin(around)


@functools.cache
def _outlines() -> np.ndarray:
    """float32 [6, ANGLES], for each of SHAPES; the extent along x and y, turned by up to 0.2 rad, is at most 1."""
    turn = lambda n: np.arange(n) * (2 * np.pi / n) - np.pi / 2  # noqa: E731  (from the top)
    on = lambda angles: np.stack([np.cos(angles), np.sin(angles)], -1)  # noqa: E731
    square = 0.82 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    a, b = 0.95, 0.32  # of the cross: length and half width of an arm
    arm = np.array([(-b, -b), (-b, -a), (b, -a)])
    quarter = np.array([(0, 1), (-1, 0)])
    cross = np.concatenate([arm @ np.linalg.matrix_power(quarter, i) for i in range(4)])
    star = on(turn(10)) * np.where(np.arange(10) % 2, 0.45, 1)[:, None]
    ones = np.ones(ANGLES)
    found = [0.92 * ones, _radii(square), _radii(on(turn(3))), _radii(star), _radii(cross), 0.96 * ones]
    return np.array(found, np.float32)


def _radii(corners: np.ndarray) -> np.ndarray:
    """The distance from the centre at which a ray at each angle meets a polygon [corners, 2]: [ANGLES]."""
    cross = lambda a, b: a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]  # noqa: E731
    angles = np.arange(ANGLES) * (2 * np.pi / ANGLES) + 1e-9  # never through a corner
    ray = np.stack([np.cos(angles), np.sin(angles)], -1)[:, None]
    side = np.roll(corners, -1, 0) - corners
    distance, along = (cross(corners, v) / cross(ray, side) for v in (side, ray))
    return np.where((along >= 0) & (along <= 1) & (distance > 0), distance, 0).max(1)


@functools.cache
def _slopes() -> np.ndarray:
    """Distance from an outline, divided by distance along the ray: float32 [6, ANGLES]."""
    outer = _outlines()
    rise = (np.roll(outer, -1, 1) - np.roll(outer, 1, 1)) * (ANGLES / (4 * np.pi))
    return outer / np.hypot(outer, rise)

"""Reading scenes back from pictures, with a network that reads the class of a pixel off its colour."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data import scenes
from diffjax.runs.scene_reader import CLASSES, SceneReader, colour_and_shape, iou, objects, pair_map

DRAWN = scenes.make(range(30))
MAPS = pair_map(DRAWN)


def coloured(maps):
    """A picture of which `READER` reads these maps."""
    return np.repeat(maps[..., None] / 24 - 1, 3, -1).astype(np.float32)


READER = SceneReader(lambda x, c_noise: -jnp.abs(24 * (x[..., :1] + 1) - np.arange(CLASSES)), batch_size=8)


def test_maps_hold_pairs_where_the_masks_are():
    assert MAPS.shape == (30, 32, 32) and MAPS.dtype == np.uint8 and MAPS.max() < CLASSES
    colours, shapes = colour_and_shape(MAPS)
    for i, slot in zip(*np.nonzero(DRAWN.classes >= 0), strict=True):
        inside = (DRAWN.masks[i, slot] > 0) & (DRAWN.masks[i].sum(0) == 1)
        assert (shapes[i][inside] == 1 + DRAWN.classes[i, slot]).all()
        assert (colours[i][inside] == 1 + DRAWN.colours[i, slot]).all()
    assert ((MAPS == 0) == (DRAWN.masks.sum(1) == 0)).all()


def test_a_picture_of_the_map_has_its_pixels_and_boxes():
    x = coloured(MAPS)
    np.testing.assert_array_equal(READER.read(x), MAPS)
    figures = READER.map_figures(x, MAPS)
    assert figures["accuracy"] == figures["objects"] == figures["mean iou"] == 1
    assert figures["empty"] == np.mean(MAPS == 0)
    boxes = READER.box_figures(x, DRAWN)
    assert boxes["iou"] > 0.75 and boxes["hit"] == 1  # ends of boxes are less than a pixel away
    assert boxes["place"] >= boxes["iou"] > 2 * boxes["shuffled"]
    empty = READER.box_figures(-np.ones_like(x), DRAWN)
    assert set(empty.values()) == {0.0}
    assert READER.map_figures(-np.ones_like(x), MAPS)["accuracy"] == figures["empty"]


def test_another_class_in_the_right_place_has_a_place_and_no_iou():
    wrong = dataclasses.replace(DRAWN, colours=np.where(DRAWN.colours >= 0, (DRAWN.colours + 1) % 8, -1))
    right, other = READER.box_figures(coloured(MAPS), DRAWN), READER.box_figures(coloured(pair_map(wrong)), DRAWN)
    assert other["iou"] < 0.1 and other["place"] == pytest.approx(right["place"])


def test_objects_are_connected_pixels_of_one_class():
    one = np.zeros((6, 6), np.uint8)
    one[0, :4] = one[0:3, 3] = 7  # an angle
    one[1:3, 0:2] = 9  # beside it
    one[4:, 4:] = 7  # apart
    one[5, 0] = 7  # too small
    found = {(f.pair, f.pixels, f.box) for f in objects(one)}
    boxes = {(6, 6): (0, 0, 4, 3), (8, 4): (0, 1, 2, 3), (6, 4): (4, 4, 6, 6)}
    assert found == {(*what, tuple(end / 6 for end in box)) for what, box in boxes.items()}
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iou((0, 0, 1, 1), (2, 0, 3, 1)) == 0 and iou((0, 0, 0, 0), (0, 0, 0, 0)) == 0

import sys

import numpy as np
import pytest
from PIL import Image

from diffjax.plots import image_grid, image_rows, save_image, scatter_panels


def test_grid_places_images_row_by_row():
    x = np.stack([np.full((2, 3, 1), v) for v in (-1.0, 0.0, 1.0, 5.0, -5.0)])  # the last two are clipped
    grid = image_grid(x, rows=2)
    assert grid.shape == (4, 9, 1) and grid.dtype == np.uint8
    cells = grid.reshape(2, 2, 3, 3)[:, :, :, 0].transpose(0, 2, 1)[:, :, 0]  # one pixel of each cell
    np.testing.assert_array_equal(cells, [[0, 128, 255], [255, 0, 0]])  # an empty cell is black


def test_grid_keeps_pixels_and_channels():
    x = np.linspace(-1, 1, 4 * 2 * 3 * 3).reshape(4, 2, 3, 3)
    grid = image_grid(x)
    assert grid.shape == (4, 6, 3)
    np.testing.assert_array_equal(grid[2:, :3], np.rint((x[2] + 1) * 127.5).astype(np.uint8))
    assert image_grid(x[:3]).shape == (2, 9, 3)  # isqrt(3) = 1 row


@pytest.mark.parametrize("shape", [(0, 2, 2, 1), (2, 2, 2), (1, 2, 2, 2), (1, 0, 2, 3)])
def test_grid_rejects_shapes(shape):
    with pytest.raises(ValueError, match="expected images"):
        image_grid(np.zeros(shape))


def test_grid_rejects_rows_and_nan():
    with pytest.raises(ValueError, match="rows must be from 1 to 2, got 3"):
        image_grid(np.zeros((2, 2, 2, 1)), rows=3)
    with pytest.raises(ValueError, match="1 of 8 values are NaN"):
        image_grid(np.where(np.arange(8).reshape(2, 2, 2, 1) == 3, np.nan, 0))


def test_grid_of_other_units():
    """Levels stay levels; floats that cannot lie in [-1, 1] are refused, and those that look like [0, 1] warned of."""
    levels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    np.testing.assert_array_equal(image_grid(levels), levels[0])
    with pytest.raises(ValueError, match=r"image_grid must lie in .* from 0 to 200"):
        image_grid(np.linspace(0, 200, 64).reshape(1, 8, 8, 1))
    with pytest.raises(TypeError, match=r"image_grid must be floats .* int64"):
        image_grid(levels.astype(int))
    with pytest.warns(UserWarning, match="take 2 x - 1"):
        image_grid(np.linspace(0, 1, 64).reshape(1, 8, 8, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_image_is_scaled_by_nearest_pixels(tmp_path, channels):
    grid = np.random.default_rng(0).integers(0, 256, (2, 3, channels), np.uint8)
    path = tmp_path / "new" / "grid.png"
    save_image(path, grid, scale=4)
    read = np.asarray(Image.open(path)).reshape(8, 12, channels)
    for i, j in np.ndindex(8, 12):
        np.testing.assert_array_equal(read[i, j], grid[i // 4, j // 4])


def test_save_image_errors(tmp_path):
    with pytest.raises(ValueError, match="expected a uint8 image"):
        save_image(tmp_path / "a.png", np.zeros((2, 2, 1)))
    with pytest.raises(ValueError, match="scale"):
        save_image(tmp_path / "a.png", np.zeros((2, 2, 1), np.uint8), scale=0)


def test_rows_are_drawn_from_above_with_one_scale_of_grey(tmp_path):
    rows = {"dark": np.full((3, 4, 4, 1), -0.5), "light": np.full((3, 4, 4, 1), 0.5)}
    image_rows(tmp_path / "new" / "rows.png", rows)
    middle = np.asarray(Image.open(tmp_path / "new" / "rows.png").convert("L"), int)
    middle = middle[:, int(0.6 * middle.shape[1])]
    assert abs(middle[len(middle) // 4] - 64) <= 1 and abs(middle[3 * len(middle) // 4] - 191) <= 1
    with pytest.raises(ValueError, match="there is no row to draw"):
        image_rows(tmp_path / "none.png", {})
    with pytest.raises(ValueError, match=r"as many images of one size, got .*\(2, 4, 4, 1\)"):
        image_rows(tmp_path / "none.png", rows | {"short": rows["dark"][:2]})


def test_panels_show_points_and_leave_pyplot_alone(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    points = np.tile([[1.0, 1.0]], (400, 1))
    scatter_panels(tmp_path / "p.png", {"left": points, "right": -points})
    image = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)
    assert image.shape[1] == 2 * 3 * 150
    blue = image[..., 2] - image[..., 0] > 60
    left, right = np.argwhere(blue[:, :450]).mean(0), np.argwhere(blue[:, 450:]).mean(0)
    assert left[1] > 225 and right[1] < 225 and left[0] < right[0]  # upper right; lower left
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_panel_errors(tmp_path):
    with pytest.raises(ValueError, match="no panel"):
        scatter_panels(tmp_path / "p.png", {})
    with pytest.raises(ValueError, match="limit must be"):
        scatter_panels(tmp_path / "p.png", {"a": np.zeros((3, 2))}, limit=0)
    scatter_panels(tmp_path / "p.png", {"a": np.array([[0, np.nan], [1, 1]])})  # "a (1 not finite)"
    with pytest.raises(ValueError, match=r"'a': expected points \[N, 2\]"):
        scatter_panels(tmp_path / "p.png", {"a": np.zeros((3, 3))})

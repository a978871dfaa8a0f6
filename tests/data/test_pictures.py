import numpy as np
import pytest
from PIL import Image

from diffjax.data.pictures import read_square, shrink

RNG = np.random.default_rng(0)


def test_averages_over_areas():
    """Against a copy in which every pixel is repeated until the areas are whole numbers of pixels."""
    for side, size in ((12, 4), (7, 3), (5, 4), (23, 8), (9, 9), (6, 1)):
        image = RNG.integers(0, 256, (side, side, 3), np.uint8)
        fine = image.repeat(size, 0).repeat(size, 1).astype(np.float64)
        mean = fine.reshape(size, side, size, side, 3).mean((1, 3))
        result = shrink(image, size)
        assert result.shape == (size, size, 3) and result.dtype == np.uint8
        assert np.abs(result - mean).max() <= 0.5 + 1e-9
    white = np.full((178, 178, 1), 255, np.uint8)
    np.testing.assert_array_equal(shrink(white, 32), 255)


def test_takes_the_central_square(tmp_path):
    image = RNG.integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_square(tmp_path / "wide.png", 6), image[:, 1:7])
    Image.fromarray(image.swapaxes(0, 1)).save(tmp_path / "tall.bmp")
    np.testing.assert_array_equal(read_square(tmp_path / "tall.bmp", 6), image[:, 1:7].swapaxes(0, 1))


def test_what_is_transparent_becomes_white(tmp_path):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 3] = [[255, 0], [128, 0]]  # black, of three opacities
    grey = 255 - 128
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., 2:]).save(tmp_path / "grey.png")  # grey and opacity
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=True, exact=True)
    for name in ("a.png", "grey.png", "a.webp"):
        np.testing.assert_array_equal(read_square(tmp_path / name, 2)[..., 0], [[0, 255], [grey, 255]])
    np.testing.assert_array_equal(read_square(tmp_path / "a.png", 1)[0, 0], round((0 + 255 + grey + 255) / 4))
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "palette.png", transparency=1)
    expected = [[[10, 20, 30], [255] * 3], [[255] * 3] * 2]
    np.testing.assert_array_equal(read_square(tmp_path / "palette.png", 2), expected)


def test_modes_and_orientation(tmp_path):
    levels = RNG.integers(0, 65536, (4, 4), np.uint16)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_square(tmp_path / "deep.png", 4), (levels >> 8)[..., None].repeat(3, -1))
    ramp = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise to see it upright
    Image.fromarray(ramp).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_square(tmp_path / "turned.png", 4)[..., 1], np.rot90(ramp, -1))
    Image.fromarray(np.full((8, 8, 4), 255, np.uint8), "CMYK").save(tmp_path / "ink.jpg")
    assert read_square(tmp_path / "ink.jpg", 4).max() == 0
    Image.fromarray(ramp).save(tmp_path / "small.png")
    assert read_square(tmp_path / "small.png", 9).shape == (9, 9, 3)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(RNG.integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for damaged in (whole[:-400], whole[:20], b"", b"GIF?", b"<html>not found</html>"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x\.png cannot be read as a picture"):
            read_square(path, 8)
    with pytest.raises(FileNotFoundError):
        read_square(tmp_path / "none.png", 8)

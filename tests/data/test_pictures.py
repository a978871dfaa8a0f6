import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from diffjax.data.pictures import read_rgb, read_square, shrink

RNG = np.random.default_rng(0)


def png(levels, bits, kind, transparent=None):
    """A PNG file by its specification: levels [H, W] or [H, W, C], the colour type, and the transparent colour."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    places = np.arange(bits)[::-1]
    rows = [np.packbits(row.reshape(-1, 1) >> places & 1).tobytes() for row in levels]
    head = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], bits, kind, 0, 0, 0)
    body = [(b"IHDR", head), (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    if transparent is not None:
        body.insert(1, (b"tRNS", np.array(transparent, ">u2").tobytes()))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in body)


def square(pixels):
    """The central square of [H, W, C]."""
    h, w, side = *pixels.shape[:2], min(pixels.shape[:2])
    top, left = (h - side) // 2, (w - side) // 2
    return pixels[top : top + side, left : left + side]


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
    for damaged in (whole[:-400], whole[:20], b"", b"GIF?", b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x\.png cannot be read as a picture"):
            read_square(path, 8)
    with pytest.raises(FileNotFoundError, match=r"there is no picture .*none\.png: it is missing"):
        read_square(tmp_path / "none.png", 8)
    (tmp_path / "lost.png").symlink_to(tmp_path / "none.png")
    with pytest.raises(FileNotFoundError, match=r"lost\.png: it is a link to nothing"):
        read_square(tmp_path / "lost.png", 8)
    for nothing in (tmp_path, tmp_path / "pipe.png"):  # a pipe would be waited for
        if nothing != tmp_path:
            os.mkfifo(nothing)
        with pytest.raises(FileNotFoundError, match="it is no file"):
            read_square(nothing, 8)


@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (9, 5)])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_of_any_depth_and_its_transparent_level(tmp_path, bits, shape):
    path, top = tmp_path / "x.png", 2**bits - 1
    levels = RNG.integers(0, top + 1, shape)
    levels.flat[:2] = [top, top - 1][: levels.size]  # 16 bits: two levels that differ in the lower byte
    grey = levels >> 8 if bits == 16 else levels * (255 // top)
    for transparent in (None, top, top - 1, 0):
        path.write_bytes(png(levels, bits, 0, transparent))
        expected = np.where(levels == transparent, 255, grey)[..., None].repeat(3, -1)
        np.testing.assert_array_equal(read_square(path, min(shape)), square(expected))


@pytest.mark.parametrize("shape", [(1, 1), (4, 7), (9, 5)])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_in_colour_with_transparency(tmp_path, bits, shape):
    path = tmp_path / "x.png"
    levels = RNG.integers(0, 2**bits, (*shape, 3))
    levels.reshape(-1, 3)[:2] = [[3, 2, 1], [3, 2, 0]][: shape[0] * shape[1]]
    expected, colour = levels >> (bits - 8), np.array([3, 2, 1])
    path.write_bytes(png(levels, bits, 2, colour))
    hidden = np.where((levels == colour).all(-1, keepdims=True), 255, expected)
    np.testing.assert_array_equal(read_square(path, min(shape)), square(hidden))
    opacity = RNG.choice([0, 2**bits - 1], (*shape, 1))
    path.write_bytes(png(np.concatenate([levels, opacity], -1), bits, 6))
    np.testing.assert_array_equal(read_square(path, min(shape)), square(np.where(opacity > 0, expected, 255)))
    path.write_bytes(png(np.concatenate([levels[..., :1], opacity], -1), bits, 4))  # grey and opacity
    grey = expected[..., :1].repeat(3, -1)
    np.testing.assert_array_equal(read_square(path, min(shape)), square(np.where(opacity > 0, grey, 255)))


PIXELS = RNG.integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.webp", "x.tif"])
@pytest.mark.parametrize("orientation", range(1, 10))  # 9: there is no such
def test_orientations(tmp_path, orientation, name):
    turned = {  # EXIF 2.32: which side of the scene the file's first row and first column are
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.swapaxes(0, 1),
        6: np.rot90(PIXELS, -1),
        7: PIXELS.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(PIXELS),
    }.get(orientation, PIXELS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if name == "x.jpg" else {"lossless": True} if name == "x.webp" else {}
    Image.fromarray(PIXELS).save(tmp_path / name, exif=exif, **options)
    rgb = np.asarray(read_rgb(tmp_path / name)[0])
    assert rgb.shape == turned.shape and np.abs(rgb - turned.astype(int)).max() <= 6 * (name == "x.jpg")


FRAMES = [Image.new("RGB", (5, 4), (60 * i, 255 - 60 * i, 7)) for i in range(4)]
KINDS = {
    "jpg": {"quality": 95},
    "progressive.jpg": {"quality": 95, "progressive": True},
    "webp": {"lossless": True},
    "gif": {},
    "bmp": {},
    "tif": {"compression": "tiff_lzw"},
    "png": {},
}
MOVING = {"moving.gif": {}, "moving.webp": {"lossless": True}, "moving.png": {}, "moving.tif": {}}


@pytest.mark.parametrize("name", [*KINDS, *MOVING])
def test_kinds_of_files_by_their_content(tmp_path, name):
    """Whatever the name says; of an animation the first frame. What is cut short is an error, or whole all the same."""
    options = KINDS.get(name) or MOVING.get(name, {}) | {"save_all": name in MOVING, "append_images": FRAMES[1:]}
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name.split(".")[-1], name.split(".")[-1].upper())
    raw = io.BytesIO()
    FRAMES[0].save(raw, kind, **options)
    path = tmp_path / "wrong ending\n.JPG"
    path.write_bytes(raw.getvalue())
    rgb, frames = read_rgb(path)
    whole = np.asarray(rgb)
    assert frames == (4 if name in MOVING else 1)
    assert np.abs(whole - np.asarray(FRAMES[0]).astype(int)).max() <= 3 * ("jpg" in name)
    for part in (0.02, 0.3, 0.6, 0.9):
        path.write_bytes(raw.getvalue()[: int(part * len(raw.getvalue()))])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert np.array_equal(read_rgb(path)[0], whole), part
            except ValueError as error:
                assert "cannot be read as a picture" in str(error) and path.name in str(error)


def test_levels_of_other_types(tmp_path):
    levels, path = RNG.integers(0, 65536, (3, 5), np.uint16), tmp_path / "x.tif"
    Image.fromarray(levels).save(path)
    np.testing.assert_array_equal(read_square(path, 3)[..., 0], square(levels >> 8))
    raw = path.read_bytes()
    entry = struct.pack("<HHI", 262, 3, 1)  # PhotometricInterpretation: 1 is black at 0, 0 is white at 0
    assert raw.count(entry + b"\1\0") == 1
    path.write_bytes(raw.replace(entry + b"\1\0", entry + b"\0\0"))
    np.testing.assert_array_equal(read_square(path, 3)[..., 1], square(255 - (levels >> 8)))
    for other in (levels.astype(np.float32), levels.astype(np.int32)):
        Image.fromarray(other).save(path)
        with pytest.raises(ValueError, match=r"x\.tif cannot be read.* which of them is white is not known"):
            read_square(path, 3)
    grey = PIXELS[..., :1].repeat(3, -1)
    Image.fromarray(grey).convert("LAB").save(path)
    assert np.abs(read_square(path, 6) - square(grey).astype(int)).max() <= 2  # eight bits of L, of which one is .4
    for mode in ("1", "L", "P", "CMYK", "YCbCr", "RGBX"):
        Image.fromarray(PIXELS).convert(mode).save(path, compression="raw" if mode != "YCbCr" else None)
        expected = np.asarray(Image.fromarray(PIXELS).convert(mode).convert("RGB"))
        np.testing.assert_array_equal(read_square(path, 6), square(expected))


def test_sizes_that_will_not_do(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    Image.fromarray(PIXELS).save(path)
    with pytest.raises(TypeError, match="size must be an integer"):
        read_square(path, 4.0)
    for beyond in ((0, 0, 7), (4, 0, 6), (-1, 0, 4)):
        with pytest.raises(ValueError, match=r"x\.png of 9 x 6 pixels has no square of"):
            read_square(path, 4, beyond)
    np.testing.assert_array_equal(read_square(path, 6, (3, 0, 6)), PIXELS[:, 3:])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # below twice that: read, and no warning
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_square(path, 2).shape == (2, 2, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"x\.png cannot be read as a picture: it is too large; make it smaller first"):
        read_square(path, 2)


def test_damaged_exif_data_are_said(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\1")
    with pytest.warns(UserWarning, match=r"x\.jpg: .*"):
        assert read_square(path, 6).shape == (6, 6, 3)

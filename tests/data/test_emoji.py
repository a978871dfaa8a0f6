"""The emoji from tiny packages of one colour a picture: table, captions, styles, cache and split."""

import json

import numpy as np
import pytest
from PIL import Image

from diffjax.data import emoji, load
from diffjax.data.emoji import CATEGORIES, STYLES, groups, neutral

WAVE = {"1F3FB": "1F44B-1F3FB", "1F3FF": "1F44B-1F3FF"}
HANDS = {"1F3FB-1F3FF": "1F9D1-1F3FB-200D-1F9D1-1F3FF"}
TABLE = [  # code, name, category, skin tones
    ("0023-FE0F-20E3", "HASH KEY", "Symbols", {}),
    ("1F44B", "WAVING HAND SIGN", "People & Body", WAVE),
    ("1F9D1-200D-1F9D1", "PEOPLE HOLDING HANDS", "People & Body", HANDS),
    ("1F1EB-1F1F7", "France Flag", "Flags", {}),
    ("1F1F2-1F1EB", "St. Martin Flag", "Flags", {}),
    ("1F40C", "SNAIL", "Animals & Nature", {}),
]
COUNT = 9  # with the skin tones


def colour(code):
    """A colour for each code; the two flags are alike."""
    seed = list(b"1F1EB-1F1F7" if code == "1F1F2-1F1EB" else code.encode())
    return tuple(int(c) for c in np.random.default_rng(seed).integers(0, 200, 3))


def entry(code, name, category, tones):
    image = lambda code: {"unified": code, "image": f"{code.lower()}.png"}  # noqa: E731
    variations = {"skin_variations": {tone: image(varied) for tone, varied in tones.items()}} if tones else {}
    return {**image(code), "name": name, "short_name": name.lower(), "category": category, **variations}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """node_modules with the three packages; Fluent has no flags, and names its files its own way."""
    monkeypatch.setenv("DIFFJAX_PACKAGES", str(tmp_path))
    root = tmp_path / "node_modules"
    codes = [code for code, _, _, tones in TABLE for code in (code, *tones.values())]
    for style, (package, folder) in emoji.FOLDERS.items():
        (root / package / folder).mkdir(parents=True)
        for code in codes:
            if style != "fluent":
                image = Image.new("RGBA", (64, 64), (*colour(code), 255))
                image.paste((0, 0, 0, 0), (0, 0, 64, 32))  # the upper half is transparent
                image.save(root / package / folder / f"{code.lower()}.png")
            elif not code.startswith("1F1"):
                image = Image.new("RGBA", (256, 256), (*colour(code), 255))
                image.save(root / package / folder / f"{code.lower().replace('-fe0f', '')}.webp", lossless=True)
    (root / emoji.NAMES / "emoji.json").write_text(json.dumps([entry(*row) for row in TABLE]))
    return root


def test_pictures_captions_and_categories_of_all_styles(modules, tmp_path):
    found = emoji.read(tmp_path / "data", size=16)
    assert found.images.shape == (3 * COUNT - 2, 16, 16, 3) and found.images.dtype == np.uint8
    assert [(found.styles == style).sum() for style in STYLES] == [COUNT, COUNT, COUNT - 2]
    assert found.captions[:5].tolist() == [
        "hash key", "waving hand sign", "waving hand sign, light skin", "waving hand sign, dark skin",
        "people holding hands",
    ]  # fmt: skip
    assert found.captions[5] == "people holding hands, light skin and dark skin"
    assert [CATEGORIES[label] for label in found.labels[[0, 1, 6, 8]]] == [
        "Symbols", "People & Body", "Flags", "Animals & Nature",
    ]  # fmt: skip
    assert set(found.codes.tolist()) == {code for code, *_ in TABLE}
    snails = found.images[found.captions == "snail"]
    np.testing.assert_array_equal(snails[0, :8], 255)  # on white
    np.testing.assert_array_equal(snails[0, 8:], np.broadcast_to(colour("1F40C"), (8, 16, 3)))
    np.testing.assert_array_equal(snails[2], np.broadcast_to(colour("1F40C"), (16, 16, 3)))


def test_the_second_time_needs_no_package(modules, tmp_path, monkeypatch):
    first = emoji.read(tmp_path / "data", size=8)
    monkeypatch.setenv("DIFFJAX_PACKAGES", str(tmp_path / "absent"))
    for column, again in zip(first, emoji.read(tmp_path / "data", size=8), strict=True):
        np.testing.assert_array_equal(column, again)
    with pytest.raises(FileNotFoundError, match="make data"):
        emoji.read(tmp_path / "data", size=9)


def test_as_an_image_set(modules, tmp_path):
    everything = emoji.read(tmp_path / "data", size=8)
    data = load("emoji", tmp_path / "data", size=8)
    assert data.shape == (8, 8, 3) and data.class_names == CATEGORIES and data.name == "emoji"
    np.testing.assert_array_equal(data.test_images, everything.images[everything.test])
    assert data.train_captions == tuple(everything.captions[~everything.test].tolist())
    fluent = emoji.load(tmp_path / "data", size=8, styles=("fluent",))
    assert len(fluent.train_images) + len(fluent.test_images) == COUNT - 2
    assert not set(fluent.train_captions) & set(data.test_captions)


def test_the_same_emoji_never_lies_on_both_sides(modules, tmp_path, monkeypatch):
    for threshold in (0.2, 0.5, 0.8):  # so that both sides are filled, in several ways
        monkeypatch.setattr(emoji, "draw", lambda name, t=threshold: 0.1 * (0.5 if hash_of(name) < t else 2))
        found = emoji.build(8)
        assert 0 < found.test.sum() < len(found.test)
        for code in set(found.codes.tolist()):
            assert len(set(found.test[found.codes == code])) == 1  # all its styles and skin tones
        flags = np.char.endswith(found.captions, "flag")
        assert len(set(found.test[flags])) == 1  # one picture under two names


def hash_of(name):
    return {code: (i * 5 % 6 + 0.5) / 6 for i, (code, *_) in enumerate(TABLE)}[name]


def test_groups_are_chains():
    links = [("b", "x"), ("c", "y"), ("a", "z"), ("x", "y"), ("d", "d")]
    assert groups(links) == ["b", "b", "a", "b", "d"]


def test_gender_and_direction_are_left_out():
    runner = "1F3C3"
    for woman in ("-200D-2640-FE0F", "-200D-2642-FE0F", "-200D-27A1-FE0F", "-200D-2640-FE0F-200D-27A1-FE0F"):
        assert neutral(runner + woman) == runner
    assert neutral("1F469-200D-1F3A8") == neutral("1F468-200D-1F3A8") == "1F9D1-200D-1F3A8"
    assert neutral("27A1-FE0F") == "27A1-FE0F"  # the arrow itself


def test_bad_arguments_and_damaged_packages(modules, tmp_path):
    with pytest.raises(ValueError, match="emoji can be 8 to 64 pixels wide, not 128"):
        emoji.load(tmp_path, size=128)
    with pytest.raises(ValueError, match="styles must be some of google, twitter, fluent, got google, apple"):
        emoji.load(tmp_path, styles=("google", "apple"))
    with pytest.raises(ValueError, match="got none"):
        emoji.load(tmp_path, styles=())
    snail = modules / "emoji-datasource-twitter" / "img" / "twitter" / "64" / "1f40c.png"
    snail.write_bytes(snail.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"1f40c\.png cannot be read"):
        emoji.load(tmp_path / "data")
    snail.unlink()
    with pytest.raises(FileNotFoundError, match=r"no img/twitter/64/1f40c\.png of .* emoji-datasource-twitter"):
        emoji.load(tmp_path / "data")
    assert not (tmp_path / "data").exists()

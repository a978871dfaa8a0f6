"""A folder of one's own pictures: names, captions, classes, split, and what can be wrong with it."""

import os

import numpy as np
import pytest
from PIL import Image

from diffjax.data import load
from diffjax.data.folder import caption_from_name, held_out
from diffjax.data.image_data import draw


def paint(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), (level, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures of five kinds, and files that are none."""
    folder = tmp_path / "shoes"
    endings = ("png", "jpg", "JPEG", "webp", "bmp")
    for i in range(10):
        paint(folder / f"red_shoe-{i:02}.{endings[i % 5]}", 20 * i)
    for name in ("notes.txt", ".hidden.png", "movie.mp4", ".cache/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no picture")
    return folder


def together(data):
    """{caption: (first level of red, label)} of both parts."""
    captions = data.train_captions + data.test_captions
    levels = np.concatenate([data.train_images, data.test_images])[:, 0, 0, 0].tolist()
    labels = np.concatenate([data.train_labels, data.test_labels]).tolist()
    return {caption: [level, label] for caption, level, label in zip(captions, levels, labels, strict=True)}


def test_pictures_and_captions_from_their_names(folder):
    data = load("folder", path=folder, size=8)
    assert data.shape == (8, 8, 3) and data.name == "folder" and data.class_names == ("shoes",)
    found = together(data)
    assert sorted(found) == [f"red shoe {i:02}" for i in range(10)]
    for i in range(10):
        assert abs(found[f"red shoe {i:02}"][0] - 20 * i) <= 4  # JPEG and WebP are not exact


def test_the_rule_for_captions():
    rule = {"red_shoe-03.png": "red shoe 03", "a/b/__Two--words .webp": "Two words", "x.y.png": "x.y", "-_-.png": ""}
    assert {name: caption_from_name(name) for name in rule} == rule


def test_folders_are_classes(tmp_path):
    for i, name in enumerate(("dogs/a.png", "cats/a.png", "cats/young/b_c.png", "d.png")):
        paint(tmp_path / "pets" / name, 50 * i)
    data = load("folder", path=tmp_path / "pets", size=4)
    assert data.class_names == ("cats", "dogs", "pets")  # what lies beside the folders is called after the whole
    assert together(data)["b c"] == [100, 0] and together(data)["d"] == [150, 2]
    assert len(data.train_images) + len(data.test_images) == 4


def test_captions_from_a_table(folder, tmp_path):
    names = sorted(path.name for path in folder.glob("red*"))
    rows = [f'.\\{name},"shoe, number {i}",x' for i, name in enumerate(names)]
    table = "\ufefffile,caption,more\r\n" + "\r\n".join(rows) + "\r\n"  # as spreadsheets write it
    (tmp_path / "mine.csv").write_bytes(table.encode())
    found = together(load("folder", path=folder, captions=tmp_path / "mine.csv"))
    assert abs(found["shoe, number 4"][0] - 80) <= 4 and len(found) == 10
    (folder / "captions.csv").write_bytes(table.replace("number", "nr").encode())
    assert "shoe, nr 3" in together(load("folder", path=folder))  # found by its name


def test_the_split_is_fixed_and_stays_when_pictures_come(folder):
    names = [f"{i}.png" for i in range(200)]
    test = held_out(names)
    np.testing.assert_array_equal(test, [draw(name) < 0.1 for name in names])
    assert 5 < test.sum() < 40
    np.testing.assert_array_equal(held_out(names[::2]), test[::2])
    assert held_out(["a"]).tolist() == [False]
    for i in range(100):  # at least one on each side
        assert held_out([f"{i}-a", f"{i}-b"]).sum() == 1
    data, again = load("folder", path=folder), load("folder", path=folder)
    assert data.test_captions == again.test_captions and len(data.test_captions) >= 1


def test_a_single_picture(tmp_path):
    paint(tmp_path / "one.png")
    data = load("folder", path=tmp_path, size=4)
    assert data.train_captions == ("one",) and data.test_images.shape == (0, 4, 4, 3)


def test_no_folder_and_no_pictures(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent"):
        load("folder", path=tmp_path / "absent")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(FileNotFoundError, match=r"no picture \(\.png, \.apng, \.jpg, .*, \.avif\) in the folder"):
        load("folder", path=tmp_path)
    paint(tmp_path / "x.png")
    with pytest.raises(FileNotFoundError, match=r"notes\.txt is a file: give the folder of your pictures"):
        load("folder", path=tmp_path / "notes.txt")
    for size in (0, 5000, -1):
        with pytest.raises(ValueError, match=f"size must be .*, got {size}: the width of the pictures"):
            load("folder", path=tmp_path, size=size)
    for size in (17.5, "32", None):
        with pytest.raises(TypeError, match="size must be an integer"):
            load("folder", path=tmp_path, size=size)


def test_odd_names_links_and_what_is_skipped(tmp_path, capsys):
    folder, away = tmp_path / "my pictures", tmp_path / "away"
    names = [
        "plain.PNG",
        "two  words.Jpg",
        "line\nbreak.png",
        "Stra\u00dfe \u96ea.png",
        "-dash.png",
        "x.png/inside.png",
    ]
    for i, name in enumerate(names):
        paint(folder / name, 30 * i)
    paint(away / "linked.png", 240)
    (folder / "link.png").symlink_to(away / "linked.png")
    paint(folder / os.fsdecode(b"caf\xe9.png"), 200)  # Latin-1, which is no UTF-8
    data = load("folder", path=folder, size=4)
    assert capsys.readouterr().out == ""  # everything was taken
    captions = ["plain", "two words", "line break", "Stra\u00dfe \u96ea", "dash", "inside", "linked"[:4], "caf?"]
    assert sorted(together(data)) == sorted(captions)
    assert together(data)["link"][0] == 240 and together(data)["inside"] == [150, data.class_names.index("x.png")]
    for name in (".DS_Store", "._plain.PNG", ".hidden.png", "notes.txt", "raw.heic", ".git/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    (folder / "elsewhere").symlink_to(away)
    frames = [Image.new("RGB", (9, 9), (level, 0, 0)) for level in (77, 0)]
    frames[0].save(folder / "move.gif", save_all=True, append_images=frames[1:])
    again = load("folder", path=folder, size=4)
    said = capsys.readouterr().out
    assert sorted(together(again)) == sorted([*captions, "move"]) and together(again)["move"][0] == 77
    expected = "9 pictures; skipped 3 of other kinds (elsewhere, notes.txt, raw.heic); skipped 3 hidden; took the first"
    assert said == f"{folder}: {expected} frame of 1 with several\n"


def test_names_that_are_ambiguous_and_links_to_nothing(tmp_path):
    paint(tmp_path / "caf\u00e9.png")
    paint(tmp_path / "cafe\u0301.png")
    with pytest.raises(ValueError, match="have the same name in Unicode"):
        load("folder", path=tmp_path)
    (tmp_path / "cafe\u0301.png").unlink()
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"lost\.png: it is a link to nothing"):
        load("folder", path=tmp_path)


def test_damaged_pictures_are_named(folder):
    path = folder / "red_shoe-00.png"
    for damaged in (path.read_bytes()[:40], b"", b"<svg/>"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"red_shoe-00\.png cannot be read as a picture"):
            load("folder", path=folder)


def test_pictures_without_a_caption(folder, tmp_path):
    (folder / "captions.csv").write_text("file,caption\nred_shoe-00.png,a shoe\nred_shoe-05.png,  \n")
    message = r"gives no caption for red_shoe-01\.jpg, red_shoe-02\.JPEG, red_shoe-03\.webp and 6 more in"
    with pytest.raises(ValueError, match=message):
        load("folder", path=folder)
    paint(tmp_path / "other" / "__.png")
    with pytest.raises(ValueError, match=r"its file name gives no caption for __\.png"):
        load("folder", path=tmp_path / "other")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,caption\nblue.png,a shoe\n", r"captions\.csv names blue\.png, but there is no such picture in"),
        ("file,caption\n,a shoe\n", r"no table of captions: line 2 names no file"),
        ("file,caption\na.png,x\n\n./a.png,y\n", r"line 4 names a\.png again"),
        ("file,caption\na.png,red, with laces\n", "line 2 has too many columns"),
        ("name,caption\na.png,x\n", r"lacks the column file"),
        ("", "lacks the column caption and file"),
        ('file,caption\na.png,"x\n', "no table of captions"),
        ("file,caption\na.png,\xe9", "no table of captions"),
    ],
)
def test_tables_that_will_not_do(tmp_path, table, message):
    paint(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_bytes(table.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        load("folder", path=tmp_path)


def test_a_table_that_is_not_there(folder):
    with pytest.raises(FileNotFoundError, match=r"no file .*mine\.csv with captions"):
        load("folder", path=folder, captions=folder / "mine.csv")

"""Scenes: what captions, boxes, masks and attributes say of the pictures, and of each other."""

import colorsys
import itertools
import re

import numpy as np
import pytest

from diffjax import data
from diffjax.data import prepared, scenes
from diffjax.data.scene_drawing import BACKGROUNDS, COLOURS, SECOND, SHAPES, SIZES, STYLES, TEXTURES, boxes, draw
from diffjax.data.scene_sampling import EDITS, HELD_OUT, sample
from diffjax.data.scenes import SceneBuilder, Scenes, make, read, scene

N = 300
NOUN = re.compile(rf"\b(an?) (?:(small|large) )?(?:(striped|dotted) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b")
HOW = re.compile(r"left of|right of|above|below")


@pytest.fixture(scope="module")
def train():
    return read(N)


@pytest.fixture(scope="module")
def plans():
    """What is in 4,000 training scenes, which are not drawn."""
    return [sample(index, "train") for index in range(4000)]


def same(a, b):
    """Two Scenes or Pictures, or examples as dicts, agree in every bit."""
    a, b = (x if isinstance(x, dict) else vars(x) for x in (a, b))
    assert a.keys() == b.keys()
    for name, value in a.items():
        if name in ("twin", "twins"):
            same(value, b[name])
        else:
            np.testing.assert_array_equal(value, b[name], err_msg=name, strict=True)


def parse(caption):
    """The objects of a caption as (size, texture, colour, shape), their relations, the background and the style."""
    found = list(NOUN.finditer(caption))
    assert all((m[1] == "an") == (m[0].split()[1][0] in "aeiou") for m in found), caption
    things = [(m[2] or "medium", m[3] or "plain", m[4], m[5]) for m in found]
    between = [caption[a.end() : b.start()] for a, b in itertools.pairwise(found)]
    words = [HOW.search(text) for text in between]
    relations = [word[0] if word else None for word in words]
    if len(relations) == 2 and relations[1] is None:  # "left of a star and a ring"
        relations[1] = relations[0]
    assert None not in relations, caption
    background = re.search(r"\ba (white|grey|light blue|light green|pink|gradient|checkerboard) background", caption)[1]
    return things, relations, background, "sketch" if re.search("sketch|hand-drawn", caption) else "flat"


def check_caption(pictures, i):
    things, relations, background, style = parse(pictures.captions[i])
    slots = np.flatnonzero(pictures.classes[i] >= 0)
    columns = zip(pictures.sizes[i], pictures.textures[i], pictures.colours[i], pictures.classes[i], strict=True)
    names = tuple(SIZES), TEXTURES, tuple(COLOURS), SHAPES
    said = [tuple(name[k] for name, k in zip(names, row, strict=True)) for row in columns if row[0] >= 0]
    assert things == said and background == tuple(BACKGROUNDS)[pictures.backgrounds[i]], pictures.captions[i]
    assert style == STYLES[pictures.styles[i]]
    x0, y0, x1, y1 = pictures.boxes[i][slots].T
    for k, how in enumerate(relations, 1):
        gap = {"left of": x0[k] - x1[0], "right of": x0[0] - x1[k], "above": y0[k] - y1[0], "below": y0[0] - y1[k]}
        assert gap[how] > 0.03 and gap[how] == max(gap.values()), pictures.captions[i]


def test_a_scene_depends_on_its_split_and_index_alone(train):
    assert isinstance(train, Scenes)
    same(make([7, 250, 7]), make([7, 250, 7]))
    for i in (0, 7, 299):
        one = vars(make([i]))
        same(
            {k: v[0] for k, v in one.items() if k != "twins"}, {k: v[i] for k, v in vars(train).items() if k != "twins"}
        )
        np.testing.assert_array_equal(one["twins"].images[0], train.twins.images[i])
        example = scene(i)
        np.testing.assert_array_equal(example["twin"]["masks"], train.twins.masks[i], strict=True)
        assert example["caption"] == train.captions[i] and example["instruction"] == train.instructions[i]
    assert len(np.unique(train.images, axis=0)) == N
    assert not np.isin(read(50, "test").captions, train.captions[:50]).any()
    assert len({tuple(sample(5, split).picture.things) for split in ("train", "test", "heldout")}) == 3


def test_the_stream_stays_the_same():
    """Other pictures need another SERIES: what was prepared, and what was trained on them, would be of the old ones."""
    first = make([0, 1])
    assert first.captions.tolist() == [
        "a sketch of a small black circle left of a small dotted red triangle, and below a yellow square, "
        "on a gradient background",
        "on a white background, a small red triangle, drawn as a sketch",
    ]
    assert first.instructions.tolist() == ["remove the circle", "make the triangle yellow"]
    assert abs(first.images.mean() - 230.293) < 0.01
    assert abs(first.twins.images.mean() - 233.591) < 0.01


def test_a_scene_is_the_same_at_every_size(train):
    for size in (16, 64, 96):
        other = make(range(20), size)
        for name in ("captions", "boxes", "classes", "colours", "sizes", "textures", "styles", "backgrounds", "edits"):
            np.testing.assert_array_equal(getattr(other, name), getattr(train, name)[:20])
    for i in range(20):  # means over 2 x 2 pixels; what remains is the finer drawing of outlines
        large = make([i], 64).images[0].reshape(32, 2, 32, 2, 3).mean((1, 3))
        assert abs(large - train.images[i]).mean() < 2.5


def test_captions_tell_what_the_fields_say(train):
    for i in range(N):
        check_caption(train, i)
        check_caption(train.twins, i)
    starts = {re.match(r"\w+ \w+", caption)[0] for caption in train.captions}
    assert {"a picture", "a sketch", "there is", "in this", "a hand"} <= starts


def test_masks_lie_in_their_boxes_and_fill_them(train):
    for size, pictures in ((32, train), (128, make(range(12), 128)), (16, make(range(40), 16))):
        there = pictures.classes >= 0
        assert set(np.unique(pictures.masks)) == {0, 1}
        np.testing.assert_array_equal(pictures.masks.any((2, 3)), there)
        np.testing.assert_array_equal(pictures.boxes[~there], 0)
        for mask, box in zip(pictures.masks[there], pictures.boxes[there], strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x0, y0, x1, y1 = box * size
            assert 0 < x0 < x1 < size and 0 < y0 < y1 < size
            assert columns[0] + 1 > x0 and columns[-1] < x1 and rows[0] + 1 > y0 and rows[-1] < y1  # no pixel beyond
            found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert abs(found - box * size).max() < 1.5 + 0.01 * size  # thin points have no sample of their own
        overlap = pictures.masks.astype(int).sum(1) > 1
        assert overlap.sum() == 0 if size >= 32 else overlap.mean() < 1e-3


def hue(rgb):
    """In turns, or None for what is nearly grey."""
    h, s, _ = colorsys.rgb_to_hsv(*(np.array(rgb) / 255))
    return h if s > 0.25 else None


def test_objects_have_the_colours_that_they_are_said_to_have():
    """By the hue of the median in the mask, in both styles; flat and plain to within 12 levels."""
    right = []
    hues = [hue(rgb) for rgb in COLOURS.values()]
    for size in (32, 64):
        pictures = make(range(250), size)
        for i, slot in np.argwhere(pictures.colours >= 0):
            colour, median = pictures.colours[i, slot], np.median(pictures.images[i][pictures.masks[i, slot] > 0], 0)
            apart = lambda a, b: min((a - b) % 1, (b - a) % 1)  # noqa: E731
            found = hue(median)
            near = hues.index(None) if found is None else np.argmin([1 if h is None else apart(h, found) for h in hues])
            right.append(near == colour)
            plain = STYLES[pictures.styles[i]] == "flat" and TEXTURES[pictures.textures[i, slot]] == "plain"
            if plain and size == 64:
                assert np.linalg.norm(median - list(COLOURS.values())[colour]) < 12
    assert len(right) > 900 and np.mean(right) >= 0.99


def lightness(rgb):
    """L* of sRGB."""
    linear = np.where((c := np.array(rgb) / 255) <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return 116 * np.cbrt(linear @ [0.2126, 0.7152, 0.0722]) - 16


def test_colours_differ_and_stand_out_from_the_backgrounds():
    colours = np.array(list(COLOURS.values()), float)
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e3 * np.eye(len(colours))
    assert apart.min() > 60
    pale = min(lightness(rgb) for rgb in (*BACKGROUNDS.values(), *SECOND.values()))
    assert pale > max(map(lightness, colours)) + 7


def test_held_out_pairs_are_only_where_they_should_be(plans):
    held = {(SHAPES.index(shape), tuple(COLOURS).index(colour)) for colour, shape in HELD_OUT}
    pairs = lambda picture: {(x.shape, x.colour) for x in picture.things if x}  # noqa: E731
    for split, count in (("train", 4000), ("test", 1000)):
        for index in range(count):
            found = plans[index] if split == "train" else sample(index, split)
            assert not (pairs(found.picture) | pairs(found.twin)) & held
    seen = set()
    for index in range(500):
        found = sample(index, "heldout")
        assert len(pairs(found.picture) & held) == 1
        seen |= pairs(found.picture) & held
    assert seen == held
    ordinary = set.union(*(pairs(plan.picture) for plan in plans))
    assert len(ordinary) == len(SHAPES) * len(COLOURS) - len(held)


def test_everything_appears_as_often_as_it_should(plans):
    """Counts within 5 sigma of the binomial; the largest are rarer among three, where they find no room."""
    pictures = [plan.picture for plan in plans]
    things = [x for picture in pictures for x in picture.things if x]
    number = [sum(x is not None for x in picture.things) for picture in pictures]
    colours = [(len(SHAPES) - sum(colour == name for colour, _ in HELD_OUT)) / 42 for name in COLOURS]
    edits = [2 / 21 if name == "remove" else 2 / 21 + 1 / 18 for name in EDITS]
    expected = {
        "number": ([n - 1 for n in number], [1 / 3] * 3),
        "shape": ([x.shape for x in things], [1 / 6] * 6),
        "colour": ([x.colour for x in things], colours),
        "texture": ([x.texture for x in things], [1 / 3] * 3),
        "style": ([p.style for p in pictures], [1 / 2] * 2),
        "background": ([p.background for p in pictures], [1 / 7] * 7),
        "edit": ([plan.edit for plan in plans], edits),
    }
    for name, (values, shares) in expected.items():
        counts, shares = np.bincount(values, minlength=len(shares)), np.array(shares)
        assert len(counts) == len(shares) and abs(shares.sum() - 1) < 1e-9
        sigma = np.sqrt(len(values) * shares * (1 - shares))
        assert (abs(counts - len(values) * shares) < 5 * sigma).all(), (name, counts)
    assert (np.bincount([x.size for x in things]) / len(things) > 0.2).all()


def test_twins_differ_where_they_should_and_nowhere_else(train):
    kinds = set()
    for i in range(N):
        edit, slot = EDITS[train.edits[i]], train.edited[i]
        kinds.add(edit)
        fields = {"shape": "classes", "colour": "colours", "size": "sizes", "texture": "textures"}
        changed = {
            name for name in (*fields.values(), "styles", "backgrounds")
            if (getattr(train, name)[i] != getattr(train.twins, name)[i]).any()
        }  # fmt: skip
        differs = (train.images[i] != train.twins.images[i]).any(-1)
        assert differs.any() and train.captions[i] != train.twins.captions[i]
        if edit in ("style", "background"):
            assert slot == -1 and changed == {f"{edit}s"}
            continue
        assert changed == set(fields.values()) if edit == "remove" else changed == {fields[edit]}
        touched = train.masks[i, slot] | train.twins.masks[i, slot]
        assert not differs[touched == 0].any()
        others = [k for k in range(3) if k != slot]
        for name in ("masks", "boxes", *fields.values()):
            a, b = getattr(train, name)[i], getattr(train.twins, name)[i]
            np.testing.assert_array_equal(a[others], b[others])
            if edit == "remove":
                np.testing.assert_array_equal(b[slot], 0 if name in ("masks", "boxes") else -1)
        if edit in ("colour", "texture"):
            np.testing.assert_array_equal(train.masks[i], train.twins.masks[i])
    assert kinds == set(EDITS)


def test_instructions_lead_from_the_caption_to_that_of_the_twin(train):
    for i in range(N):
        before, after = (parse(pictures.captions[i]) for pictures in (train, train.twins))
        said, edit, slot = str(train.instructions[i]), EDITS[train.edits[i]], train.edited[i]
        if edit == "background":
            assert re.fullmatch(r"turn the background (?:into a )?(.*)", said)[1] == after[2]
            continue
        if edit == "style":
            assert said == {"sketch": "draw it as a sketch", "flat": "draw it in flat colours"}[after[3]]
            continue
        match = re.fullmatch(
            rf"(make|turn|remove) the (?:({'|'.join(COLOURS)}) )?(\w+)(?: into)?(?: (an?))?(?: (\w+))?", said
        )
        meant = [k for k, thing in enumerate(before[0]) if match[3] == thing[3] and match[2] in (None, thing[2])]
        assert meant == [slot], said  # one object, and no other
        column = {"size": 0, "texture": 1, "colour": 2, "shape": 3}.get(edit)
        wanted = list(before[0])
        if edit == "remove":
            del wanted[slot]
        else:
            wanted[slot] = tuple(match[5] if k == column else word for k, word in enumerate(wanted[slot]))
        assert wanted == after[0], said


def test_styles_are_different_drawings_of_the_same(train):
    picture = next(p for p in (sample(i, "train").picture for i in range(N)) if STYLES[p.style] == "flat")
    sketch = picture._replace(style=1)
    a, b = draw(picture, 64)[0].astype(int), draw(sketch, 64)[0].astype(int)
    assert (abs(a - b).max(-1) > 4).mean() > 0.3
    assert abs(boxes(picture) - boxes(sketch)).max() < 0.02


def test_scenes_are_kept_on_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scenes, "KEPT_FROM", 20)
    first = read(20, "heldout", 16, tmp_path)
    assert "Drawing 20 scenes at 16 x 16 pixels (once)" in capsys.readouterr().err
    monkeypatch.setattr(scenes, "make", None)
    same(first, read(20, "heldout", 16, tmp_path))
    monkeypatch.undo()
    same(first, make(range(20), 16, "heldout"))
    assert [path.name for path in tmp_path.rglob("*.npz")] == ["1.0.0-heldout-20-16.npz"]


def test_load_gives_captioned_images(tmp_path, monkeypatch, train):
    images = scenes.load(tmp_path, train=30, test=10)
    np.testing.assert_array_equal(images.train_images, train.images[:30])
    assert images.train_captions == tuple(train.captions[:30]) and images.shape == (32, 32, 3)
    np.testing.assert_array_equal(images.train_labels, (train.classes[:30] >= 0).sum(1) - 1)
    np.testing.assert_array_equal(images.test_images, read(10, "test").images)
    assert images.class_names[2] == "three objects" and images.name == "scenes"
    monkeypatch.setattr(scenes, "draw", None)
    np.testing.assert_array_equal(scenes.load(tmp_path, train=30, test=10).test_images, images.test_images)


def test_the_name_of_the_set(monkeypatch):
    monkeypatch.setattr(scenes, "load", lambda data_dir, **options: (data_dir, options))
    assert data.load("scenes", "here", size=64) == ("here", {"size": 64})
    assert data.image_shape("scenes", 64) == (64, 64, 3)


def test_the_builder_keeps_whole_scenes(tmp_path):
    make_builder = lambda data_dir, source=None: SceneBuilder(  # noqa: E731
        size=16, train=6, test=2, heldout=3, data_dir=data_dir
    )
    builder = prepared.prepare(make_builder, tmp_path)
    for split, n in (("train", 6), ("test", 2), ("heldout", 3)):
        source = builder.as_data_source(split)
        assert len(source) == n
        for i in range(n):
            found, drawn = dict(source[i]), scene(i, 16, split)
            assert found.pop("label") == (drawn["classes"] >= 0).sum() - 1
            for example in (found, found["twin"]):
                example.update({k: v.decode() for k, v in example.items() if isinstance(v, bytes)})
            same({**found, "edited": int(found["edited"])}, drawn)
    names = builder.info.features
    assert names["style"].names == list(STYLES) and names["twin"]["background"].names == list(BACKGROUNDS)
    other = SceneBuilder(size=32, train=6, test=2, heldout=3, data_dir=tmp_path)
    assert other.data_dir != builder.data_dir


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: read(0), ValueError, "n must be at least 1, got 0: the number of scenes"),
        (lambda: read(2.0), TypeError, "n must be an integer, got 2.0: the number of scenes"),
        (lambda: read("train"), TypeError, "n must be an integer, got 'train'"),
        (lambda: read(2, "valid"), ValueError, "unknown split 'valid'; choose one of train, test, heldout"),
        (lambda: read(2, ["train"]), ValueError, r"unknown split \['train'\]; choose one of"),
        (lambda: read(2, 64), ValueError, "unknown split 64; choose one of"),
        (lambda: read(2, size=8), ValueError, "size must be from 16 to 1024, got 8: the width of the pictures"),
        (lambda: read(2, size=32.0), TypeError, "size must be an integer, got 32.0"),
        (lambda: scene(-1), ValueError, "index must be from 0"),
        (lambda: scene(True), TypeError, "index must be an integer"),
        (lambda: scene(0, 4), ValueError, "size must be from 16"),
        (lambda: make([]), ValueError, r"there is no index: give one or more, such as range\(100\)"),
        (lambda: make(100), TypeError, r"indices must be a list of integers, such as range\(100\), got 100"),
        (lambda: scenes.load(train=0), ValueError, "train must be at least 1, got 0: the number of scenes"),
        (lambda: scenes.load(size="32"), TypeError, "size must be an integer, got '32'"),
        (lambda: data.load("scenes", size=4), ValueError, "size must be from 16"),
        (lambda: SceneBuilder(size=8), ValueError, "size must be from 16"),
        (lambda: SceneBuilder(test=0), ValueError, "test must be at least 1"),
    ],
)
def test_bad_input_says_what_to_do(call, error, message):
    with pytest.raises(error, match=message):
        call()

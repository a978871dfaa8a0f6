import itertools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data import batches, dataset, to_float, to_uint8
from diffjax.text.wordpiece import Tokens

N = 23
IMAGES = np.random.default_rng(0).integers(0, 256, (N, 4, 6, 3), np.uint8)
LABELS = np.arange(N)  # the label names the image
ALL = {"flip": True, "dequantise": True}


def equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("options", [{}, ALL])
def test_resuming_gives_the_same_batches_bit_for_bit(options):
    whole = list(itertools.islice(batches(IMAGES, LABELS, 5, seed=3, **options), 16))
    resumed = list(itertools.islice(batches(IMAGES, LABELS, 5, seed=3, start_step=10, **options), 6))
    assert all(equal(a, b) for a, b in zip(whole[10:], resumed, strict=True))
    random_access = dataset(IMAGES, LABELS, 5, seed=3, **options)
    assert all(equal(whole[i], random_access[i]) for i in (15, 0, 7))
    other = next(batches(IMAGES, LABELS, 5, seed=4, **options))
    assert not np.array_equal(other["label"], whole[0]["label"])


def test_batches_are_the_images_scaled():
    for batch in itertools.islice(batches(IMAGES, LABELS, 8, seed=0), 3):
        x, label = batch["image"], batch["label"]
        assert x.shape == (8, 4, 6, 3) and x.dtype == np.float32 and label.dtype == np.int32
        np.testing.assert_allclose(x, IMAGES[label] / 127.5 - 1, atol=1e-6)
        assert x.flags.c_contiguous


def test_every_epoch_has_every_image_once_in_a_new_order():
    stream = batches(IMAGES, LABELS, N, seed=0)
    first, second = next(stream)["label"], next(stream)["label"]
    np.testing.assert_array_equal(np.sort(first), LABELS)
    np.testing.assert_array_equal(np.sort(second), LABELS)
    assert not np.array_equal(first, second) and not np.array_equal(first, LABELS)


def test_flip_mirrors_half_of_the_images():
    flips = 0
    steps = dataset(IMAGES, LABELS, 20, seed=1, flip=True)
    for i in range(25):
        batch = steps[i]
        plain = to_float(IMAGES[batch["label"]])
        same = (batch["image"] == plain).all(axis=(1, 2, 3))
        mirrored = (batch["image"] == plain[:, :, ::-1]).all(axis=(1, 2, 3))
        assert (same ^ mirrored).all()
        flips += mirrored.sum()
    assert abs(flips - 250) < 4 * np.sqrt(500 / 4)  # binomial(500, 1/2), 4 sigma


def test_dequantised_values_fill_their_grey_level():
    steps = dataset(IMAGES, LABELS, 20, seed=1, dequantise=True)
    x = np.concatenate([steps[i]["image"] for i in range(10)])
    level = np.concatenate([IMAGES[steps[i]["label"]] for i in range(10)])
    u = (x.astype(np.float64) + 1) * 128 - level  # float32 near 1 resolves 1.5e-5 of a level
    assert u.min() > -2e-5 and u.max() < 1 + 2e-5
    assert abs(u.mean() - 0.5) < 4 * np.sqrt(1 / 12 / u.size)  # 4 sigma
    assert abs(u.var() - 1 / 12) < 4 * np.sqrt(1 / 180 / u.size)  # 4 sigma: the variance of (u - 1/2)^2 is 1/180
    assert not np.array_equal(steps[0]["image"], steps[1]["image"])


def test_processes_share_the_batch_of_one():
    whole = dataset(IMAGES, LABELS, 6, seed=2, **ALL)
    parts = [dataset(IMAGES, LABELS, 6, seed=2, shard=(k, 3), **ALL) for k in range(3)]
    for i in (0, 5):
        together = {name: np.concatenate([p[i][name] for p in parts]) for name in ("image", "label")}
        assert equal(together, whole[i])


def test_floating_images_pass_unscaled():
    latents = np.random.default_rng(0).normal(size=(N, 2, 2, 4))
    batch = next(batches(latents, LABELS, 4, seed=0))
    assert batch["image"].dtype == np.float32
    np.testing.assert_array_equal(batch["image"], latents[batch["label"]].astype(np.float32))


FLOATS = to_float(IMAGES)
NAN = np.where(IMAGES > 250, np.nan, IMAGES / 255)
WIDE = np.zeros((N, 3, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((IMAGES[0], LABELS, 2, 0), {}, ValueError, "images must be"),
        ((IMAGES[..., 0], LABELS, 2, 0), {}, ValueError, r"add the axis of channels by images\[\.\.\., None\]"),
        ((IMAGES[:0], LABELS[:0], 2, 0), {}, ValueError, "not empty"),
        ((IMAGES, LABELS[:-1], 2, 0), {}, ValueError, "labels must be 23 integers"),
        ((IMAGES, LABELS * 1.0, 2, 0), {}, ValueError, "labels must be"),
        ((IMAGES, LABELS - 1, 2, 0), {}, ValueError, "labels must count classes from 0 on, got -1 to 21"),
        (
            (IMAGES, np.eye(N, dtype=int), 2, 0),
            {},
            ValueError,
            r"got int64 of shape \(23, 23\)",
        ),
        ((IMAGES, 4, 0), {}, TypeError, "the second argument is the labels, got 4: write batch_size=4"),
        ((LABELS[:, None] * 1.0, None, 4), {}, ValueError, "images must be"),
        ((IMAGES.astype(np.int64), LABELS, 2, 0), {}, TypeError, "uint8"),
        ((IMAGES.tolist(), LABELS, 2, 0), {}, TypeError, "uint8"),
        ((IMAGES > 100, LABELS, 2, 0), {}, TypeError, "uint8.*got bool"),
        ((None, LABELS, 2, 0), {}, TypeError, "image must be an array of numbers or strings, got NoneType"),
        (([[1, 2], [3]], None, 2, 0), {}, TypeError, "image must be an array"),
        ((NAN, LABELS, 2, 0), {}, ValueError, r"[12]\d of 23 images hold NaN"),
        ((IMAGES / 255, LABELS, 2, 0), {}, ValueError, r"must be in \[-1, 1\], but .* \[0, 1\]: write 2 \* images - 1"),
        (
            (IMAGES * 1.0, None, 2, 0),
            {},
            ValueError,
            r"from 0 to 255, as in 0\.\.255: write images\.astype\(np\.uint8\)",
        ),
        ((WIDE, LABELS, 2, 0), {}, ValueError, r"\[N, C, H, W\].*write images\.transpose\(0, 2, 3, 1\)"),
        ((WIDE - 0.5, LABELS, 2, 0), {}, ValueError, r"\[N, C, H, W\]"),
        ((WIDE[:, :1], LABELS, 2, 0), {}, ValueError, r"\[N, C, H, W\]"),
        ((IMAGES, LABELS, 24, 0), {}, ValueError, r"batch_size must lie in 1\.\.23"),
        ((IMAGES, LABELS, 0, 0), {}, ValueError, "batch_size"),
        ((IMAGES, LABELS, 4.0, 0), {}, TypeError, "batch_size must be an integer"),
        ((IMAGES, LABELS), {}, TypeError, "batch_size is missing"),
        ((IMAGES, LABELS, 4, 0), {"shard": (0, 3)}, ValueError, "does not divide"),
        ((IMAGES, LABELS, 4, 0), {"shard": (2, 2)}, ValueError, "does not divide"),
        ((IMAGES, LABELS, 4, 0), {"shard": (0, 0)}, ValueError, "does not divide"),
        ((IMAGES, LABELS, 4, 0), {"shard": 2}, TypeError, r"shard must be \(index, count\)"),
        ((IMAGES, LABELS, 4, 0), {"shard": (0.0, 1)}, TypeError, "the index of shard"),
        ((FLOATS, LABELS, 4, 0), {"dequantise": True}, TypeError, "dequantise needs uint8"),
        ((IMAGES, LABELS, 4, 0), {"start_step": -1}, ValueError, "start_step"),
        ((IMAGES, LABELS, 4, -1), {}, ValueError, "seed must be from 0"),
        ((IMAGES, LABELS, 4, 2**32), {}, ValueError, "seed must be from 0"),
        ((IMAGES, LABELS, 4, jax.random.key(0)), {}, TypeError, "(?s)seed must be an integer.* a number, not a key"),
        (({"image": IMAGES}, 4, 0), {}, TypeError, r"write batch_size=\.\.\. by name"),
        (({"image": IMAGES, "text": ["a"] * 22}, None, 4), {}, ValueError, "the lengths {'image': 23, 'text': 22}"),
        (({"image": IMAGES, "scale": 7.5}, None, 4), {}, ValueError, "the lengths {'image': 23, 'scale': 0}"),
        (({"image": IMAGES, "text": NAN}, None, 4), {}, ValueError, "of 23 entries of 'text' hold NaN"),
        (({"a": {"b": NAN[:, 0]}}, None, 4), {}, ValueError, "of 23 entries of 'a/b' hold NaN"),
        (({}, None, 4), {}, ValueError, "there is no field"),
        (({1: IMAGES}, None, 4), {}, TypeError, "fields are named by strings"),
        (({"text": LABELS}, None, 4), {"flip": True}, ValueError, "there is none"),
        (({"image": IMAGES, "label": {"a": LABELS}}, None, 4), {}, TypeError, "'label' must be an array of integers"),
    ],
)
def test_bad_input(args, options, error, message):
    with pytest.raises(error, match=message):
        batches(*args, **options)


def test_traced_data_are_refused():
    with pytest.raises(TypeError, match="call this outside jit"):
        jax.jit(lambda x: batches(x, None, 4, 0))(FLOATS)


def test_labels_are_optional_and_fields_are_free():
    assert batches(IMAGES, batch_size=4).__next__().keys() == {"image"}
    names = [f"picture {i}" for i in range(N)]
    vectors = np.random.default_rng(1).normal(size=(N, 5, 2))
    fields = {
        "image": IMAGES,
        "label": LABELS.tolist(),
        "text": {"states": vectors, "mask": vectors[..., 0] > 0},
        "tokens": Tokens(np.arange(N)[:, None], np.ones((N, 1), bool)),
        "caption": tuple(names),
        "half": jnp.arange(N, dtype=jnp.bfloat16),
    }
    plain, steps = dataset(IMAGES, LABELS, 6, 3, **ALL), dataset(fields, batch_size=6, seed=3, **ALL)
    for i in (0, 9):
        batch, rows = steps[i], steps[i]["label"]
        assert equal({k: batch[k] for k in ("image", "label")}, plain[i])  # the same, whatever stands beside it
        np.testing.assert_array_equal(batch["text"]["states"], vectors[rows].astype(np.float32))
        np.testing.assert_array_equal(batch["text"]["mask"], vectors[rows][..., 0] > 0)
        np.testing.assert_array_equal(batch["tokens"].ids[:, 0], rows)
        np.testing.assert_array_equal(batch["half"], rows.astype(np.float32))
        assert batch["caption"].tolist() == [names[row] for row in rows]
        assert batch["text"]["states"].dtype == batch["half"].dtype == np.float32
    assert set(dataset({"x": vectors}, batch_size=2)[0]) == {"x"}  # without pictures


def test_other_kinds_of_arrays_give_the_same_batches():
    expected = dataset(IMAGES, LABELS, 4, 0)[2]
    for images, labels in ((jnp.asarray(IMAGES), jnp.asarray(LABELS)), (IMAGES[::-1][::-1], LABELS.astype(np.uint8))):
        assert equal(dataset(images, labels, np.int64(4), np.int32(0))[2], expected)
    for scaled in (FLOATS.astype(np.float64), FLOATS, jnp.asarray(FLOATS)):
        batch = dataset(scaled, LABELS, 4, 0)[2]
        assert equal(batch, expected) and batch["image"].dtype == np.float32
    batch = dataset(jnp.asarray(FLOATS, jnp.bfloat16), LABELS, 4, 0)[2]
    np.testing.assert_allclose(batch["image"], expected["image"], atol=2**-8)


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 1, 64), (3, 3, 64), (4, 4, 64), (1, 9, 1), (5, 7, 2)])
def test_shapes_that_are_no_channels_first(shape):
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    assert next(batches(x, batch_size=2))["image"].shape == (2, *shape)
    rectified = np.abs(x) * 3  # features of a network that are not negative
    if shape[-1] < 5:
        with pytest.raises(ValueError, match="as_is=True"):
            batches(rectified, batch_size=2)
    assert next(batches(rectified, batch_size=2, as_is=True))["image"].min() >= 0
    assert next(batches(np.zeros_like(x), batch_size=2))["image"].shape == (2, *shape)


@pytest.mark.parametrize(("n", "batch_size"), [(1, 1), (3, 1), (3, 2), (5, 5), (7, 3)])
def test_small_sets_epochs_and_restarts(n, batch_size):
    """Each epoch has every example once, across the borders of batches; every start gives the same batches."""
    images, options = IMAGES[:n], {"flip": True, "dequantise": True}
    whole = list(itertools.islice(batches(images, LABELS[:n], batch_size, 5, **options), 2 * n))
    seen = np.concatenate([batch["label"] for batch in whole])
    for epoch in range(2 * batch_size):
        np.testing.assert_array_equal(np.sort(seen[epoch * n : (epoch + 1) * n]), np.arange(n))
    if n > 3:  # of three examples two epochs may well agree
        assert len({tuple(seen[epoch * n : (epoch + 1) * n]) for epoch in range(2 * batch_size)}) > 1
    for start in (1, n, 2 * n - 1):
        again = next(batches(images, LABELS[:n], batch_size, 5, start_step=start, **options))
        assert equal(again, whole[start])
    shards = [dataset(images, LABELS[:n], batch_size, 5, shard=(k, batch_size), **options) for k in range(batch_size)]
    parts = [shard[n] for shard in shards]
    assert equal({k: np.concatenate([part[k] for part in parts]) for k in whole[n]}, whole[n])
    far = dataset(images, LABELS[:n], batch_size, 5, **options)
    assert far[10**9]["label"].shape == (batch_size,)  # a run of a billion steps


def test_threads_do_not_change_the_batches():
    steps = dataset(IMAGES, LABELS, 4, 1, **ALL)
    many = iter(steps[3:].to_iter_dataset(grain.ReadOptions(num_threads=4, prefetch_buffer_size=8)))
    assert all(equal(next(many), steps[i]) for i in range(3, 20))


def test_to_uint8_inverts_to_float_and_clips():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    np.testing.assert_array_equal(to_uint8([-7, -1.001, 1.001, np.inf, -np.inf]), [0, 0, 255, 255, 0])
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        to_uint8([0, np.nan])
    np.testing.assert_array_equal(to_uint8(jnp.array([-1, 0.0, 1], jnp.bfloat16)), [0, 128, 255])
    for finished in (levels, levels.astype(int), levels > 3, levels * 1j):
        with pytest.raises(TypeError, match="to_uint8 scales floats"):
            to_uint8(finished)
    for scaled in (levels / 255, levels.astype(int), levels > 3):
        with pytest.raises(TypeError, match=r"to_float scales uint8 images in 0\.\.255, got"):
            to_float(scaled)

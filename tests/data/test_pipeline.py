import itertools

import numpy as np
import pytest

from diffjax.data import batches, dataset, to_float, to_uint8

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


def test_bad_input():
    nan = IMAGES.astype(np.float32)
    nan[4, 0, 0, 0] = np.nan
    cases = [
        ((IMAGES[0], LABELS, 2, 0), {}, ValueError, "images must be"),
        ((IMAGES[:0], LABELS[:0], 2, 0), {}, ValueError, "not empty"),
        ((IMAGES, LABELS[:-1], 2, 0), {}, ValueError, "labels must be 23 integers"),
        ((IMAGES, LABELS * 1.0, 2, 0), {}, ValueError, "labels must be"),
        ((IMAGES.astype(np.int64), LABELS, 2, 0), {}, TypeError, "uint8"),
        ((nan, LABELS, 2, 0), {}, ValueError, "1 of 23 images hold NaN"),
        ((IMAGES, LABELS, 24, 0), {}, ValueError, r"batch_size must lie in 1\.\.23"),
        ((IMAGES, LABELS, 0, 0), {}, ValueError, "batch_size"),
        ((IMAGES, LABELS, 4, 0), {"shard": (0, 3)}, ValueError, "does not divide"),
        ((IMAGES, LABELS, 4, 0), {"shard": (2, 2)}, ValueError, "does not divide"),
        ((IMAGES.astype(np.float32), LABELS, 4, 0), {"dequantise": True}, TypeError, "dequantise needs uint8"),
        ((IMAGES, LABELS, 4, 0), {"start_step": -1}, ValueError, "start_step"),
        ((IMAGES, LABELS, 4, -1), {}, ValueError, "seed must lie"),
    ]
    for args, options, error, message in cases:
        with pytest.raises(error, match=message):
            batches(*args, **options)


def test_to_uint8_inverts_to_float_and_clips():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_float(levels)), levels)
    np.testing.assert_array_equal(to_uint8([-7, -1.001, 1.001, np.inf, -np.inf]), [0, 0, 255, 255, 0])
    with pytest.raises(ValueError, match="1 of 2 values are NaN"):
        to_uint8([0, np.nan])

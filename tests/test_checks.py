"""Checks of pictures: units, shapes and dtypes that cannot be meant end in a message that names the cure."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.checks import check_pictures

UNIT = np.linspace(0, 1, 128, dtype=np.float32).reshape(2, 8, 8, 1)


@pytest.mark.parametrize(
    "x",
    [
        2 * UNIT - 1,
        6 * UNIT - 3,  # a poor model overshoots
        jnp.asarray(2 * UNIT - 1, jnp.bfloat16),
        np.zeros((1, 2, 2, 3)),  # flat
        np.ones((1, 8, 8, 1)),
        0.3 + 0.4 * UNIT,  # bright, but nothing like the whole of [0, 1]
        (2 * UNIT - 1).tolist(),
        jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32),
    ],
)
def test_pictures_pass_without_a_word(x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_pictures(x)


@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (np.zeros((2, 8, 8, 1), np.uint8), TypeError, "the image must be floats in .* got uint8: .*to_float"),
        (UNIT > 0.5, TypeError, "got bool"),
        (1j * UNIT, TypeError, "got complex"),
        (255 * UNIT, ValueError, "values from 0 to 255: if they are levels"),
        (UNIT[0], ValueError, r"\[B, H, W, 1 or 3\], not empty, got the shape \[8, 8, 1\]"),
        (UNIT[..., 0], ValueError, "expected images"),
        (np.zeros((2, 8, 8, 2)), ValueError, "expected images"),
        (UNIT[:0], ValueError, "not empty"),
        (None, ValueError, "expected images"),
        (np.where(UNIT > 0.5, UNIT, np.nan), ValueError, "64 of 128 values are NaN or infinite"),
    ],
)
def test_what_cannot_be_meant_is_refused(x, error, match):
    with pytest.raises(error, match=match):
        check_pictures(x, "the image", channels=(1, 3))


def test_floats_that_look_like_0_to_1_and_diverged_samples_are_warned_of():
    with pytest.warns(UserWarning, match=r"from -90 to 90 are far outside of \[-1, 1\]"):
        check_pictures(180 * UNIT - 90)
    with pytest.warns(UserWarning, match=r"meant in \[0, 1\], take 2 x - 1"):
        check_pictures(UNIT)
    jax.jit(lambda x: check_pictures(x))(255 * UNIT)  # traced values pass

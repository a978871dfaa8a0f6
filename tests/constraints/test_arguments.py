"""What constraints and SDEdit refuse, where they are made or when `sample` is called, and what they take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import operators, times

SDE, KEY = dj.VP(), jax.random.key(0)
IMAGE = jax.random.normal(jax.random.key(1), (4, 6, 6, 1))
MASK = jnp.ones((6, 6, 1)).at[2:4].set(0.0)
POOL = operators.average_pool((6, 6, 1), 2)
M = operators.measure(KEY, POOL, IMAGE, 0.1)
LOSS = operators.Misfit(M)
TS = times.uniform(SDE, 2)


def denoise(x, t, cond=None):
    return 0.5 * x


def run(sampler):
    return dj.sample(KEY, denoise, SDE, sampler, TS, IMAGE)


REFUSED = {
    "the class of a sampler": (lambda: dj.inpaint(dj.DDIM, IMAGE, MASK), TypeError, r"did you mean DDIM\(\)"),
    "a mask that is no 0 or 1": (lambda: dj.inpaint(dj.DDIM(), IMAGE, 0.5 * MASK), ValueError, "1 where a pixel"),
    "a NaN mask": (lambda: dj.inpaint(dj.DDIM(), IMAGE, MASK * jnp.nan), ValueError, "1 where a pixel"),
    "a mask [H, W]": (lambda: dj.inpaint(dj.DDIM(), IMAGE, MASK[..., 0]), ValueError, r"mask\[..., None\]"),
    "a mask [B, H, W]": (lambda: dj.inpaint(dj.DDIM(), IMAGE, jnp.ones((4, 6, 6))), ValueError, r"mask\[..., None\]"),
    "a mask of another size": (lambda: dj.inpaint(dj.DDIM(), IMAGE, jnp.ones((5, 6, 1))), ValueError, "the mask"),
    "uint8": (lambda: dj.inpaint(dj.DDIM(), np.zeros((4, 6, 6, 1), np.uint8), MASK), TypeError, "got uint8"),
    "0 ... 255": (lambda: dj.inpaint(dj.DDIM(), jnp.clip(100 + 50 * IMAGE, 0, 255), MASK), ValueError, "x / 127.5 - 1"),
    "a NaN pixel that is known": (lambda: dj.inpaint(dj.DDIM(), IMAGE.at[0, 0].set(jnp.nan), MASK), ValueError, "NaN"),
    "two images for four": (lambda: run(dj.inpaint(dj.DDIM(), IMAGE[:2], MASK)), ValueError, "its own y"),
    "grey uint8": (lambda: dj.colorize(dj.DDIM(), np.zeros((4, 6, 6, 1), np.uint8)), TypeError, "got uint8"),
    "grey images of a grey model": (lambda: run(dj.colorize(dj.DDIM(), IMAGE)), ValueError, "3 channels"),
    "an operator for a measurement": (lambda: dj.DDRM(POOL), TypeError, "to get a measurement"),
    "a loss for a measurement": (lambda: dj.Known(dj.DDIM(), LOSS), TypeError, "to get a measurement"),
    "a measurement for a loss": (lambda: dj.DPS(dj.DDIM(), M), TypeError, "such as operators.Misfit"),
    "a loss of x_0 alone": (lambda: dj.DPS(dj.DDIM(), lambda x0: x0), ValueError, r"\(x_0, cond\)"),
    "zeta, a string": (lambda: dj.DPS(dj.DDIM(), LOSS, "0.3"), TypeError, "zeta must be a number"),
    "zeta below 0": (lambda: dj.DPS(dj.DDIM(), LOSS, -0.3), ValueError, "zeta must be"),
    "zeta [3] for four": (lambda: run(dj.DPS(dj.DDIM(), LOSS, jnp.ones(3))), ValueError, "one for each of 4"),
    "DPS of a flow map": (lambda: dj.DPS(dj.KeepNoise(dj.Jump()), LOSS), TypeError, "Jump a flow map"),
    "a loss for a correction": (lambda: dj.KeepEps(dj.DDIM(), LOSS), ValueError, r"\(x_0, s, cond\)"),
    "a measurement for a correction": (lambda: dj.KeepEps(dj.DDIM(), M), TypeError, "a correction"),
    "eta of DDRM above 1": (lambda: dj.DDRM(M, 2.0), ValueError, "eta must be"),
    "eta_b below 0": (lambda: dj.DDRM(M, 0.5, -0.1), ValueError, "eta_b must be"),
    "eta [4] of DDRM": (lambda: run(dj.DDRM(M, jnp.zeros(4))), ValueError, "one number"),
    "negative churn": (lambda: dj.Churn(dj.Heun(), -1.0, 5), ValueError, "s_churn must be"),
    "no steps of churn": (lambda: dj.Churn(dj.Heun(), 1.0, 0), ValueError, "n must be"),
    "s_min above s_max": (lambda: dj.Churn(dj.Heun(), 1.0, 5, 3.0, 1.0), ValueError, "s_max must be"),
    "no latent": (lambda: dj.Latent(dj.DDIM(), 0), ValueError, "n must be"),
    "time travel of nothing": (lambda: dj.TimeTravel(None), TypeError, "expected a sampler"),
    "SDEdit of uint8": (
        lambda: dj.sdedit(KEY, denoise, SDE, dj.DDIM(), TS, np.zeros((4, 6, 6, 1), np.uint8)),
        TypeError,
        "got uint8",
    ),
    "SDEdit of 0 ... 255": (
        lambda: dj.sdedit(KEY, denoise, SDE, dj.DDIM(), TS, jnp.clip(100 + 50 * IMAGE, 0, 255)),
        ValueError,
        "x / 127.5 - 1",
    ),
    "SDEdit by a strength": (lambda: dj.sdedit(KEY, denoise, SDE, dj.DDIM(), 0.5, IMAGE), ValueError, "ts must be"),
    "one and a half repeats": (
        lambda: dj.sdedit(KEY, denoise, SDE, dj.DDIM(), TS, IMAGE, repeats=1.5),
        TypeError,
        "repeats must be an integer",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


def test_masks_of_any_type_and_unknown_pixels_of_any_value():
    plain = dj.inpaint(dj.DDIM(), IMAGE, MASK)
    hole = jnp.where(MASK > 0, IMAGE, jnp.nan)
    for mask, image in ((MASK.astype(bool), IMAGE), (np.asarray(MASK).tolist(), IMAGE), (MASK[None], hole)):
        np.testing.assert_array_equal(dj.inpaint(dj.DDIM(), image, mask).measurement.y, plain.measurement.y)
    out = run(dj.inpaint(dj.DDIM(), hole, MASK))
    assert jnp.isfinite(out).all()


def test_fields_are_swept_in_one_program():
    """`vmap` over zeta and eta_b, whose values are traced, passes the checks."""
    many = jax.jit(jax.vmap(lambda zeta, eta: (run(dj.DPS(dj.DDIM(), LOSS, zeta)), run(dj.DDRM(M, 0.5, eta)))))
    dps, ddrm = many(jnp.array([0.0, 0.5]), jnp.array([0.2, 1.0]))
    np.testing.assert_allclose(dps[1], run(dj.DPS(dj.DDIM(), LOSS, 0.5)), atol=1e-5)
    np.testing.assert_allclose(ddrm[0], run(dj.DDRM(M, 0.5, 0.2)), atol=1e-5)

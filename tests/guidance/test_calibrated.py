"""Calibration in a world where all is known: independent Gaussian coefficients in the cosine basis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
from jax.tree_util import Partial

import diffjax as dj
from diffjax.guidance.calibrated import bands, cosine

H, W = 8, 4
SDE = dj.VP()
TS = jnp.array([0.05, 0.3, 0.9])
POWER = jnp.asarray(1 / (1 + np.array(bands(H, W), float)) ** 2)[..., None]  # of every band


def wiener(power, mean, x, t, cond=None):
    """E[x_0 | x_t], exactly."""
    alpha, sigma = dj.gaussian.curves(SDE, t, x)
    gain = power * alpha / (alpha**2 * power + sigma**2)
    return cosine(gain * cosine(x - alpha * mean), inverse=True) + mean


def draw(seed, n):
    z = jax.random.normal(jax.random.key(seed), (n, H, W, 1))
    return 0.3 + cosine(jnp.sqrt(POWER) * z, inverse=True)


@pytest.fixture(scope="module")
def x():
    return draw(0, 512)


EXACT = Partial(wiener, POWER, 0.3)


def spoiled(x, t, cond=None):
    return 0.6 * EXACT(x, t) + 0.3 * x + 0.2


def error(denoise, t):
    x_0 = draw(1, 512)
    x = dj.gaussian.perturb(SDE, x_0, t, jax.random.normal(jax.random.key(2), x_0.shape))
    return float(((denoise(x, t, None) - x_0) ** 2).mean())


def test_the_cosine_basis_and_its_bands():
    x = np.random.default_rng(0).normal(size=(2, H, W, 3)).astype(np.float32)
    np.testing.assert_allclose(cosine(x), scipy.fft.dctn(x, axes=(1, 2), norm="ortho"), atol=1e-5)
    np.testing.assert_allclose(cosine(cosine(x), inverse=True), x, atol=1e-5)
    where = bands(128, 128)  # 0; then 1, sqrt 2, 2, 2 sqrt 2, ...
    assert [int(where[0, i]) for i in (0, 1, 2, 3, 4, 64)] == [0, 1, 3, 4, 5, 13] and where[1, 1] == 2
    assert set(np.unique(bands(H, W))) == set(range(bands(H, W).max() + 1))


@pytest.mark.parametrize("denoise", [EXACT, spoiled, lambda x, t, cond: 0 * x], ids=["exact", "spoiled", "none"])
def test_a_denoiser_becomes_the_posterior_mean(denoise, x):
    fitted = dj.guidance.calibrate(jax.random.key(3), denoise, SDE, x, TS, batch_size=200)
    for t in TS:  # 512 images: gains are right to about 1 % where a band counts
        assert error(fitted, t) < 1.02 * error(EXACT, t)
    assert error(spoiled, 0.9) > 1.3 * error(EXACT, 0.9)


def test_gains_between_levels_and_beyond_them(x):
    t = 0.15
    fitted = dj.guidance.calibrate(jax.random.key(3), EXACT, SDE, x, TS)
    level = lambda t: float(-dj.gaussian.logsnr(SDE, t) / 2)  # noqa: E731
    w = (level(t) - level(TS[0])) / (level(TS[1]) - level(TS[0]))
    a, c, mean = fitted._at(jnp.array([t, 0.01, 1.0]), x[:3])
    where = bands(H, W)
    np.testing.assert_allclose(
        a[0, ..., 0], ((1 - w) * fitted.gains[0] + w * fitted.gains[1])[where][..., 0], rtol=1e-4
    )
    np.testing.assert_allclose(
        c[1:, ..., 0], jnp.stack([fitted.gains[0], fitted.gains[2]])[:, where][..., 1], rtol=1e-5
    )
    np.testing.assert_allclose(
        mean[:, 0, 0], jnp.stack([(1 - w) * fitted.means[0] + w * fitted.means[1], *fitted.means[::2]]), rtol=1e-4
    )


def test_conditions_batches_and_samplers(x):
    def shifted(x, t, cond):
        return EXACT(x, t) - cond["shift"][:, None, None, None]

    shift = jnp.linspace(0, 2, 512)
    key, args = jax.random.key(0), (shifted, SDE, x, TS, {"shift": shift})
    whole, parts = (dj.guidance.calibrate(key, *args, batch_size=size) for size in (None, 300))
    np.testing.assert_allclose(whole.gains, parts.gains, rtol=1e-3, atol=1e-4)
    ts, start = dj.times.uniform(SDE, 3), jnp.ones((2, H, W, 1))
    y = dj.sample(key, whole, SDE, dj.DDIM(), ts, start, {"shift": shift[:2]})
    assert y.shape == start.shape and np.isfinite(y).all()
    with pytest.raises(ValueError, match="was made for"):
        dj.sample(key, whole, dj.EDM(), dj.DDIM(), dj.times.uniform(dj.EDM(), 3), start, {"shift": shift[:2]})


def test_arguments(x):
    def run(x=x, ts=TS, **options):
        return dj.guidance.calibrate(jax.random.key(0), EXACT, SDE, x, ts, **options)

    for ts in (jnp.array([0.5]), jnp.array([0.5, 0.5]), 0.5):
        with pytest.raises(ValueError, match="two different times"):
            run(ts=ts)
    with pytest.raises(ValueError, match="a time of ts"):
        run(ts=jnp.array([0.0, 0.5]))
    with pytest.raises(ValueError, match="images"):
        run(x[0])
    with pytest.raises(ValueError, match="its first axis must be the batch"):
        run(cond={"label": jnp.zeros(3)})
    with pytest.raises(ValueError, match="ridge"):
        run(ridge=0.0)
    with pytest.raises(ValueError, match="the gains were fitted for"):
        run()(jnp.zeros((1, 32, 32, 1)), 0.5)

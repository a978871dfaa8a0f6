"""Replacement, RePaint and SDEdit: what is known is kept to the bit, and the known bias and its repair."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import operators, times

SDE = dj.VP()
DENOISE = Partial(lambda gain, x, t, cond=None: gain * x / (1 + jnp.asarray(t)), 0.5)


@pytest.fixture(scope="module")
def images():
    return jax.random.uniform(jax.random.key(3), (4, 6, 6, 3), minval=-1.0)


@pytest.mark.slow
def test_known_pixels_are_kept_to_the_bit_and_unknown_ones_are_denoised(images, key):
    mask = jax.random.bernoulli(key, 0.5, (6, 6, 1)).astype(float)
    x, ts = dj.prior_sample(key, SDE, images.shape), times.uniform(SDE, 5)
    for sampler in (
        dj.PC(dj.inpaint(dj.ReverseDiffusion(), images, mask), dj.inpaint(dj.Langevin(0.1), images, mask)),
        dj.inpaint(dj.DPMpp2M(), images, mask),
    ):
        out = dj.sample(key, DENOISE, SDE, sampler, ts, x)
        np.testing.assert_array_equal(out * mask, images * mask)
    plain = dj.sample(key, DENOISE, SDE, dj.inpaint(dj.DDIM(), images, jnp.zeros((6, 6, 1))), ts, x)
    np.testing.assert_allclose(plain, dj.sample(key, DENOISE, SDE, dj.DDIM(), ts, x), atol=1e-6)

    # the final mean reaches the unknown pixels: with a denoiser that returns the image all of it is returned
    clean = Partial(lambda image, x, t, cond=None: image, images)
    last = dj.sample(key, clean, SDE, dj.inpaint(dj.Ancestral(), images, mask), times.uniform(SDE, 5, 0.0), x)
    np.testing.assert_allclose(last, images, atol=1e-6)


def test_colorization_keeps_the_grey_part(images, key):
    grey = operators.grey()(images)
    out = dj.sample(key, DENOISE, SDE, dj.colorize(dj.Ancestral(), grey), times.uniform(SDE, 5), images)
    np.testing.assert_allclose(operators.grey()(out), grey, atol=1e-5)
    assert jnp.abs(out - grey).max() > 0.1  # and the colours are free


@pytest.fixture(scope="module")
def gaussian():
    """E[x_2 | x_1 = 1.5] by replacement, with jumps of j taken r times, for a Gaussian of correlation rho.

    All in one program: the grids are as long as the longest, by steps of length 0 at T, where x stays pure noise.
    """
    n, known = 2000, jnp.array([1.5, 0.0])
    plain = times.uniform(SDE, 100)
    longest = len(times.repaint(plain, 1, 10))

    def run(rho, j, r):
        prior = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.array([[[1.0, rho], [rho, 1.0]]]))
        sampler = dj.inpaint(dj.Ancestral(), jnp.tile(known, (n, 1)), jnp.array([1.0, 0.0]))
        ts, x = np.asarray(times.repaint(plain, j, r)), dj.prior_sample(jax.random.key(1), SDE, (n, 2))
        ts = np.pad(ts, (longest - len(ts), 0), mode="edge")
        return float(dj.sample(jax.random.key(2), prior.denoiser(SDE), SDE, dj.TimeTravel(sampler), ts, x)[:, 1].mean())

    return run


@pytest.mark.slow
@pytest.mark.parametrize(("rho", "biased", "repaired"), [(0.5, 0.41, 0.69), (0.9, 0.94, 1.31)])
def test_replacement_is_biased_and_repaint_repairs_it(optimised, gaussian, rho, biased, repaired):
    """conditional.md, section 1: 0.41 and 0.94 where 0.75 and 1.35 are right; 0.69 and 1.31 with ten passes."""
    sigma = 1 / np.sqrt(2000)  # the conditional's standard deviation is below 1
    assert abs(gaussian(rho, 1, 1) - biased) < 4 * sigma
    assert abs(gaussian(rho, 1, 10) - repaired) < 4 * sigma
    assert gaussian(rho, 5, 10) > repaired - 4 * sigma  # longer jumps repair no less


def test_time_travel_adds_the_noise_of_the_climb_and_begins_a_multistep_solver_anew(images, key):
    """Down two steps, up one, down one, against the same by hand: the noise is that of the third step's keys."""
    ts, keys = jnp.array([1.0, 0.7, 0.5, 0.7, 0.5]), dj.arrays.example_keys(key, 4)
    got = dj.sample(key, DENOISE, SDE, dj.TimeTravel(dj.DPMpp2M()), ts, images, trajectory=True)
    down = dj.sample(key, DENOISE, SDE, dj.DPMpp2M(), ts[:3], images)
    np.testing.assert_allclose(got[2], down, atol=1e-6)
    a = SDE.alpha(0.7) / SDE.alpha(0.5)
    noise = jnp.stack([jax.random.normal(jax.random.fold_in(k, 2), images.shape[1:]) for k in keys])
    up = a * down + jnp.sqrt(SDE.sigma(0.7) ** 2 - a**2 * SDE.sigma(0.5) ** 2) * noise
    np.testing.assert_allclose(got[3], up, atol=1e-6)
    np.testing.assert_allclose(got[4], dj.sample(key, DENOISE, SDE, dj.DPMpp2M(), ts[3:], up), atol=1e-6)


@pytest.mark.slow
def test_time_travel_on_a_falling_grid_is_the_sampler(images, key):
    for sampler in (dj.Ancestral(), dj.PC(dj.DDIM(), dj.Langevin(0.1))):
        plain = dj.sample(key, DENOISE, SDE, sampler, times.uniform(SDE, 4), images)
        travel = dj.sample(key, DENOISE, SDE, dj.TimeTravel(sampler), times.uniform(SDE, 4), images)
        np.testing.assert_allclose(travel, plain, atol=1e-6)


def test_repaint_is_one_program_and_an_example_does_not_depend_on_its_batch(images, key):
    mask = jnp.zeros((6, 6, 1)).at[:3].set(1)

    @chex.assert_max_traces(n=2)  # for the batch of 4 and the batch of 1
    def denoise(gain, x, t, cond=None):
        return gain * x / (1 + jnp.asarray(t))

    def repaint(image, key, eta=1.0, gain=0.5):
        sampler = dj.TimeTravel(dj.inpaint(dj.DDIM(eta), image, mask))
        return dj.sample(key, Partial(denoise, gain), SDE, sampler, times.repaint(times.uniform(SDE, 6), 2, 3), image)

    together = repaint(images, key)
    assert jnp.abs(repaint(images, key, 0.5, 0.6) - together).max() > 0.01  # in the same program
    np.testing.assert_array_equal(together[:, :3], images[:, :3])
    keys = dj.arrays.example_keys(key, 4)
    np.testing.assert_allclose(repaint(images[2:3], keys[2:3]), together[2:3], atol=1e-6)


def test_sdedit(images, key):
    ts = times.uniform(SDE, 10)
    assert times.tail(ts, 0.0).shape == (1,) and times.tail(ts, 0.5).shape == (6,)
    np.testing.assert_array_equal(times.tail(ts, 1.0), ts)
    same = dj.sdedit(key, DENOISE, SDE, dj.DDIM(), times.tail(ts, 0.0), images)
    np.testing.assert_array_equal(same, images)
    full = [dj.sdedit(key, DENOISE, SDE, dj.DDIM(), ts, guide) for guide in (images, -images)]
    np.testing.assert_allclose(full[0], full[1], atol=0.02)  # alpha(T) = 0.0066 is what is left of the guide
    mask = jnp.zeros((6, 6, 1)).at[:3].set(1)
    kept = dj.sdedit(
        key, DENOISE, SDE, dj.inpaint(dj.Ancestral(), images, mask), times.tail(ts, 0.5), images, repeats=3
    )
    np.testing.assert_array_equal(kept[:, :3], images[:, :3])
    one = dj.sdedit(key, DENOISE, SDE, dj.DDIM(), times.tail(ts, 0.5), images)
    alone = dj.sdedit(dj.arrays.example_keys(key, 4)[2:3], DENOISE, SDE, dj.DDIM(), times.tail(ts, 0.5), images[2:3])
    np.testing.assert_allclose(one[2:3], alone, atol=1e-6)


@pytest.mark.slow
def test_sdedit_leaves_an_off_manifold_guide_as_t_0_grows(four_modes, key):
    """The distance to the guide rises with t_0, and the log density rises to the data's."""
    guide, far, likely = np.tile(np.float32([[3.0, 0.5]]), (500, 1)), [], []
    log_prob, draw = jax.jit(four_modes.log_prob), jax.jit(four_modes.sample, static_argnums=1)
    for t_0 in (0.05, 0.1, 0.2, 0.4, 0.8):
        ts = np.linspace(t_0, 1e-3, 61, dtype=np.float32)  # one shape, one compilation
        out = dj.sdedit(key, four_modes.denoiser(SDE), SDE, dj.Ancestral(), ts, guide)
        far.append(np.sqrt(np.mean((np.asarray(out) - guide) ** 2)))
        likely.append(np.asarray(log_prob(out)).mean())
    assert np.all(np.diff(far) > 0)
    own = np.asarray(log_prob(draw(key, 500)))
    assert likely[0] < likely[1] < likely[2] and abs(likely[-1] - own.mean()) < 4 * own.std() / np.sqrt(500) + 0.1


def test_errors(images, key):
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0: SDEdit takes at least one pass"):
        dj.sdedit(key, DENOISE, SDE, dj.DDIM(), times.uniform(SDE, 3), images, repeats=0)
    with pytest.raises(ValueError, match=r"the strength must be a finite number in \[0, 1\], got 1.2"):
        times.tail(times.uniform(SDE, 3), 1.2)
    climbing = times.repaint(times.uniform(SDE, 4), 2, 2)
    for sampler in (dj.DDIM(), dj.KeepEps(dj.TimeTravel(dj.DDIM()), lambda x0, s, cond: x0)):
        with pytest.raises(ValueError, match=r"Only TimeTravel\(sampler\), outside of all other constraints"):
            dj.sample(key, DENOISE, SDE, sampler, climbing, images)
    with pytest.raises(ValueError, match="reverse the grid if it rises"):
        dj.sample(key, DENOISE, SDE, dj.TimeTravel(dj.DDIM()), climbing[::-1], images)
    with pytest.raises(TypeError, match="HDR lacks s"):
        dj.Known(dj.DDIM(), dj.Measurement(operators.HDR(), images))
    with pytest.raises(ValueError, match=r"expected images \[B, H, W, 1\]"):
        dj.colorize(dj.DDIM(), images)
    with pytest.raises(ValueError, match="1 where a pixel is known"):
        dj.inpaint(dj.DDIM(), images, 0.5 * jnp.ones((6, 6, 1)))
    wrong = dj.Known(dj.DDIM(), dj.Measurement(operators.average_pool((6, 6, 3), 2), images))
    with pytest.raises(ValueError, match="each example needs its own y"):
        dj.sample(key, DENOISE, SDE, wrong, times.uniform(SDE, 3), images)

"""The learned schedule: monotone, smooth, with free ends, and an SDE like the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times
from diffjax.sde import diffusion, drift, logsnr


def random(key, width=8):
    """A schedule far from the start."""
    sde = dj.Learned.create(width)
    leaves, tree = jax.tree.flatten(sde)
    keys = jax.random.split(key, len(leaves))
    moved = [x + 1.5 * jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, moved)


@jax.jit
def curves(sde, t):
    return sde.gamma(t), logsnr(sde, t), sde.alpha(t), sde.sigma(t)


def test_gamma_rises_between_its_ends(x64, key):
    t = np.linspace(0, 1, 1001)
    for sde in (dj.Learned.create(), *map(random, jax.random.split(key, 5))):
        gamma, in_logsnr, alpha, sigma = map(np.asarray, curves(sde, t))
        np.testing.assert_allclose(gamma[[0, -1]], [sde.gamma_0, sde.gamma_1], rtol=1e-12)
        assert (np.diff(gamma) > 0).all()
        np.testing.assert_allclose(in_logsnr, -gamma, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(alpha**2 + sigma**2, 1, rtol=1e-12)
    start = dj.Learned.create()
    assert np.abs(jax.jit(start.interior)(t) - t).max() < 0.02
    assert (float(start.gamma_0), float(start.gamma_1), start.T, start.t_min) == (-13.3, 5.0, 1.0, 0.0)


def test_drift_and_diffusion_are_those_of_a_variance_preserving_process(x64, key):
    """beta = sigma^2 gamma', f = -beta/2, g^2 = beta, with gamma' by central differences."""
    sde, t, h = random(key), np.linspace(0.05, 0.95, 9), 1e-5
    above, below = (np.asarray(curves(sde, t + step)[0]) for step in (h, -h))
    beta = np.asarray(curves(sde, t)[3]) ** 2 * (above - below) / (2 * h)
    f, g = jax.jit(lambda sde, t: (drift(sde, jnp.ones((9, 1)), t)[:, 0], diffusion(sde, t)))(sde, t)
    np.testing.assert_allclose(f, -beta / 2, rtol=1e-7)
    np.testing.assert_allclose(g**2, beta, rtol=1e-7)


def test_float32_curves_keep_their_digits_at_both_ends():
    sde, t = dj.Learned.create(), jnp.array([0.0, 1.0])
    gamma = np.array([-13.3, 5.0])
    np.testing.assert_allclose(sde.sigma(t), 1 / np.sqrt(1 + np.exp(-gamma)), rtol=2e-6)
    np.testing.assert_allclose(sde.alpha(t), 1 / np.sqrt(1 + np.exp(gamma)), rtol=2e-6)
    assert {leaf.dtype for leaf in jax.tree.leaves(sde)} == {jnp.dtype("float32")}


def test_samplers_run_on_it(x64):
    """DDIM's gain on N(0, 1) is the product of cosines of the angles between its noise levels."""
    sde = dj.Learned.create()
    ts = times.uniform(sde, 16)
    angles = np.arctan(np.exp(0.5 * np.asarray(sde.gamma(ts))))
    denoise = lambda x, t, cond: sde.alpha(t) * x  # noqa: E731
    end = dj.sample(jax.random.key(0), denoise, sde, dj.DDIM(), ts, jnp.ones((1, 1)))
    np.testing.assert_allclose(end[0, 0], np.prod(np.cos(np.diff(angles))), rtol=1e-9)


@pytest.mark.parametrize("options", [{"width": 0}, {"gamma_0": 5.0}, {"gamma_1": float("nan")}])
def test_unfit_schedules_are_refused(options):
    with pytest.raises(ValueError, match=r"gamma_0 < gamma_1|width must be|gamma_1 must be"):
        dj.Learned.create(**options)

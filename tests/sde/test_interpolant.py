"""Curves given as functions are the processes that have names, and bad curves are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times
from diffjax.sde import gaussian


def cosine(t):
    return jnp.cos(0.5 * jnp.pi * t)


def sine(t):
    return jnp.sin(0.5 * jnp.pi * t)


LINEAR = dj.Interpolant(lambda t: 1 - t, lambda t: t)
TRIGONOMETRIC = dj.Interpolant(cosine, sine, t_min=1e-3)


@pytest.mark.parametrize(("ours", "named"), [(LINEAR, dj.Flow()), (TRIGONOMETRIC, dj.Cosine())], ids=["flow", "cosine"])
def test_it_is_the_named_process(x64, key, ours, named):
    t = jnp.linspace(0, 1, 33)
    for f, g in zip(jax.tree.leaves(gaussian.rates(ours, t)), jax.tree.leaves(gaussian.rates(named, t)), strict=True):
        np.testing.assert_allclose(f, g, atol=1e-15)
    mixture = dj.GaussianMixture(jnp.ones(1), jnp.ones((1, 2)), jnp.eye(2)[None] / 4)
    ts, x = times.uniform(named, 8), jax.random.normal(key, (3, 2))
    ends = [dj.sample(key, mixture.denoiser(sde), sde, dj.Heun(), ts, x) for sde in (ours, named)]
    np.testing.assert_allclose(*ends, rtol=1e-12)


def test_what_rounding_leaves_below_zero_is_zero_and_keeps_its_slope():
    assert cosine(jnp.float32(1)) < 0
    (alpha, _), (d_alpha, _) = gaussian.rates(TRIGONOMETRIC, 1.0)
    assert alpha == 0 and d_alpha == pytest.approx(-np.pi / 2, rel=1e-6)
    assert gaussian.logsnr(TRIGONOMETRIC, 1.0) == -jnp.inf


def test_constants_and_curves_that_rise_and_fall_are_processes():
    edm_like = dj.Interpolant(lambda t: 1.0, lambda t: 80 * t)
    assert edm_like.alpha(jnp.ones(3)).shape == (3,)
    hump = dj.Interpolant(lambda t: 1 - t, lambda t: t * (1.5 - 0.9 * t))  # sigma falls near 1, sigma/alpha does not
    assert jnp.isfinite(gaussian.diffusion(hump, jnp.linspace(0, 0.99, 50))).all()
    assert jax.jit(lambda t: dj.Interpolant(cosine, sine).sigma(t))(0.5) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    ("alpha", "sigma", "message"),
    [
        (lambda t: 1 - 2 * t, lambda t: t, r"alpha must be at least 0 .* it is -0.0\d+ at t = 0.50"),
        (lambda t: 1 - t, lambda t: t - 0.5, "sigma must be at least 0 .* at t = 0.0"),
        (lambda t: jnp.log(t) / 0, lambda t: t, "alpha must be at least 0"),
        (lambda t: jnp.abs(1 - 2 * t), lambda t: jnp.abs(1 - 2 * t), "both 0 at t = 0.5"),
        (lambda t: t, lambda t: 1 - t, "t -> 1 - t"),
        (lambda t: 1 - t / 2, lambda t: sine(3 * t) ** 2, "sigma/alpha must grow with t, but it falls at t = 0.[45]"),
    ],
)
def test_curves_that_are_no_process(alpha, sigma, message):
    with pytest.raises(ValueError, match=message):
        dj.Interpolant(alpha, sigma)

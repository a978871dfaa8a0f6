"""Flow matching and EDM by the one denoising loss: minima by quadrature, without sampling.

A loss that is quadratic in (x_0, eps) has the same mean over x_0 = +-s, eps = +-1 as over N(0, s^2) and N(0, 1).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import precondition
from diffjax.losses import DSM, weightings


def nodes(s, t):
    """Every sign of (x_0, eps) for each time: a batch of 4 len(t) examples, and their times."""
    x0, eps = np.meshgrid([-s, s], [-1.0, 1.0])
    batch = {"image": np.tile(x0.reshape(-1, 1), (len(t), 1)), "noise": np.tile(eps.reshape(-1, 1), (len(t), 1))}
    return batch, np.repeat(t, 4)


def velocity_network(params, x, c_noise, cond=None, *, train, rngs):
    """E[eps - x_0 | x_t] for N(0, s^2) data, times a scale."""
    (scale, s), t = params, dj.gaussian.bcast(c_noise / 999, x)
    return scale * x * (t - (1 - t) * s**2) / ((1 - t) ** 2 * s**2 + t**2)


@jax.jit
def mean_and_slope(scale, s, batch, t, w):
    """Of flow matching's loss over its times, by quadrature with the weights w; the slope is that in the scale."""

    def mean(scale):
        loss = DSM(dj.Flow(), lambda key, n: t, velocity_network, precondition.from_velocity, weightings.velocity)
        return (loss((scale, s), jax.random.key(0), batch)[0].reshape(-1, 4).mean(1) * w / 2).sum()

    return jax.value_and_grad(mean)(scale)


@pytest.mark.parametrize(("s", "known"), [(0.5, 0.78540), (1.0, 1.57080), (2.0, 3.14159)])
def test_the_minimum_of_flow_matching(x64, s, known):
    """Uniform t: (pi / 2) s per dimension, by Gauss-Legendre quadrature of the loss itself."""
    z, w = np.polynomial.legendre.leggauss(64)
    batch, t = nodes(s, (z + 1) / 2)
    mean = lambda scale: mean_and_slope(scale, s, batch, t, w)[0]  # noqa: E731
    value, slope = mean_and_slope(1.0, s, batch, t, w)
    np.testing.assert_allclose(value, np.pi / 2 * s, rtol=1e-10)
    np.testing.assert_allclose(value, known, atol=1e-5)
    assert abs(slope) < 1e-9 and mean(1.1) > value < mean(0.9)


@jax.jit
def edm_by_level(sd, batch, t):
    """The loss at the zero network for each noise level, its slope and its Hessian in (offset, gain)."""

    def network(params, x, c_noise, cond=None, *, train, rngs):
        return params[0] + params[1] * x

    loss = DSM(
        dj.EDM(),
        lambda key, n: t,
        network,
        functools.partial(precondition.edm, sigma_data=sd),
        functools.partial(weightings.edm, sigma_data=sd),
    )
    by_level = lambda params: loss(params, jax.random.key(0), batch)[0].reshape(-1, 4).mean(1)  # noqa: E731
    slope = jax.jacobian(by_level)
    return by_level(jnp.zeros(2)), slope(jnp.zeros(2)), jax.jacobian(slope)(jnp.zeros(2))


@pytest.mark.parametrize("sd", [0.5, 1.3])
def test_edm_s_zero_network_is_the_optimum_and_its_loss_is_one_at_every_noise_level(x64, sd):
    value, slope, hessian = edm_by_level(sd, *nodes(sd, [0.002, 0.05, 0.5, 3.0, 80.0]))
    np.testing.assert_allclose(value, 1, rtol=1e-10)
    np.testing.assert_allclose(slope, 0, atol=1e-9)
    # the network's own output and input have variance 1
    np.testing.assert_allclose(hessian, np.tile(2 * np.eye(2), (5, 1, 1)), atol=1e-9)


def test_the_loss_is_the_velocity_s_error_in_float32_at_all_default_times(key):
    t = np.array([1e-5, 1e-4, 1e-3, 0.02, 0.5, 0.999, 1.0], np.float32)  # the ends of `times.Uniform`
    x0, eps, F = np.random.default_rng(0).normal(size=(3, 7, 500)).astype(np.float32)

    def network(params, x, c_noise, cond=None, *, train, rngs):
        return params

    loss = DSM(dj.Flow(), lambda key, n: t, network, precondition.from_velocity, weightings.velocity)
    batch = {"image": x0, "noise": eps}
    direct = lambda F: ((F - (eps - x0)) ** 2).mean(1)  # noqa: E731
    # between F and the error lie five roundings, of half an ulp (6e-8) of x_0 each, and then a division by t
    off = 5 * 6e-8 * (np.abs(x0) + t[:, None] * (np.abs(eps) + np.abs(F))) / t[:, None]
    slack = (2 * off * np.abs(F - (eps - x0)) + off**2).mean(1)
    values, pull = jax.jit(lambda F: jax.vjp(lambda F: loss(F, key, batch)[0], F))(F)
    (slope,) = pull(jnp.ones(7))
    assert np.all(np.abs(values - direct(F)) < slack)
    assert np.all(np.abs(slope - 2 * (F - (eps - x0)) / 500) < 2 * off / 500 + 1e-7)


def test_a_velocity_network_is_a_finite_denoiser_at_both_ends(key):
    sde, x = dj.Flow(), jax.random.normal(key, (2, 3))
    t = jnp.array([0.0, 1.0])
    denoise = precondition.from_velocity(sde, lambda x, c, cond: 2 * x)
    x0, velocity = jax.jit(lambda: (x0 := denoise(x, t), dj.gaussian.velocity_from_x0(sde, x, t, x0)))()
    np.testing.assert_allclose(x0, jnp.stack([x[0], -x[1]]), rtol=1e-6)  # x - t F
    assert np.isfinite(velocity).all()

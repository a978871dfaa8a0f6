"""Flow matching and EDM by the one denoising loss: minima by quadrature, without sampling.

A loss that is quadratic in (x_0, eps) has the same mean over x_0 = +-s, eps = +-1 as over N(0, s^2) and N(0, 1).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import precondition, times
from diffjax.losses import DSM, weightings


def nodes(s, t):
    """Every sign of (x_0, eps) for each time: a batch of 4 len(t) examples, and their times."""
    x0, eps = np.meshgrid([-s, s], [-1.0, 1.0])
    batch = {"image": np.tile(x0.reshape(-1, 1), (len(t), 1)), "noise": np.tile(eps.reshape(-1, 1), (len(t), 1))}
    return jax.tree.map(jnp.asarray, batch), jnp.repeat(jnp.asarray(t), 4)


def velocity_network(s):
    """E[eps - x_0 | x_t] for N(0, s^2) data, times `params`."""

    def network(params, x, c_noise, cond=None, *, train, rngs):
        t = dj.gaussian.bcast(c_noise / 999, x)
        return params * x * (t - (1 - t) * s**2) / ((1 - t) ** 2 * s**2 + t**2)

    return network


@pytest.mark.parametrize(("s", "known"), [(0.5, 0.78540), (1.0, 1.57080), (2.0, 3.14159)])
def test_the_minimum_of_flow_matching(x64, s, known):
    """Uniform t: (pi / 2) s per dimension, by Gauss-Legendre quadrature of the loss itself."""
    z, w = np.polynomial.legendre.leggauss(64)
    batch, t = nodes(s, (z + 1) / 2)
    loss = DSM(dj.Flow(), lambda key, n: t, velocity_network(s), precondition.from_velocity, weightings.velocity)
    mean = lambda scale: (loss(scale, jax.random.key(0), batch)[0].reshape(-1, 4).mean(1) * w / 2).sum()  # noqa: E731
    value, slope = jax.value_and_grad(mean)(1.0)
    np.testing.assert_allclose(value, np.pi / 2 * s, rtol=1e-10)
    np.testing.assert_allclose(value, known, atol=1e-5)
    assert abs(slope) < 1e-9 and mean(1.1) > value < mean(0.9)


@pytest.mark.parametrize("sd", [0.5, 1.3])
def test_edm_s_zero_network_is_the_optimum_and_its_loss_is_one_at_every_noise_level(x64, sd):
    batch, t = nodes(sd, [0.002, 0.05, 0.5, 3.0, 80.0])

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
    np.testing.assert_allclose(by_level(jnp.zeros(2)), 1, rtol=1e-10)
    np.testing.assert_allclose(jax.jacobian(by_level)(jnp.zeros(2)), 0, atol=1e-9)
    hessian = jax.jacobian(jax.jacobian(by_level))(jnp.zeros(2))  # the network's own output and input have variance 1
    np.testing.assert_allclose(hessian, np.tile(2 * np.eye(2), (5, 1, 1)), atol=1e-9)


def test_the_loss_is_the_velocity_s_error_in_float32_at_all_times_of_the_default_law(key):
    law = times.Uniform()
    t = jnp.array([law.t_min, 1e-4, 1e-3, 0.02, 0.5, 0.999, law.t_max])
    x0, eps, F = jax.random.normal(key, (3, 7, 500))

    def network(params, x, c_noise, cond=None, *, train, rngs):
        return params

    loss = DSM(dj.Flow(), lambda key, n: t, network, precondition.from_velocity, weightings.velocity)
    batch = {"image": x0, "noise": eps}
    direct = lambda F: ((F - (eps - x0)) ** 2).mean(1)  # noqa: E731
    # between F and the error lie five roundings, of half an ulp (6e-8) of x_0 each, and then a division by t
    off = 5 * 6e-8 * (jnp.abs(x0) + t[:, None] * (jnp.abs(eps) + jnp.abs(F))) / t[:, None]
    slack = (2 * off * jnp.abs(F - (eps - x0)) + off**2).mean(1)
    slope = jax.grad(lambda F: loss(F, key, batch)[0].sum())(F)
    assert jnp.all(jnp.abs(loss(F, key, batch)[0] - direct(F)) < slack)
    assert jnp.all(jnp.abs(slope - 2 * (F - (eps - x0)) / 500) < 2 * off / 500 + 1e-7)


def test_a_velocity_network_is_a_finite_denoiser_at_both_ends(key):
    sde, x = dj.Flow(), jax.random.normal(key, (2, 3))
    t = jnp.array([0.0, 1.0])
    x0 = precondition.from_velocity(sde, lambda x, c, cond: 2 * x)(x, t)
    np.testing.assert_allclose(x0, jnp.stack([x[0], -x[1]]), rtol=1e-6)  # x - t F
    assert jnp.isfinite(dj.gaussian.velocity_from_x0(sde, x, t, x0)).all()

"""The oracles against NumPy: quadrature, autodiff of the density, sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax.sde import gaussian


@pytest.fixture
def mixture(x64):
    covs = jnp.array([[[0.5, 0.2], [0.2, 0.3]], [[0.04, 0.0], [0.0, 0.0]], [[1.0, -0.3], [-0.3, 0.2]]])
    return dj.GaussianMixture(jnp.array([0.2, 0.5, 0.3]), jnp.array([[1.0, 0.0], [-1.0, 1.0], [0.0, -2.0]]), covs)


@pytest.mark.parametrize("make", [dj.VP, dj.VE, dj.Flow])
def test_score_is_the_gradient_of_the_density(mixture, key, make):
    sde = make()
    x = jax.random.normal(key, (7, 2))
    t = jnp.linspace(0.2, 0.9, 7)
    gradient = jax.vmap(jax.grad(lambda x, t: mixture.log_prob_at(sde, x[None], t)[0]))(x, t)
    np.testing.assert_allclose(mixture.score(sde, x, t), gradient, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(mixture.denoiser(sde)(x, t), gaussian.x0_from_score(sde, x, t, gradient), rtol=1e-6)


def test_density_equals_numpy(x64):
    means, covs, w = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([np.eye(2), [[0.5, 0.1], [0.1, 0.2]]]), [0.3, 0.7]
    x = np.random.default_rng(0).normal(size=(5, 2))
    density = 0
    for wk, m, C in zip(w, means, covs, strict=True):
        q = np.einsum("bi,ij,bj->b", x - m, np.linalg.inv(C), x - m)
        density = density + wk * np.exp(-q / 2) / (2 * np.pi * np.sqrt(np.linalg.det(C)))
    mixture = dj.GaussianMixture(jnp.array(w), jnp.array(means), jnp.array(covs))
    np.testing.assert_allclose(mixture.log_prob(jnp.array(x)), np.log(density), rtol=1e-12)


def test_denoiser_is_the_posterior_mean_by_quadrature(x64):
    sde, t = dj.VP(), 0.4
    mixture = dj.GaussianMixture(jnp.array([0.4, 0.6]), jnp.array([[-1.0], [2.0]]), jnp.array([[[0.3]], [[0.05]]]))
    x0 = np.linspace(-6, 6, 20001)
    p0 = np.exp(np.asarray(mixture.log_prob(jnp.array(x0)[:, None])))
    for x in (-1.0, 0.1, 0.9):
        w = p0 * np.exp(-((x - float(sde.alpha(t)) * x0) ** 2) / (2 * float(sde.sigma(t)) ** 2))
        np.testing.assert_allclose(mixture.denoise(sde, jnp.array([[x]]), t)[0, 0], (w * x0).sum() / w.sum(), rtol=1e-8)


def test_samples_have_the_mixture_s_moments(mixture, key):
    x = np.asarray(mixture.sample(key, 20000))
    mean = np.einsum("k,kd->d", mixture.weights, mixture.means)
    second = np.asarray(mixture.covs) + np.einsum("ki,kj->kij", mixture.means, mixture.means)
    cov = np.einsum("k,kij->ij", mixture.weights, second) - np.outer(mean, mean)
    assert np.all(np.abs(x.mean(0) - mean) < 4 * np.sqrt(np.diag(cov) / 20000))  # 4 sigma
    np.testing.assert_allclose(np.cov(x.T), cov, atol=0.05)


def test_posterior_equals_bayes_rule_on_a_grid(x64):
    mixture = dj.GaussianMixture(
        jnp.array([0.5, 0.5]),
        jnp.array([[1.0, 0.0], [-1.0, 0.5]]),
        jnp.array([0.2 * np.eye(2), [[0.3, 0.1], [0.1, 0.2]]]),
    )
    A, y, s = jnp.array([[1.0, 0.5]]), jnp.array([0.4]), 0.3
    posterior = mixture.posterior(A, y, s)
    grid = jnp.stack(jnp.meshgrid(*[jnp.linspace(-4, 4, 401)] * 2, indexing="ij"), -1).reshape(-1, 2)
    log_p = mixture.log_prob(grid) - ((y - grid @ A.T) ** 2).sum(-1) / (2 * s**2)
    w = jax.nn.softmax(log_p)
    mean = w @ grid
    cov = (w[:, None] * (grid - mean)).T @ (grid - mean)
    np.testing.assert_allclose(posterior.weights @ posterior.means, mean, atol=1e-6)
    spread = posterior.means - mean
    np.testing.assert_allclose(
        jnp.einsum("k,kij->ij", posterior.weights, posterior.covs + spread[:, :, None] * spread[:, None]),
        cov,
        atol=1e-6,
    )


def test_empirical_is_the_mixture_with_point_masses(x64, key):
    data = jax.random.normal(key, (9, 2))
    points = dj.GaussianMixture(jnp.full(9, 1 / 9), data, jnp.zeros((9, 2, 2)))
    sde, x, t = dj.VP(), jax.random.normal(jax.random.key(1), (4, 2)), jnp.linspace(0.1, 0.9, 4)
    empirical = dj.Empirical(data)
    np.testing.assert_allclose(empirical.denoise(sde, x, t), points.denoise(sde, x, t), rtol=1e-9)
    np.testing.assert_allclose(empirical.score(sde, x, t), points.score(sde, x, t), rtol=1e-8)


def test_empirical_on_images_ends_in_the_data(key):
    data = jax.random.uniform(key, (5, 4, 4, 1), minval=-1)
    sde = dj.VP()
    empirical = dj.Empirical(data)
    ts = dj.times.karras(sde, 30)
    x = dj.sample(key, empirical.denoiser(sde), sde, dj.Heun(), ts, dj.prior_sample(key, sde, (6, 4, 4, 1)))
    distance = jnp.abs(x[:, None] - data).max(axis=(2, 3, 4)).min(axis=1)
    assert float(distance.max()) < 1e-4
    assert all(any(np.array_equal(d, s) for d in data) for s in empirical.sample(key, 3))


def test_wrong_shapes(mixture):
    with pytest.raises(ValueError, match=r"\[B, 2\]"):
        mixture.log_prob(jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"\[B, 4\]"):
        dj.Empirical(jnp.zeros((5, 4))).denoise(dj.VP(), jnp.zeros((3, 3)), 0.5)

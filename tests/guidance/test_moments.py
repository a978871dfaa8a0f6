"""PiGDM with the exact covariance in float32, against NumPy's float64, in the posterior's own standard deviations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import guidance, operators

SDE = dj.VP()


def affine(K, b, x, t, cond=None):
    return x @ K.T + b


def solve(iterations, K, b, A, y, noise, x, t):
    m = operators.Measurement(A, y, noise)
    return guidance.pigdm_exact(Partial(affine, K, b), SDE, m, iterations)(x, t)


solved = jax.jit(solve, static_argnums=0)


def problem(rng, d, m, spread, t, noise):
    """What `solve` takes, and the posterior's mean and covariance, of data N(mu, C), off centre, C of that spread."""
    Q, lam = np.linalg.qr(rng.normal(size=(d, d)))[0], np.geomspace(1, 1 / spread, d)
    C, mu, A = Q * lam @ Q.T, 2 * rng.normal(size=d), np.float32(rng.normal(size=(m, d)) / np.sqrt(d)).astype(float)
    alpha, sigma = float(SDE.alpha(t)), float(SDE.sigma(t))
    K = np.float32(alpha * C @ np.linalg.inv(alpha**2 * C + sigma**2 * np.eye(d))).astype(float)
    x0 = mu + Q @ (np.sqrt(lam) * rng.normal(size=d))
    y = np.float32(A @ x0 + noise * rng.normal(size=m))
    x = np.float32(alpha * x0 + sigma * rng.normal(size=(3, d)))
    b = np.float32(mu - alpha * K @ mu)
    cov = sigma**2 / alpha * K.T
    gain = cov @ A.T @ np.linalg.inv(A @ cov @ A.T + noise**2 * np.eye(m))
    mean = x.astype(float) @ K.T + b
    mean += (y - mean @ A.T) @ gain.T
    P = cov - gain @ A @ cov
    args = np.float32(K), b, operators.matrix(A), jnp.tile(y, (3, 1)), np.float32(noise), x, np.float32(t)
    return args, mean, (P + P.T) / 2


@pytest.mark.parametrize(("d", "m", "iterations"), [(3, 2, None), (16, 12, None), (64, 48, None), (16, 12, 200)])
def test_float32_is_right_to_a_hundredth_of_a_standard_deviation(d, m, iterations, monkeypatch):
    """Conjugate gradients that stopped at a residual of 1e-6 |y - A x_0| were up to 24 standard deviations off here."""
    rng = np.random.default_rng(d)
    for noise, spread in ((0.3, 1), (0.05, 100), (0.01, 1e4)) if iterations is None else ((0.3, 1), (0.05, 100)):
        for t in (0.05, 0.4, 0.9):
            args, mean, P = problem(rng, d, m, spread, t, noise)
            off = np.asarray(solved(iterations, *args), float) - mean
            distance = np.sqrt(np.einsum("bi,bi->b", off, np.linalg.solve(P, off.T).T))  # Mahalanobis
            assert distance.max() < 0.01, (noise, spread, t, distance)


def test_where_alpha_is_0_the_estimate_stays_unguided():
    """At T of Flow: finite, with a finite gradient."""
    flow, m = dj.Flow(), operators.Measurement(operators.matrix(np.array([[1.0, 0.5]])), jnp.ones((2, 1)), 0.1)
    prior = dj.GaussianMixture(jnp.ones(1), jnp.array([[0.5, 0.1]]), jnp.eye(2)[None])
    guided = guidance.pigdm_exact(prior.denoiser(flow), flow, m)
    grad, got = jax.jit(jax.grad(lambda x: (guided(x, 1.0).sum(), guided(x, 1.0)), has_aux=True))(jnp.ones((2, 2)))
    np.testing.assert_allclose(got, prior.means + 0 * got, atol=1e-6)
    assert jnp.isfinite(grad).all()

"""Sampling by flow maps: exact on a Gaussian for every number of steps, and the papers' two ends gamma = 0 and 1."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import flow_maps, precondition

GAUSS = dj.GaussianMixture(jnp.ones(1), jnp.array([[0.4]]), jnp.full((1, 1, 1), 0.09))
X = np.random.default_rng(0).normal(size=(5, 1)).astype(np.float32)
TS = np.array([1.0, 0.8, 0.5, 0.1, 0.0], np.float32)
run = jax.jit(lambda flow, *args: flow(*args))


def test_without_noise_the_steps_follow_the_flow(key, one_of):
    processes = (dj.VP(), dj.EDM(), dj.Flow(), dj.VE(), dj.Cosine())
    for kind, sde in enumerate(processes):
        sde = one_of(kind, processes, T=sde.T)
        path = dj.sample(key, GAUSS.flow_map(sde), sde, dj.Jump(), sde.T * TS, sde.T * X, trajectory=True)
        for t, x in zip(TS[1:], path[1:], strict=True):
            exact = run(GAUSS.flow_map(sde), sde.T * X, sde.T, sde.T * t)
            np.testing.assert_allclose(x, exact, rtol=1e-5, atol=2e-6)


def test_any_gamma_keeps_the_distribution(key):
    """Mean alpha m and variance alpha^2 C + sigma^2 at every step; 4 sigma of 20,000 draws."""
    sde, n = dj.VP(), 20_000
    x = sde.alpha(1.0) * 0.4 + jnp.hypot(sde.alpha(1.0) * 0.3, sde.sigma(1.0)) * jax.random.normal(key, (n, 1))
    for gamma in (0.3, 0.9, 1.0):
        path = dj.sample(key, GAUSS.flow_map(sde), sde, dj.KeepNoise(dj.Jump(gamma)), TS, x, trajectory=True)
        mean, var = np.asarray(path.mean((1, 2))), np.asarray(path.var((1, 2)))
        expected = np.asarray(sde.alpha(TS) ** 2 * 0.09 + sde.sigma(TS) ** 2)
        np.testing.assert_array_less(np.abs(mean - 0.4 * sde.alpha(TS)), 4 * np.sqrt(expected / n))
        np.testing.assert_array_less(np.abs(var - expected), 4 * expected * np.sqrt(2 / n))


def test_with_all_noise_it_is_multistep_consistency(key):
    """x_s = f(x_t) + sqrt(s^2 - eps^2) z, in NumPy with the draws of the sampler (Song et al. 2023, Algorithm 1)."""
    sde, ts = dj.EDM(), np.array([80.0, 20.0, 3.0, 0.5, 0.0], np.float32)
    flow = GAUSS.flow_map(sde)
    renoised = dj.sample(key, flow_maps.as_flow_map(sde, flow).to(0.0), sde, dj.Renoise(1.0), ts, 80 * X)
    np.testing.assert_allclose(dj.sample(key, flow, sde, dj.Jump(1.0), ts, 80 * X), renoised, rtol=1e-6)
    eps, x = 0.4, 80 * X.astype(np.float64)
    f = flow_maps.to_end(flow_maps.as_flow_map(sde, flow).to(eps))  # a consistency function with its end at eps
    path = dj.sample(key, f, sde, dj.Jump(1.0, eps), ts, 80 * X, trajectory=True)
    keys = dj.arrays.example_keys(key, 5)
    for i, s in enumerate(ts[1:-1]):
        x0 = 0.4 + (x - 0.4) * np.sqrt((eps**2 + 0.09) / (ts[i] ** 2 + 0.09))
        z = np.asarray(dj.arrays.normal(dj.arrays.fold(keys, i), X))
        x = x0 + np.sqrt(s**2 - eps**2) * z
        np.testing.assert_allclose(path[i + 1], x, rtol=1e-4)
    # the step from .5 to 0 < eps ends in the map's end
    np.testing.assert_allclose(path[-1], 0.4 + (x - 0.4) * np.sqrt((eps**2 + 0.09) / (0.25 + 0.09)), rtol=1e-4)


def test_one_gamma_step_is_the_papers(key):
    """Kim et al. 2024: down to sqrt(1 - gamma^2) s, then up by gamma s z."""
    gamma, ts = 0.6, np.array([80.0, 2.0, 0.0], np.float32)
    path = dj.sample(key, GAUSS.flow_map(dj.EDM()), dj.EDM(), dj.Jump(gamma), ts, 80 * X, trajectory=True)
    z = np.asarray(dj.arrays.normal(dj.arrays.fold(dj.arrays.example_keys(key, 5), 0), X))
    down = 0.4 + (80 * X - 0.4) * np.sqrt(((0.8 * 2) ** 2 + 0.09) / (80**2 + 0.09))
    np.testing.assert_allclose(path[1], down + 0.6 * 2 * z, rtol=1e-5, atol=1e-5)


def test_one_trace_batch_independence_and_a_network(key):
    sde = dj.EDM()

    @chex.assert_max_traces(n=1)
    def network(w, x, c_noise, cond=None):
        return jnp.tanh(w * x) + (c_noise[0] - c_noise[1])[:, None]

    precond = Partial(precondition.edm, sigma_data=0.5)
    for gamma in (0.0, 0.5, 1.0):
        flow = flow_maps.ctm(sde, Partial(network, gamma + 0.1), precond)
        out = dj.sample(key, flow, sde, dj.Jump(gamma, 0.002), 80 * TS, 80 * X)
    flow = flow_maps.ctm(sde, Partial(lambda w, x, c, cond: jnp.tanh(w * x) + (c[0] - c[1])[:, None], 1.1), precond)
    keys = dj.arrays.example_keys(key, 5)
    alone = [dj.sample(keys[i : i + 1], flow, sde, dj.Jump(1.0, 0.002), 80 * TS, 80 * X[i : i + 1]) for i in (0, 3)]
    np.testing.assert_allclose(np.concatenate(alone), out[np.array([0, 3])], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_vmap_over_gamma_and_gradients_at_its_ends(key):
    sde, gammas = dj.VP(), np.array([0.0, 0.5, 1.0], np.float32)

    def end(gamma):
        return dj.sample(key, GAUSS.flow_map(sde), sde, dj.Jump(gamma), TS, X).sum()

    values, grads = jax.jit(jax.vmap(jax.value_and_grad(end)))(gammas)
    np.testing.assert_allclose(values, [end(g) for g in gammas], rtol=1e-4)
    assert np.isfinite(grads).all()


@pytest.mark.parametrize("gamma", [-0.1, 1.5, np.nan])
def test_gamma_is_a_share(gamma):
    with pytest.raises(ValueError, match=r"gamma must be a finite number in \[0, 1\]"):
        dj.Jump(gamma)

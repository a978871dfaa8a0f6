"""Langevin dynamics: stationary variances, both step conventions, the NCSN toy, the final denoising, every process."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times
from diffjax.samplers import annealing

LEVELS = np.geomspace(20, 1, 10)


@partial(jax.jit, static_argnames="inner")
def coefficients(sampler, sde, t, s2, inner=False):
    """(A, B) of x <- A x + B z on N(0, s2) data, read off the sampler's own step, or the first of its inner steps."""

    def denoise(x, t, cond=None):
        alpha, sigma = dj.gaussian.curves(sde, t, x)
        return alpha * s2 * x / (alpha**2 * s2 + sigma**2)

    key, x = jax.random.key(0), jnp.ones((1, 1))
    state = sampler.step(key, denoise, sde, sampler.init(x), t, t, None)
    z = dj.arrays.normal(dj.arrays.fold(key, 0) if inner else key, x)
    return state.mean[0, 0], ((state.x - state.mean) / z)[0, 0]


@pytest.mark.parametrize("halved", [False, True])
def test_ula_has_the_known_stationary_variance(x64, halved):
    sde, t, s2 = dj.VP(), 0.3, 0.25
    var = float(sde.alpha(t) ** 2 * s2 + sde.sigma(t) ** 2)  # of p_t
    for h in (0.01, 0.1, 0.5):
        A, B = coefficients(dj.ULA(2 * h if halved else h, halved), sde, t, s2)
        np.testing.assert_allclose(B**2 / (1 - A**2), var / (1 - h / (2 * var)), rtol=1e-12)
    A, _ = coefficients(dj.ULA(4.01 * var if halved else 2.005 * var, halved), sde, t, s2)
    assert A < -1  # unstable from h = 2 var on


def test_the_two_conventions_are_one_chain_with_the_step_halved(x64, key):
    sde, x = dj.VP(), np.random.default_rng(0).normal(size=(5, 2))
    denoise = lambda x, t, cond: jnp.tanh(x)  # noqa: E731
    for full, half, ts in (
        (dj.ULA(0.02), dj.ULA(0.04, halved=True), np.full(6, 0.5)),
        (
            dj.AnnealedLangevin(0.02, 0.5, 3),
            dj.AnnealedLangevin(0.04, 0.5, 3, halved=True),
            np.array([1.0, 0.5, 0.2, 0]),
        ),
    ):
        runs = [dj.sample(key, denoise, sde, dj.KeepNoise(sampler), ts, x) for sampler in (full, half)]
        np.testing.assert_allclose(*runs, rtol=1e-12)


def rederived(key, score, x, levels, alphas, n_steps):
    """Algorithm 1 in NumPy: alphas are the steps in the convention x + alpha/2 s + sqrt(alpha) z; then x_0."""
    keys = dj.arrays.example_keys(key, len(x))
    draw = jax.jit(lambda i, k: dj.arrays.normal(dj.arrays.fold(dj.arrays.fold(keys, i), k), jnp.asarray(x)))
    for i, (sigma, alpha) in enumerate(zip(levels, alphas, strict=True)):
        for k in range(n_steps):
            x = x + alpha / 2 * score(x, sigma) + np.sqrt(alpha) * np.asarray(draw(i, k))
    return x, x + levels[-1] ** 2 * score(x, levels[-1])


def test_algorithm_1_and_the_final_denoising_rederived(x64, key):
    s2, eps, n = 0.3, 0.05, 3
    levels = np.geomspace(4, 0.5, 5)
    x = np.random.default_rng(1).normal(size=(6, 2))
    score = lambda x, sigma: -x / (s2 + sigma**2)  # noqa: E731
    noisy, clean = rederived(key, score, x, levels, eps * (levels / levels[-1]) ** 2, n)

    sde = dj.EDM(T=4.0, t_min=0.5)
    denoise = lambda x, t, cond=None: s2 * x / (s2 + t**2)  # noqa: E731
    sampler, ts = dj.AnnealedLangevin(eps, 0.5, n, halved=True), times.geometric(sde, 5)
    np.testing.assert_allclose(ts, [*levels, 0], rtol=1e-12)
    np.testing.assert_allclose(dj.sample(key, denoise, sde, sampler, ts, x), clean, rtol=1e-12)
    no_denoising = ts.at[-1].set(ts[-2])  # the 2019 paper's end
    out = dj.sample(key, denoise, sde, dj.KeepNoise(sampler), no_denoising, x)
    np.testing.assert_allclose(out, noisy, rtol=1e-12)


PROCESSES = (dj.VP(), dj.SubVP(), dj.VE(), dj.Flow(T=0.9, t_min=0.02))


@jax.jit
def chain(key, mixture, sde, ts, x):
    sampler = dj.KeepNoise(dj.AnnealedLangevin(0.1, 1.0, 4))
    return dj.sample(key, mixture.denoiser(sde), sde, sampler, ts, x, trajectory=True)


@pytest.mark.parametrize("kind", range(4), ids=[type(sde).__name__ for sde in PROCESSES])
@pytest.mark.slow
def test_on_every_process_it_is_the_chain_of_x_over_alpha(x64, key, kind, four_modes, one_of):
    sde = one_of(kind, PROCESSES, PROCESSES[kind].T, PROCESSES[kind].t_min)
    ts = jax.jit(times.geometric, static_argnums=1)(sde, 6)
    alphas = np.asarray(sde.alpha(ts))
    levels = np.append((sde.sigma(ts) / alphas)[:-1], 0.0)
    edm = dj.EDM(T=levels[0])  # both start at T, and so with the same keys
    x = np.random.default_rng(0).normal(size=(5, 2)) * float(sde.sigma(sde.T))
    path, scaled = chain(key, four_modes, sde, ts, x), chain(key, four_modes, edm, levels, x / alphas[0])
    alphas = np.append(alphas[:-1], 1.0)  # the last state is x_0 itself
    np.testing.assert_allclose(path, alphas[:, None, None] * scaled, rtol=1e-9, atol=1e-12)


def test_one_evaluation_a_step_and_one_for_the_denoising(key):
    calls = []

    def denoise(x, t, cond=None):
        jax.debug.callback(lambda t: calls.append(float(t)), t)
        return x / 2

    sde = dj.EDM(T=2.0, t_min=0.1)
    ts = times.geometric(sde, 4)
    for grid, count in ((ts, 4 * 3 + 1), (ts[:-1], 3 * 3)):
        calls.clear()
        dj.sample(key, denoise, sde, dj.AnnealedLangevin(0.001, 0.1, 3), grid, jnp.ones((1, 4))).block_until_ready()
        jax.effects_barrier()
        assert len(calls) == count and min(calls) > 0


def test_the_program_does_not_grow_with_the_steps_of_a_level(key):
    sde, x = dj.VP(), jnp.ones((2, 3))

    def size(n):
        step = lambda x: dj.AnnealedLangevin(0.1, 1.0, n).step(key, lambda x, t, c: x, sde, State(x, x), 0.5, 0.4, None)  # noqa: E731
        return len(str(jax.make_jaxpr(step)(x)).splitlines())

    State = type(dj.DDIM().init(x))
    assert size(2) == size(1000)


def test_presets(x64):
    assert dj.AnnealedLangevin.ncsnv2() == dj.AnnealedLangevin()
    for sampler, u, n in ((dj.AnnealedLangevin.ncsn(), 0.2, 100), (dj.AnnealedLangevin.ncsnv2(), 0.062, 5)):
        assert sampler.n_steps == n and not sampler.halved
        np.testing.assert_allclose(sampler.eps / sampler.sigma_L**2, u, rtol=1e-12)
    # NCSNv2's step at its levels leaves the variance that Proposition 3 tells, on data of no extent
    A, B = coefficients(dj.AnnealedLangevin(6.2e-6, 0.01, 1), dj.EDM(), 3.0, 0.0, inner=True)
    gamma, var = 1.0375591, 1.0375591**2
    for _ in range(5):
        var = A**2 * var + (B / 3) ** 2
    np.testing.assert_allclose(var, annealing.variance_ratio(6.2e-6, 5, gamma, 0.01), rtol=1e-12)


def toy(x, t, cond=None):
    """E[x_0 | x] of 0.8 at (5, 5) and 0.2 at (-5, -5): at sigma = 1 x is distributed as the toy's two Gaussians."""
    return 5 * jnp.tanh(5 * x.sum(-1, keepdims=True) / t**2 + jnp.log(2.0)) * jnp.ones_like(x)


def exact_weight(levels, n_steps, step, width):
    """P(x_1 + x_2 > 0) of the chain, by quadrature of its density along (1, 1)/sqrt(2), on which the steps depend.

    The start is uniform on [-8, 8]^2: a triangular density there. `step` is h of x + h s + sqrt(2h) z at sigma = 1.
    """
    p = np.arange(-width, width + 0.01, 0.15)
    m = 5 * np.sqrt(2)
    rho = np.maximum(0, 8 * np.sqrt(2) - np.abs(p))
    rho /= rho.sum()
    for sigma in levels:
        near = np.abs(p) < 12 + 7 * sigma  # no mass to speak of lies beyond
        p, rho, h = p[near], rho[near], step * sigma**2
        mean = p + h * (m * np.tanh(m * p / sigma**2 + np.log(2)) - p) / sigma**2
        kernel = np.exp(-((p[:, None] - mean) ** 2) / (4 * h))
        kernel /= kernel.sum(0)
        for _ in range(n_steps):
            rho = kernel @ rho
    return rho[p > 0].sum() / rho.sum()


@pytest.mark.slow
def test_ncsn_toy_plain_langevin_gets_the_weights_wrong_and_annealing_gets_them_right(key, optimised):
    """Song & Ermon 2019, Fig. 3: step 0.1 at sigma = 1 in the paper's convention (2), 10 levels from 20 to 1.

    The chains' exact weights are 0.5090 and 0.7823; convention (1) with step 0.1 has 0.5090 and 0.7882.
    """
    sde, n = dj.EDM(T=20.0, t_min=1.0), 5000
    mixture = dj.GaussianMixture(jnp.array([0.8, 0.2]), jnp.array([[5.0, 5.0], [-5.0, -5.0]]), jnp.zeros((2, 2, 2)))
    x = jax.random.uniform(jax.random.key(1), (n, 2), minval=-8.0, maxval=8.0)
    clean = jax.jit(lambda x: (toy(x, 2.0), mixture.denoise(sde, x, 2.0)))(x[:9])
    np.testing.assert_allclose(*clean, atol=1e-4)
    weight = lambda sampler, ts: float((dj.sample(key, toy, sde, dj.KeepNoise(sampler), ts, x).sum(-1) > 0).mean())  # noqa: E731

    plain, exact = weight(dj.ULA(0.1, halved=True), jnp.ones(1001)), exact_weight([1.0], 1000, 0.05, 14)
    assert abs(exact - 0.509) < 2e-4
    assert abs(plain - exact) < 4 * np.sqrt(exact * (1 - exact) / n)  # 4 sigma: 0.0283

    grid = times.geometric(sde, 10)
    sampler = dj.AnnealedLangevin(0.1, 1.0, 100, halved=True)
    annealed = weight(sampler, grid.at[-1].set(grid[-2]))
    exact = exact_weight(LEVELS, 100, 0.05, 90)
    assert abs(exact - 0.7823) < 2e-4 and abs(exact - 0.8) < 0.02
    assert abs(annealed - exact) < 4 * np.sqrt(exact * (1 - exact) / n)  # 4 sigma: 0.0233

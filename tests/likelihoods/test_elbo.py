"""The variational bound against closed forms on a Gaussian, with NumPy's float64 as the judge."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy.stats import norm

import diffjax as dj
from diffjax import times
from diffjax.arrays import example_keys, fold, normal
from diffjax.likelihoods.elbo import discretised_gaussian, gaussian_density, level_softmax, prior_kl, step_kl

LEVELS = np.arange(256) / 127.5 - 1
SDES = {"vp": dj.VP(), "ve": dj.VE(), "subvp": dj.SubVP(), "edm": dj.EDM(), "flow": dj.Flow()}


def oracle(s2, sde, x, t, cond=None):
    """E[x_0 | x_t] for data N(0, s2)."""
    alpha, sigma = dj.gaussian.curves(sde, t, x)
    return alpha * s2 * x / (alpha**2 * s2 + sigma**2)


def denoiser(sde, s2):
    return Partial(oracle, s2, sde)


both_curves = jax.jit(lambda sde, t: (sde.alpha(t), sde.sigma(t)))


def curves(sde, t):
    """alpha and sigma in float64."""
    return tuple(np.asarray(c, np.float64) for c in both_curves(sde, t))


def posterior(sde, x_t, x0, t, s):
    """Mean and variance of q(x_s | x_t, x_0) by Bayes' rule, and b^2."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = curves(sde, t), curves(sde, s)
    a = alpha_t / alpha_s
    b2 = sigma_t**2 - a**2 * sigma_s**2
    v = 1 / (1 / sigma_s**2 + a**2 / b2)
    return v * (alpha_s * x0 / sigma_s**2 + a * x_t / b2), v, b2


def posterior_variance(sde, t, s2):
    """Var(x_0 | x_t) for data N(0, s2)."""
    alpha, sigma = curves(sde, t)
    return s2 * sigma**2 / (alpha**2 * s2 + sigma**2)


@pytest.mark.parametrize("large", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("name", SDES)
def test_every_term_is_that_of_numpy(x64, key, name, large, one_of):
    sde, s2 = SDES[name], 0.3
    ts = np.linspace(sde.T, 0.0, 8)
    x0 = LEVELS[np.random.default_rng(0).integers(0, 256, (3, 2, 2))]
    process = one_of(list(SDES).index(name), tuple(SDES.values()), sde.T)
    bound = jax.tree.map(np.asarray, dj.elbo(key, denoiser(process, s2), process, ts, x0, large=large))
    keys, axes = example_keys(key, 3), (1, 2)
    draw = jax.jit(lambda i: normal(fold(keys, i), jnp.asarray(x0)))
    alpha_T, sigma_T = curves(sde, sde.T)
    np.testing.assert_allclose(bound.prior, ((alpha_T * x0) ** 2).sum(axes) / (2 * sigma_T**2), rtol=1e-9)
    for i, (t, s) in enumerate(itertools.pairwise(ts)):
        alpha, sigma = curves(sde, t)
        x_t = alpha * x0 + sigma * np.asarray(draw(i))
        predicted = alpha * s2 * x_t / (alpha**2 * s2 + sigma**2)
        if s > 0:
            q_mean, v, b2 = posterior(sde, x_t, x0, t, s)
            p_mean, var = posterior(sde, x_t, predicted, t, s)[0], b2**large * v ** (1 - large)
            kl = 0.5 * (np.log(var / v) + (v + (q_mean - p_mean) ** 2) / var - 1)
            np.testing.assert_allclose(bound.steps[i], kl.sum(axes), rtol=1e-6)
        else:
            std = np.sqrt(posterior(sde, 0, 0, ts[-3], t)[1])  # the variance of the step before
            right = np.where(x0 > 0.999, 1, norm.cdf((x0 + 1 / 255 - predicted) / std))
            mass = right - np.where(x0 < -0.999, 0, norm.cdf((x0 - 1 / 255 - predicted) / std))
            np.testing.assert_allclose(bound.decoder, -np.log(np.maximum(mass, 1e-12)).sum(axes), rtol=1e-6)
    np.testing.assert_allclose(bound.total, bound.prior + bound.steps.sum(0) + bound.decoder)
    np.testing.assert_allclose(bound.bits_per_dim(4).total, bound.total / np.log(16), rtol=1e-12)


@pytest.mark.parametrize(("s2", "known", "half_digit"), [(1.0, 2.911e-5, 5e-9), (0.25, 7.279e-6, 5e-10)])
def test_prior_kl_of_ddpm_s_table(x64, s2, known, half_digit):
    """The known figures are KLs to N(0, I); ours is to N(0, sigma_T^2 I), less by 6e-10 bits for s2 = 1/4."""
    sde, abar = dj.BetaTable.linear(1000), np.prod(1 - np.linspace(1e-4, 0.02, 1000))
    bits = float(prior_kl(sde, jnp.full((1, 1), np.sqrt(s2)))[0]) / np.log(2)
    np.testing.assert_allclose(bits, 0.5 * s2 * abar / (1 - abar) / np.log(2), rtol=1e-9)
    to_unit = 0.5 * (s2 * abar - abar - np.log1p(-abar)) / np.log(2)
    np.testing.assert_allclose(to_unit, known, rtol=0, atol=half_digit)
    np.testing.assert_allclose(bits, to_unit, atol=7e-10)


@jax.jit
def kl_of_noise(sde, t, s, s2, large, x0, eps):
    x_t = sde.alpha(t) * x0 + sde.sigma(t) * eps
    return step_kl(sde, x0, oracle(s2, sde, x_t, t), t, s, large)


def expected_kl(sde, t, s, s2, large):
    """E L_i over data N(0, s2) and noise, in nats: Gauss-Hermite in x_0 and eps, exact for a quadratic."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    x0, eps = (g.reshape(-1, 1) for g in np.meshgrid(np.sqrt(s2) * nodes, nodes))
    kl = kl_of_noise(sde, t, s, s2, large, x0, eps)
    return float(np.outer(weights, weights).ravel() @ kl / (2 * np.pi))


def best_large(sde, t, s, s2):
    """c at which p(x_s | x_t) has the variance that q(x_s | x_t) has for data N(0, s2)."""
    sigma_t, alpha_s = curves(sde, t)[1], curves(sde, s)[0]
    _, v, b2 = posterior(sde, 0.0, 0.0, t, s)
    best = v + (alpha_s * b2 / sigma_t**2) ** 2 * posterior_variance(sde, t, s2)
    return np.log(best / v) / np.log(b2 / v)


@pytest.mark.parametrize("s2", [0.25, 1.0, 4.0])
def test_expected_terms_of_the_exact_denoiser(x64, s2):
    sde = dj.BetaTable.linear(1000)
    for t in (2.0, 30.0, 400.0, 1000.0):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = curves(sde, t), curves(sde, t - 1)
        gain = (alpha_s / sigma_s) ** 2 - (alpha_t / sigma_t) ** 2
        var = posterior_variance(sde, t, s2)
        # c = 0: the weighted error in x_0
        np.testing.assert_allclose(expected_kl(sde, t, t - 1, s2, 0.0), 0.5 * gain * var, rtol=1e-8)
        delta = 2 * np.log(sigma_t / sigma_s)
        large = 0.5 * (delta + np.exp(-delta) - 1 + np.exp(-delta) * gain * var)
        np.testing.assert_allclose(expected_kl(sde, t, t - 1, s2, 1.0), large, rtol=1e-7)
        c = best_large(sde, t, t - 1, s2)
        best = expected_kl(sde, t, t - 1, s2, c)
        # the best variance makes the expected KL the log of its ratio to v
        np.testing.assert_allclose(best, 0.5 * c * delta, rtol=1e-6)
        others = [0.0, c - 0.05, c + 0.05] + [1.0] * (s2 != 1)
        assert best < min(expected_kl(sde, t, t - 1, s2, other) for other in others)
        assert s2 != 1 or abs(c - 1) < 1e-9  # fixed large is exact for N(0, I)


def test_with_the_exact_reverse_process_the_bound_is_the_likelihood_and_the_prior_s_gap(key):
    """E of the bound over data N(0, s2) is then the entropy and KL(q(x_T) || p(x_T)); 4 sigma of 2000 draws."""
    sde, s2, n, d = dj.VP(), 0.25, 12, 6
    ts = np.asarray(times.uniform(sde, n, 0.0), np.float64)
    table = [best_large(sde, t, s, s2) for t, s in itertools.pairwise(ts[:-1])]
    clipped = posterior(sde, 0, 0, ts[-3], ts[-2])[1]
    variance = posterior_variance(sde, ts[-2], s2)
    table.append(np.log(variance / clipped) / np.log(curves(sde, ts[-2])[1] ** 2 / clipped))
    table = jnp.asarray(table)

    def best(x, t, cond):
        return jnp.full_like(x, table[jnp.round((1 - t) * n).astype(int)])

    x0 = np.sqrt(s2) * jax.random.normal(jax.random.key(1), (2000, d))
    run = lambda large: np.asarray(  # noqa: E731
        dj.elbo(key, denoiser(sde, s2), sde, jnp.asarray(ts), x0, large=large, decoder=gaussian_density).total
    )
    alpha, sigma = curves(sde, 1.0)
    ratio = (alpha**2 * s2 + sigma**2) / sigma**2
    gap = run(best) + norm.logpdf(np.asarray(x0, np.float64), scale=np.sqrt(s2)).sum(1)
    expected = d * 0.5 * (ratio - 1 - np.log(ratio))
    assert abs(gap.mean() - expected) < 4 * gap.std() / np.sqrt(len(gap))
    for other in (0.0, 1.0):
        worse = run(other) - run(best)
        assert worse.mean() > 4 * worse.std() / np.sqrt(len(gap))


@pytest.mark.parametrize("decoder", [discretised_gaussian, level_softmax])
def test_decoders_are_distributions_on_the_256_levels(x64, decoder):
    mean = np.repeat([-1.3, -1.0, -0.4983, 0.001, 0.7, 1.0], 256)[:, None]
    x0 = np.tile(LEVELS, 6)[:, None]
    for log_std in (-7.0, -4.9, -2.0, 1.0):
        mass = np.exp(-jax.jit(decoder)(x0, mean, log_std)).reshape(6, 256)
        np.testing.assert_allclose(mass.sum(1), 1, atol=1e-9)
    weights = np.exp(-0.5 * (LEVELS - 0.7) ** 2 * np.exp(-2.0))  # at the last log_std, 1
    expected = norm.cdf((LEVELS + 1 / 255 - 0.7) / np.e) - norm.cdf((LEVELS - 1 / 255 - 0.7) / np.e)
    expected[0], expected[-1] = norm.cdf((1 / 255 - 1.7) / np.e), norm.sf((0.3 - 1 / 255) / np.e)
    expected = weights / weights.sum() if decoder is level_softmax else expected
    np.testing.assert_allclose(mass[4], expected, rtol=1e-9)


def test_the_discretised_decoder_keeps_its_digits_in_float32_and_has_finite_gradients():
    x0, mean = np.float32([[1.0], [0.6], [-1.0], [-0.6]]), np.float32([[0.9], [0.5], [-0.9], [-0.5]])
    nats = jax.jit(discretised_gaussian)(x0, mean, jnp.log(0.02))
    z = (x0.astype(float) - mean) / 0.02
    both = [norm.sf(5 - 1 / 5.1), norm.sf(5 - 1 / 5.1) - norm.sf(5 + 1 / 5.1)]
    np.testing.assert_allclose(np.abs(z), 5, rtol=1e-4)
    np.testing.assert_allclose(nats, -np.log(both * 2), rtol=1e-4)  # both tails alike
    grad = jax.jit(jax.grad(lambda mean, log_std: discretised_gaussian(x0, mean, log_std).sum(), (0, 1)))
    for far in (0.02, 1e-3):
        grads = grad(mean, jnp.log(far))
        assert all(bool(jnp.isfinite(g).all()) for g in grads)
    assert float(jax.jit(discretised_gaussian)(x0, -mean, jnp.log(1e-3))[0]) == pytest.approx(-np.log(1e-12))


@pytest.mark.slow
def test_float32_bound_of_ddpm_s_chain_is_that_of_float64(key):
    """A thousand steps: within 1e-4 bits per dimension of float64 for the same noise, and 4 sigma of the mean."""
    sde, s2, d = dj.BetaTable.linear(1000), 0.25, 64
    x0 = np.sqrt(s2) * jax.random.normal(jax.random.key(1), (64, d))
    bound = dj.elbo(key, denoiser(sde, s2), sde, times.trailing(sde, 1000), x0, decoder=gaussian_density)
    bits = np.asarray(bound.bits_per_dim(d).steps.sum(0), np.float64)
    keys = example_keys(key, 64)
    eps = jax.jit(jax.vmap(lambda i: normal(fold(keys, i), x0)))(jnp.arange(999))
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[::-1]
    snr, abar = abar / (1 - abar), abar[:-1, None, None]
    x_t = np.sqrt(abar) * np.asarray(x0, np.float64) + np.sqrt(1 - abar) * np.asarray(eps, np.float64)
    error = x0 - np.sqrt(abar) * s2 * x_t / (abar * s2 + 1 - abar)
    exact = (0.5 * np.diff(snr)[:, None] * (error**2).mean(-1)).sum(0) / np.log(2)
    np.testing.assert_allclose(bits, exact, rtol=0, atol=1e-4)
    expected = (0.5 * np.diff(snr) * s2 / (1 + s2 * snr[:-1])).sum() / np.log(2)
    assert abs(bits.mean() - expected) < 4 * bits.std() / np.sqrt(64)


def test_examples_are_alone_and_a_number_for_large_is_one_trace(key):
    sde, x0 = dj.VP(), jnp.asarray(LEVELS[:12], jnp.float32).reshape(3, 4)
    traces = []

    def denoise(x, t, cond=None):
        traces.append(0)
        return 0.5 * x

    denoise, ts, keys = Partial(denoise), times.uniform(sde, 5, 0.0), jax.random.split(key, 3)
    bounds = [dj.elbo(keys, denoise, sde, ts, x0, large=c).total for c in (0.0, 0.5, 1.0)]
    assert len(traces) == 2  # the scan's and the decoder's
    many = jax.vmap(lambda c: dj.elbo(keys, denoise, sde, ts, x0, large=c).total)(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(many, bounds, rtol=1e-5)
    alone = dj.elbo(keys[1:2], denoise, sde, ts, x0[1:2], large=0.5).total
    np.testing.assert_allclose(alone, bounds[1][1:2], rtol=1e-6)


def test_unfit_input_is_refused(key):
    sde, x0 = dj.VP(), jnp.zeros((2, 3))
    denoise, ts = denoiser(sde, 1.0), times.uniform(sde, 4, 0.0)
    for grid in (times.uniform(sde, 4), ts * 0.5, jnp.array([1.0, 0.5, 0.5, 0.0])):
        with pytest.raises(ValueError, match="fall strictly from T"):
            dj.elbo(key, denoise, sde, grid, x0)
    with pytest.raises(ValueError, match="at least 2 steps"):
        dj.elbo(key, denoise, sde, ts[jnp.array([0, -1])], x0)
    with pytest.raises(ValueError, match="float array"):
        dj.elbo(key, denoise, sde, ts, jnp.zeros((2, 3), int))
    with pytest.raises(ValueError, match="keep the shape"):
        dj.elbo(key, lambda x, t, cond: x[:, :1], sde, ts, x0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ve", "edm"])
def test_more_steps_tighten_the_bound_where_a_grid_is_dense_at_its_last_node(name, key):
    """VE's sigma(0) is 0.01, EDM's grids end in 0.002, 0: a decoder of variance v -> 0 made 20 steps better than 320.

    By Eq. 5 a step loses at most log(sigma_t/sigma_s)^2 a dimension, and the decoder of variance sigma^2/2 loses 0.153.
    """
    sde, s2, d, n = SDES[name], 0.25, 8, 256
    x0 = 0.3 + np.sqrt(s2) * jax.random.normal(jax.random.key(1), (n, d))

    def denoise(x, t, cond=None):
        alpha, sigma = dj.gaussian.curves(sde, t, x)
        return 0.3 + alpha * s2 * (x - 0.3 * alpha) / (alpha**2 * s2 + sigma**2)

    def gap(steps, large=0.0):
        ts = times.karras(sde, steps) if name == "edm" else times.uniform(sde, steps, 0.0)
        total = dj.elbo(key, denoise, sde, ts, x0, decoder=gaussian_density, large=large).total
        each = np.asarray(total + norm.logpdf(np.asarray(x0, float), 0.3, np.sqrt(s2)).sum(1)) / d
        lost = np.sum(np.diff(np.log(np.asarray(sde.sigma(ts[:-1]), float))) ** 2)
        return each.mean(), 4 * each.std() / np.sqrt(n), lost

    (coarse, _, _), (fine, error, lost), (tight, _, _) = gap(20), gap(320), gap(320, 1.0)
    assert coarse > fine > -error and fine < lost + 0.153 + error, (coarse, fine, lost, error)
    one, *_ = gap(320, lambda x, t, cond: jnp.ones_like(x))
    assert fine - one > 0.1 and tight > one, (fine, one, tight)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(x0=jnp.full((2, 3), 200.0)), ValueError, "8-bit data scaled"),
        (dict(large=1.5), ValueError, "large must be"),
        (dict(decoder="gaussian"), TypeError, "expected a decoder"),
        (dict(key=None), ValueError, "must be made by jax.random.key"),
        (dict(sde=dj.VP(beta_max=10.0)), ValueError, "was made for"),
    ],
)
def test_what_cannot_be_meant_is_refused(key, options, error, message):
    gm = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 3)), jnp.eye(3)[None])
    x0, sde = options.pop("x0", jnp.zeros((2, 3))), options.pop("sde", dj.VP())
    with pytest.raises(error, match=message):
        dj.elbo(options.pop("key", key), gm.denoiser(dj.VP()), sde, times.uniform(sde, 4, 0.0), x0, **options)
    with pytest.raises(ValueError, match="n_dims must be at least 1"):
        dj.ELBO(1.0, jnp.ones((1, 1)), 1.0).bits_per_dim(0)

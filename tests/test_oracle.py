"""The oracles against NumPy: quadrature, autodiff of the density, sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax.data import toys
from diffjax.sde import gaussian


@pytest.fixture
def mixture(x64):
    covs = jnp.array([[[0.5, 0.2], [0.2, 0.3]], [[0.04, 0.0], [0.0, 0.0]], [[1.0, -0.3], [-0.3, 0.2]]])
    return dj.GaussianMixture(jnp.array([0.2, 0.5, 0.3]), jnp.array([[1.0, 0.0], [-1.0, 1.0], [0.0, -2.0]]), covs)


PROCESSES = (dj.VP(), dj.VE(), dj.Flow())


@jax.jit
def score_and_gradient(mixture, sde, x, t):
    """The score beside the density's gradient, and the denoiser beside what that gradient makes it."""
    gradient = jax.vmap(jax.grad(lambda x, t: mixture.log_prob_at(sde, x[None], t)[0]))(x, t)
    x0 = gaussian.x0_from_score(sde, x, t, gradient)
    return (mixture.score(sde, x, t), gradient), (mixture.denoiser(sde)(x, t), x0)


@pytest.mark.parametrize("kind", range(3), ids=["VP", "VE", "Flow"])
def test_score_is_the_gradient_of_the_density(mixture, kind, one_of):
    x, t = np.random.default_rng(0).normal(size=(7, 2)), np.linspace(0.2, 0.9, 7)
    score, denoised = score_and_gradient(mixture, one_of(kind, PROCESSES), x, t)
    np.testing.assert_allclose(*score, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(*denoised, rtol=1e-6)


def test_density_equals_numpy(x64):
    means, covs, w = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([np.eye(2), [[0.5, 0.1], [0.1, 0.2]]]), [0.3, 0.7]
    x = np.random.default_rng(0).normal(size=(5, 2))
    density = 0
    for wk, m, C in zip(w, means, covs, strict=True):
        q = np.einsum("bi,ij,bj->b", x - m, np.linalg.inv(C), x - m)
        density = density + wk * np.exp(-q / 2) / (2 * np.pi * np.sqrt(np.linalg.det(C)))
    mixture = dj.GaussianMixture(jnp.array(w), jnp.array(means), jnp.array(covs))
    np.testing.assert_allclose(jax.jit(mixture.log_prob)(x), np.log(density), rtol=1e-12)


def test_denoiser_is_the_posterior_mean_by_quadrature(x64):
    sde, t = dj.VP(), 0.4
    mixture = dj.GaussianMixture(jnp.array([0.4, 0.6]), jnp.array([[-1.0], [2.0]]), jnp.array([[[0.3]], [[0.05]]]))
    x0 = np.linspace(-6, 6, 20001)
    p0 = np.exp(np.asarray(jax.jit(mixture.log_prob)(x0[:, None])))
    alpha, sigma, denoise = float(sde.alpha(t)), float(sde.sigma(t)), jax.jit(lambda x: mixture.denoise(sde, x, t))
    for x in (-1.0, 0.1, 0.9):
        w = p0 * np.exp(-((x - alpha * x0) ** 2) / (2 * sigma**2))
        np.testing.assert_allclose(denoise(np.array([[x]]))[0, 0], (w * x0).sum() / w.sum(), rtol=1e-8)


def test_samples_have_the_mixture_s_moments(mixture, key):
    x = np.asarray(jax.jit(mixture.sample, static_argnums=1)(key, 20000))
    mixture = jax.tree.map(np.asarray, mixture)
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
    A, y, s = np.array([[1.0, 0.5]]), np.array([0.4]), 0.3
    posterior = jax.tree.map(np.asarray, jax.jit(mixture.posterior)(A, y, s))
    grid = np.stack(np.meshgrid(*[np.linspace(-4, 4, 401)] * 2, indexing="ij"), -1).reshape(-1, 2)
    w = np.exp(jax.jit(mixture.log_prob)(grid) - ((y - grid @ A.T) ** 2).sum(-1) / (2 * s**2))
    w /= w.sum()
    mean = w @ grid
    cov = (w[:, None] * (grid - mean)).T @ (grid - mean)
    np.testing.assert_allclose(posterior.weights @ posterior.means, mean, atol=1e-6)
    spread = posterior.means - mean
    np.testing.assert_allclose(
        np.einsum("k,kij->ij", posterior.weights, posterior.covs + spread[:, :, None] * spread[:, None]),
        cov,
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", range(3), ids=["VP", "VE", "Flow"])
def test_boxes_equal_quadrature(kind, one_of):
    """In float32, from sharp walls to pure noise, where the data lie and far away from them."""
    lows, sde = np.array([[-1.5, 0.0], [0.5, -1.0]]), one_of(kind, PROCESSES)
    boxes = dj.Boxes(jnp.asarray(lows, jnp.float32), jnp.asarray(lows + 0.75, jnp.float32))
    t = np.repeat([0.01, 0.1, 0.3, 0.6, 0.9, 1.0], 10).astype(np.float32)
    alpha, sigma = np.asarray(sde.alpha(t), np.float64), np.asarray(sde.sigma(t), np.float64)
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(60, 2)) * np.where(np.arange(60) % 4, 1.0, 15.0)[:, None]
    x = (alpha[:, None] * rng.uniform(-1.5, 1.5, (60, 2)) + sigma[:, None] * spread).astype(np.float32)
    z = lows[:, :, None] + 0.75 * (np.arange(10_000) + 0.5) / 10_000  # [K, D, nodes]
    log_p = -0.5 * ((x[:, None, :, None] - alpha[:, None, None, None] * z) / sigma[:, None, None, None]) ** 2
    top = log_p.max(-1, keepdims=True)
    p = np.exp(log_p - top)
    each = np.log(p.mean(-1)) + top[..., 0] - np.log(sigma[:, None, None]) - 0.5 * np.log(2 * np.pi)
    weights = np.exp(each.sum(-1) - each.sum(-1).max(1, keepdims=True))
    mean = np.einsum("bk,bkd->bd", weights / weights.sum(1, keepdims=True), (p * z).sum(-1) / p.sum(-1))
    total = np.log(weights.sum(1) / 2) + each.sum(-1).max(1)
    log_prob, x0 = jax.jit(lambda x, t: (boxes.log_prob_at(sde, x, t), boxes.denoise(sde, x, t)))(x, t)
    np.testing.assert_allclose(x0, mean, atol=5e-5)
    np.testing.assert_allclose(log_prob, total, rtol=1e-5, atol=1e-3)


def test_boxes_contain_their_samples(key):
    boxes = dj.Boxes(*toys.checkerboard_squares())
    drawn, board = jax.jit(boxes.sample, static_argnums=1)(key, 1000), toys.checkerboard(key, 1000)
    log_prob, clean = jax.jit(lambda x: (boxes.log_prob(x), boxes.denoise(dj.VP(), x, 0.0)))(
        jnp.concatenate([drawn, board])
    )
    np.testing.assert_allclose(log_prob, -np.log(8 * 0.75**2), rtol=1e-6)
    assert np.array_equal(clean[:1000], drawn)
    assert boxes.log_prob(drawn * jnp.array([-1.0, 1.0])).max() == -np.inf  # the white squares
    spread = np.std(np.asarray(drawn), axis=0)
    np.testing.assert_allclose(spread, 3 / np.sqrt(12), rtol=4 * 0.02)  # 4 sigma of 1000 draws, at most


def test_empirical_is_the_mixture_with_point_masses(x64):
    data, x = np.random.default_rng(0).normal(size=(9, 2)), np.random.default_rng(1).normal(size=(4, 2))
    points = dj.GaussianMixture(np.full(9, 1 / 9), data, np.zeros((9, 2, 2)))
    both = jax.jit(lambda distribution: (distribution.denoise(dj.VP(), x, t), distribution.score(dj.VP(), x, t)))
    t, empirical = np.linspace(0.1, 0.9, 4), dj.Empirical(jnp.asarray(data))
    for of_data, of_points, rtol in zip(both(empirical), both(points), (1e-9, 1e-8), strict=True):
        np.testing.assert_allclose(of_data, of_points, rtol=rtol)


def test_empirical_on_images_ends_in_the_data(key):
    data = np.random.default_rng(0).uniform(-1, 1, (5, 4, 4, 1)).astype(np.float32)
    sde = dj.VP()
    empirical = dj.Empirical(jnp.asarray(data))
    ts = jax.jit(dj.times.karras, static_argnums=1)(sde, 30)
    x = dj.sample(key, empirical.denoiser(sde), sde, dj.Heun(), ts, dj.prior_sample(key, sde, (6, 4, 4, 1)))
    distance = np.abs(np.asarray(x)[:, None] - data).max(axis=(2, 3, 4)).min(axis=1)
    assert distance.max() < 1e-4
    drawn = np.asarray(jax.jit(empirical.sample, static_argnums=1)(key, 3))
    assert all(any(np.array_equal(d, s) for d in data) for s in drawn)


def test_wrong_shapes(mixture):
    with pytest.raises(ValueError, match=r"\[B, 2\]"):
        mixture.log_prob(jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"\[B, 2\]"):
        dj.Boxes(jnp.zeros((1, 2)), jnp.ones((1, 2))).denoise(dj.VP(), jnp.zeros((3, 3)), 0.5)
    with pytest.raises(ValueError, match=r"\[B, 4\]"):
        dj.Empirical(jnp.zeros((5, 4))).denoise(dj.VP(), jnp.zeros((3, 3)), 0.5)


# -- limits, degenerate data, and what is refused

ENDS = (dj.VP(), dj.EDM(), dj.Flow(), dj.Cosine())
SINGULAR = np.array([[[0.25, 0.5], [0.5, 1.0]], [[0.0, 0.0], [0.0, 0.0]], [[0.3, 0.0], [0.0, 0.02]]])  # rank 1, 0, 2
SKEW = dict(weights=[0.2, 0.5, 0.3], means=[[1.0, 0.0], [-1.0, 1.0], [0.0, -2.0]], covs=SINGULAR)


def skew(dtype=np.float32):
    return dj.GaussianMixture(**{name: np.asarray(value, dtype) for name, value in SKEW.items()})


@pytest.mark.parametrize("name", ["mixture", "empirical", "boxes"])
def test_denoisers_at_both_ends(name, one_of):
    """x/alpha without noise, the mean of the data without signal; finite values and gradients there and beside."""
    x = np.random.default_rng(3).normal(size=(5, 2)).astype(np.float32)
    distribution, mean = {
        "mixture": (skew(), np.dot(SKEW["weights"], SKEW["means"])),
        "empirical": (dj.Empirical(np.float32(SKEW["means"])), np.mean(SKEW["means"], 0)),
        "boxes": (dj.Boxes(np.float32([[-1, 0], [2, 3]]), np.float32([[0, 2], [4, 4]])), [1.25, 2.25]),
    }[name]

    @jax.jit
    def both(sde, x, t):
        f = lambda t: jnp.concatenate([distribution.denoise(sde, x, t), distribution.score(sde, x, t)], 1)  # noqa: E731
        slope = jax.jvp(lambda x: distribution.denoise(sde, x, t), (x,), (jnp.ones_like(x),))[1]
        return jax.jvp(f, (t,), (jnp.ones(()),)), slope

    for kind, process in enumerate(ENDS):
        sde, T = one_of(kind, ENDS, T=process.T), np.float32(process.T)
        for t in (np.float32(0), np.float32(1e-6) * T, np.nextafter(T, np.float32(0)), T):
            (value, by_t), by_x = both(sde, x * process.sigma(T), t)
            assert all(np.isfinite(a).all() for a in (value, by_t, by_x)), (process, t)
        tiny = both(sde, x, np.float32(1e-30))[0][0][:, :2]  # where the score is beyond float32, and sigma^2 is 0 in it
        assert np.isfinite(tiny).all()
        (still, _), _ = both(sde, x, np.float32(0))
        np.testing.assert_allclose(still, np.concatenate([x, 0 * x], 1), rtol=1e-6)
        if float(process.alpha(T)) == 0:
            np.testing.assert_allclose(both(sde, x, T)[0][0][:, :2], np.tile(mean, (5, 1)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_x_keeps_its_dtype(dtype, x64):
    t, x = np.full(3, 0.4), jnp.asarray([[0.2, 0.1], [1.0, -1.0], [0.0, 0.5]], dtype)
    for distribution in (skew(), skew(jnp.bfloat16), dj.Empirical(np.float32(SKEW["means"]))):
        assert jax.eval_shape(distribution.denoiser(dj.VP()), x, t).dtype == dtype
    denoise = jax.jit(lambda x: skew(float).denoise(dj.VP(), x, t))
    rtol = 4e-2 if dtype == "bfloat16" else 1e-4
    np.testing.assert_allclose(np.asarray(denoise(x), float), denoise(x.astype(float)), rtol=rtol, atol=rtol)


def test_the_density_of_a_singular_mixture_at_and_off_its_subspaces(x64):
    """By a mixture of the third component alone where no subspace goes; with noise, by NumPy."""
    distribution, on_line, on_point, off = skew(float), [1.5, 1.0], [-1.0, 1.0], [0.3, -1.8]
    got, noisy = jax.jit(lambda x: (distribution.log_prob(x), distribution.log_prob_at(dj.VP(), x[2:], 0.3)))(
        np.array([on_line, on_point, off])
    )
    C = SINGULAR[2]
    d = np.array(off) - SKEW["means"][2]
    third = np.log(0.3) - 0.5 * d @ np.linalg.solve(C, d) - 0.5 * np.linalg.slogdet(2 * np.pi * C)[1]
    np.testing.assert_array_equal(got[:2], np.inf)
    np.testing.assert_allclose(got[2], third, rtol=1e-12)
    alpha, sigma = (float(c(0.3)) for c in (dj.VP().alpha, dj.VP().sigma))
    density = 0.0
    for w, m, C in zip(SKEW["weights"], SKEW["means"], SINGULAR, strict=True):
        V, d = alpha**2 * C + sigma**2 * np.eye(2), np.array(off) - alpha * np.array(m)
        density += w * np.exp(-0.5 * d @ np.linalg.solve(V, d)) / np.sqrt(np.linalg.det(2 * np.pi * V))
    np.testing.assert_allclose(noisy, np.log(density), rtol=1e-12)


posterior = jax.jit(dj.GaussianMixture.posterior)


@pytest.mark.parametrize("copies", [2, 5])
def test_a_posterior_of_rows_that_repeat(x64, copies):
    """Rows that repeat without noise say what one row says, with noise of s what one row says with s/sqrt(n)."""
    mixture = dj.GaussianMixture(
        np.array([0.4, 0.6]), np.array([[1.0, 0.0], [-1.0, 0.5]]), np.array([0.2 * np.eye(2), [[0.3, 0.1], [0.1, 0.2]]])
    )
    a, y = np.array([[1.0, 0.5]]), np.array([0.4])
    for noise in (0.0, 0.3):
        one = posterior(mixture, a, y, noise / np.sqrt(copies))
        many = posterior(mixture, np.repeat(a, copies, 0), np.repeat(y, copies), noise)
        jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-9, atol=1e-9), many, one)
    np.testing.assert_allclose(many.weights.sum(), 1)


def test_what_is_no_distribution_is_refused():
    w, m, C = np.full(2, 0.5), np.zeros((2, 2)), np.stack([np.eye(2)] * 2)
    mixture, boxes = dj.GaussianMixture, dj.Boxes
    low = np.zeros((1, 2))
    for make, error, message in (
        (lambda: mixture([0.5, 0.5], m, C), TypeError, r"weights must be an array of floats, got list"),
        (lambda: mixture(w, m.astype(int), C), TypeError, "means must be an array of floats, got int"),
        (lambda: mixture(w, m, None), TypeError, "covs must be an array"),
        (lambda: mixture(w, m, np.ones(2)), ValueError, r"variances v \[K\]"),
        (lambda: mixture(w[:1], m, C), ValueError, r"weights \[K\], means \[K, D\]"),
        (lambda: mixture(w, m[:, :1], C), ValueError, r"weights \[K\], means \[K, D\]"),
        (lambda: mixture(2 * w, m, C), ValueError, "must sum to 1"),
        (lambda: mixture(np.array([1.5, -0.5]), m, C), ValueError, "weights must be"),
        (lambda: mixture(w * np.nan, m, C), ValueError, "weights must be"),
        (lambda: mixture(w, m + np.inf, C), ValueError, "means must be"),
        (lambda: mixture(w, m, C * np.nan), ValueError, "covs must be"),
        (lambda: mixture(w, m, -C), ValueError, "negative eigenvalue"),
        (lambda: mixture(w, m, C + np.triu(np.ones((2, 2)), 1)), ValueError, "symmetric"),
        (lambda: mixture(w, m, C).posterior(np.ones((1, 3)), np.ones(1), 0.1), ValueError, r"A \[M, 2\]"),
        (lambda: mixture(w, m, C).posterior(np.ones((1, 2)), np.ones(1), -0.1), ValueError, "noise_std"),
        (lambda: mixture(w, m, C).log_prob(np.ones((2, 2), int)), TypeError, "array of floats"),
        (lambda: mixture(w, m, C).denoise(np.ones((2, 2)), 0.5, None), TypeError, r"is `denoiser\(sde\)`"),
        (lambda: mixture(w[:1] * 2, m[:1], C[:1]).flow_map(dj.VP())(m, 0.5, None), ValueError, "a flow map takes"),
        (lambda: dj.Empirical(np.zeros((0, 2))), ValueError, "one example or more"),
        (lambda: dj.Empirical(np.zeros((3, 2), np.uint8)), TypeError, "array of floats, got uint8"),
        (lambda: dj.Empirical(m).denoise(m, 0.5, None), TypeError, r"is `denoiser\(sde\)`"),
        (lambda: boxes(low, low - 1), ValueError, "wider than 0"),
        (lambda: boxes(low, np.ones((2, 2))), ValueError, r"lows \[K, D\]"),
        (lambda: boxes(np.array([[0.0], [2.0]]), np.array([[1.0], [4.0]])), ValueError, "equal volumes"),
        (lambda: boxes(np.array([[0.0], [0.5]]), np.array([[1.0], [1.5]])), ValueError, "must not overlap"),
        (lambda: boxes(low, low + 1).denoise(low, 0.5, None), TypeError, r"is `denoiser\(sde\)`"),
    ):
        with pytest.raises(error, match=message):
            make()
    stack = mixture(np.stack([w, w]), np.stack([m, m + 1]), np.stack([C, C]))
    x0 = jax.jit(jax.vmap(lambda mixture: mixture.denoise(dj.Flow(), m, 1.0)))(stack)
    np.testing.assert_allclose(x0[1], 1, rtol=1e-6)
    jax.eval_shape(lambda w: mixture(w, m, C).log_prob(m), w)  # traced values pass

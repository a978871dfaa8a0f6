"""Score matching: known minima, gradients equal to the Fisher divergence's, the known noise of the slices, its cost."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times
from diffjax.likelihoods.probes import Exact, Gaussian, Rademacher
from diffjax.losses import DSM, ScoreMatching, weightings

N, D, S2 = 20000, 4, 0.25
LOSSES = {
    "ISM": (Exact(), False),
    "ISM by slices": (Exact(), True),
    "SSM-VR, Rademacher": (Rademacher(), False),
    "SSM-VR, Gaussian": (Gaussian(2), False),
    "SSM, Rademacher": (Rademacher(2), True),
    "SSM, Gaussian": (Gaussian(), True),
}
each_loss = pytest.mark.parametrize(("probes", "sliced"), LOSSES.values(), ids=LOSSES)
run = jax.jit(lambda loss, params, key, batch: loss(params, key, batch))


def within_4_sigma(values, expected):
    error = np.asarray(values).std(0) / np.sqrt(len(values))
    return np.all(np.abs(np.asarray(values).mean(0) - expected) < 4 * error + 1e-6)


@each_loss
def test_minimum_on_a_gaussian(key, probes, sliced):
    """-1/(2 s2) for each dimension, at s = -x/s2."""
    x = jnp.sqrt(S2) * jax.random.normal(jax.random.key(1), (N, D))
    loss = ScoreMatching(lambda a, x, t, cond: -a * x, probes, sliced)

    def with_slope(a):
        return jax.jvp(lambda a: loss(a, key, x)[0], (a,), (1.0,))

    (values, slopes), (_, curvature) = jax.jit(lambda a: jax.jvp(with_slope, (a,), (1.0,)))(1 / S2)
    assert values.shape == (N,) and values.std() > 0
    assert within_4_sigma(values, -D / (2 * S2))
    assert within_4_sigma(slopes, 0.0)  # the derivative in a
    assert within_4_sigma(curvature, D * S2)


def exact_score(params, x, t, cond):
    sde, a = params
    alpha, sigma = dj.gaussian.curves(sde, t, x)
    return -a * x / (alpha**2 * S2 + sigma**2)


unscaled = functools.partial(dj.precondition.from_score, c_noise=dj.precondition.time, scaled=False)


def exact_network(params, x, c_noise, cond=None, *, train, rngs):
    return exact_score(params, x, c_noise, cond)


@pytest.mark.parametrize("kind", range(2), ids=["VE", "VP"])
def test_minima_with_noise_and_the_constant_that_parts_them(key, kind, one_of):
    """q = sigma^2: ISM has -1/(2 v) and DSM 1/q - 1/v for each dimension, v = alpha^2 s2 + q the variance of x_t.

    DSM's is the error of s against -eps/sigma; the two parts of Eq. 4 then agree: -1/(2 v) + 1/(2 q).
    """
    t, sde = 0.4, one_of(kind, (dj.VE(), dj.VP()))
    q, alpha = float(sde.sigma(t)) ** 2, float(sde.alpha(t))
    v = alpha**2 * S2 + q
    x0 = jnp.sqrt(S2) * jax.random.normal(jax.random.key(1), (N, D))
    ism = ScoreMatching(exact_score, Exact(), sde=sde, time_distribution=times.Fixed(t), weight=weightings.score)
    ism, aux = run(ism, (sde, 1.0), key, x0)
    assert within_4_sigma(ism / D, -1 / (2 * v))
    assert aux["t"].shape == (N,) and np.all(aux["t"] == np.float32(t))

    dsm, _ = run(DSM(sde, times.Fixed(t), exact_network, unscaled, weightings.score), (sde, 1.0), key, x0)
    assert within_4_sigma(dsm, 1 / q - 1 / v)
    # the same examples, noise and times: Eq. 4 for each of them, up to a mean of zero
    assert within_4_sigma(ism + D / (2 * q) - D * dsm / 2, 0.0)


def test_weights_are_those_of_dsm(key):
    """`simple` is lambda = sigma^2; each example's loss is its own level's."""
    sde, x0 = dj.EDM(), jax.random.normal(key, (6, D))
    law = times.OneOf(jnp.array([0.5, 1.0, 2.0]))
    make = functools.partial(ScoreMatching, exact_score, Exact(), sde=sde, time_distribution=law)
    losses = make(weight=weightings.score), make(), make(weight=weightings.x0)
    (plain, aux), (simple, _), (x0_error, _) = jax.jit(lambda: [loss((sde, 1.0), key, x0) for loss in losses])()
    assert len(np.unique(aux["t"])) > 1
    np.testing.assert_allclose(simple, aux["t"] ** 2 * plain, rtol=1e-5)
    np.testing.assert_allclose(x0_error, aux["t"] ** 4 * plain, rtol=1e-5)


def field(params, x, t, cond):
    """A score with parameters whose Jacobian is neither diagonal nor symmetric."""
    return x @ params["A"].T + params["b"] + jnp.tanh(x @ params["W"].T) @ params["C"].T


@pytest.fixture(scope="module")
def points():
    """Points of a mixture, and the scores there."""
    mixture = dj.GaussianMixture(
        jnp.array([0.3, 0.7]), jnp.array([[1.0, 0.5], [-1.0, 0.0]]), jnp.array([0.3 * jnp.eye(2), 0.6 * jnp.eye(2)])
    )
    x = mixture.sample(jax.random.key(1), N)
    return x, jax.jit(jax.vmap(jax.grad(lambda x: mixture.log_prob(x[None])[0])))(x)


@each_loss
def test_gradients_are_those_of_the_fisher_divergence(key, probes, sliced, points):
    """Each example's gradients of the two losses, for one data point and its probes: the difference has mean zero."""
    x, target = points
    params = {name: 0.7 * jax.random.normal(jax.random.fold_in(key, ord(name)), (2, 2)) for name in "AWC"}
    params["b"] = jnp.array([0.3, -0.2])
    loss = ScoreMatching(field, probes, sliced)

    def difference(params, key, x, target):
        explicit = 0.5 * ((field(params, x[None], 0.0, None)[0] - target) ** 2).sum()
        return loss(params, key[None], x[None])[0][0] - explicit

    keys = jax.random.split(key, N)
    grads = jax.jit(jax.vmap(jax.grad(difference), (None, 0, 0, 0)))(params, keys, x, target)
    for name, g in grads.items():
        assert within_4_sigma(g, 0.0), name


@pytest.mark.parametrize("sliced", [False, True], ids=["SSM-VR", "SSM"])
@pytest.mark.parametrize("probes", [Rademacher(), Gaussian(), Rademacher(3), Gaussian(3)], ids=str)
def test_slices_are_unbiased_with_the_known_variance(key, probes, sliced):
    """For one x, a quadratic form in the probe: of M = J for SSM-VR, of M = J + s s^T / 2 for SSM."""
    J = np.array([[-1.0, 0.6, 0.1], [0.2, -0.5, 0.4], [-0.3, 0.0, -2.0]])
    x = np.array([0.4, -0.8, 0.3])
    s = J @ x + 0.1
    M = J + np.outer(s, s) / 2 if sliced else J
    off = M - np.diag(np.diag(M))
    variances = {Gaussian: (M**2).sum() + np.trace(M @ M), Rademacher: (off**2 + off * off.T).sum()}
    variance = variances[type(probes)] / probes.n
    loss = ScoreMatching(lambda J, x, t, cond: x @ J.T + 0.1, probes, sliced)
    many = np.tile(x.astype(np.float32), (N, 1))
    values = np.asarray(run(loss, J.astype(np.float32), key, many)[0], np.float64)
    exact = np.trace(J) + s @ s / 2
    assert within_4_sigma(values, exact)
    spread = (values - exact) ** 2
    assert abs(spread.mean() - variance) < 4 * spread.std() / np.sqrt(N)


def test_rademacher_is_exact_for_a_diagonal_jacobian(key):
    x = jax.random.normal(key, (5, 2, 3))
    score = lambda params, x, t, cond: -(x**3)  # noqa: E731
    losses = ScoreMatching(score, Exact()), ScoreMatching(score), ScoreMatching(score, sliced=True)
    exact, hutchinson, sliced = jax.jit(lambda: [loss({}, key, x)[0] for loss in losses])()
    x = np.asarray(x)
    np.testing.assert_allclose(exact, (-3 * x**2 + x**6 / 2).sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(hutchinson, exact, rtol=1e-5)
    assert np.all(np.abs(sliced - exact) > 1e-4)


def two_layers(params, x, t, cond):
    return jnp.tanh(x @ params["in"]) @ params["out"]


def flops(fn, *args):
    return jax.jit(fn).lower(*args).compile().cost_analysis()["flops"]


def cost(probes, sliced, dim):
    """FLOPs of the loss, in evaluations of the network."""
    shape = lambda *n: jax.ShapeDtypeStruct(n, jnp.float32)  # noqa: E731
    params, x = {"in": shape(dim, 64), "out": shape(64, dim)}, shape(8, dim)
    loss = ScoreMatching(two_layers, probes, sliced)
    # without the drawing of random numbers
    keyed = lambda p, x: loss(p, jax.random.key(0), x)[0]  # noqa: E731
    return flops(keyed, params, x) / flops(lambda p, x: two_layers(p, x, 0.0, None), params, x)


def test_the_cost_of_slices_does_not_grow_with_the_dimension():
    for probes, sliced in ((Rademacher(), False), (Rademacher(), True), (Gaussian(), True)):
        small, large = cost(probes, sliced, 32), cost(probes, sliced, 256)
        assert small < 3 and abs(large / small - 1) < 0.1, (probes, sliced, small, large)
    assert cost(Exact(), False, 32) > 25 and cost(Exact(), False, 128) > 100


def test_a_flax_network_and_its_denoiser(key):
    """The noise-conditional loss on an MLP that predicts eps: finite gradients, and the loss falls."""
    sde, net = dj.VP(), dj.nn.MLP(width=16, depth=1)
    x0 = jnp.array([1.0, -1.0]) + 0.1 * jax.random.normal(key, (256, 2))
    params = jax.jit(net.init)(key, x0, jnp.zeros(256))
    network = lambda p: jax.tree_util.Partial(net.apply, p)  # noqa: E731

    def score(p, x, t, cond):
        return dj.precondition.to_score(sde, dj.precondition.from_eps(sde, network(p)))(x, t, cond)

    loss = ScoreMatching(score, Rademacher(), sde=sde, time_distribution=times.LowDiscrepancy(0.05, 1.0))
    mean = jax.value_and_grad(lambda p, key: loss(p, key, {"image": x0, "cond": None})[0].mean())

    @jax.jit
    def step(params, key):
        value, grads = mean(params, key)
        return value, grads, jax.tree.map(lambda p, g: p - 0.02 * g, params, grads)

    start, first, _ = step(params, key)
    for k in jax.random.split(key, 60):
        params = step(params, k)[2]
    end, last, _ = step(params, key)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves((first, last)))
    assert end < start - 0.1


def test_each_example_is_independent_of_its_batch_and_conditions_arrive(key):
    keys, x = jax.random.split(key, 3), jax.random.normal(key, (3, 2))
    score = lambda params, x, t, cond: jnp.sin(cond["c"][:, None] * x + t[:, None] * x[:, ::-1])  # noqa: E731
    loss = ScoreMatching(score, Gaussian(2), True, dj.VP(), times.Uniform())
    batch = lambda i: {"image": x[i], "cond": {"c": jnp.arange(3.0)[i]}}  # noqa: E731
    together = run(loss, {}, keys, batch(slice(None)))[0]
    np.testing.assert_allclose(run(loss, {}, keys[1:2], batch(slice(1, 2)))[0], together[1:2], rtol=1e-5)


def test_one_program_for_all_floats_of_the_noise(key):
    traces = []

    def score(params, x, t, cond):
        traces.append(1)
        return -params * x

    run = jax.jit(lambda loss, params, x: loss(params, key, x)[0])
    for t in (0.1, 0.2, 0.3):
        run(
            ScoreMatching(score, sde=dj.VP(beta_max=20.0 + t), time_distribution=times.Fixed(t)),
            1.0 + t,
            jnp.ones((4, 2)),
        )
    assert len(traces) == 1


def test_bad_arguments(key):
    score, x = (lambda params, x, t, cond: x), jnp.ones((3, 2))
    with pytest.raises(ValueError, match="the number of probes must be at least 1"):
        ScoreMatching(score, Gaussian(0))({}, key, x)
    with pytest.raises(ValueError, match="both `sde` and `time_distribution`"):
        ScoreMatching(score, sde=dj.VP())({}, key, x)
    for bad in (jnp.ones((3, 2), int), jnp.ones(3)):
        with pytest.raises(ValueError, match=r"float array \[B, ...\]"):
            ScoreMatching(score)({}, key, bad)
    with pytest.raises(ValueError, match="must keep the shape"):
        ScoreMatching(lambda params, x, t, cond: x[:, :1])({}, key, x)
    with pytest.raises(ValueError, match="one key or 3 keys"):
        ScoreMatching(score)({}, jax.random.split(key, 2), x)

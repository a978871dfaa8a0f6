"""Adversarial losses where the best discriminator, the scores and the posteriors are known; derived again in NumPy.

Data are N(M, S^2), and the student is mu + tau eps: on `Flow` at t = 1 it gets nothing else, as alpha(1) = 0.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from scipy.stats import norm

import diffjax as dj
from diffjax import losses, precondition, times
from diffjax.arrays import example_keys, fold, normal
from diffjax.losses import distillation as d
from diffjax.losses import draws
from diffjax.train import AdversarialState, TrainState, adversarial_steps, alternating_steps
from diffjax.typing import Context, pytree

FLOW, M, S = dj.Flow(), 0.3, 0.5
X0, EPS = np.random.default_rng(5).normal(size=(2, 3, 2)).astype(np.float32)
BATCH = {"image": jnp.asarray(X0), "noise": jnp.asarray(EPS)}
FOUR = {"image": jnp.zeros((4, 1)), "noise": jnp.array([[1.0], [-1.0], [1.0], [-1.0]])}  # moments of N(0, 1)
KEY = jax.random.key(0)
in_x0 = partial(precondition.from_x0, c_noise=precondition.time)
values = jax.jit(lambda loss, params, batch=BATCH, key=KEY: loss(params, key, batch)[0])
grads = jax.jit(lambda loss, params, batch=BATCH, key=KEY: jax.grad(lambda p: loss(p, key, batch)[0].mean())(params))
slopes = jax.jit(lambda term, opponent, x: jax.grad(lambda x: term(opponent, KEY, x, None).sum())(x))
NOTHING = jnp.zeros(())


@pytree
class Against:
    """A loss with the parameters of its opponent."""

    loss: Any
    opponent: Any

    def __call__(self, params, key, batch):
        return self.loss(params, key, batch, Context(opponent=self.opponent))


def affine(params, x, c_noise, cond=None, *, train=False, rngs=None):
    return params["mu"] + params["tau"] * x


def normal_of(mu, tau):
    return {"mu": jnp.asarray(mu), "tau": jnp.asarray(tau)}


STUDENT = d.Student(FLOW, times.Fixed(1.0), affine, in_x0)


def log_ratio(opponent, h, c, cond):
    """The best non-saturating discriminator, log p/q, for a student that is `opponent`."""
    log_q = -0.5 * ((h - opponent["mu"]) / opponent["tau"]) ** 2 - jnp.log(opponent["tau"])
    return (-0.5 * ((h - M) / S) ** 2 - jnp.log(S) - log_q)[:, 0]


@pytest.mark.slow
def test_a_student_starts_where_its_own_sampler_would():
    """Backward simulation: x_t = (1 - t) f(x) + t n from node to node, and a gradient through the last f alone."""
    mu, tau, n, ts = 0.4, 0.6, 60_000, jnp.array([1.0, 0.6, 0.3])
    student = d.Student(FLOW, times.OneOf(ts), affine, in_x0, simulate=True)
    draw = draws.read(KEY, jnp.full((n, 1), 77.0))  # no data enter
    s = student.time_distribution(draw.k_time, n)
    run = jax.jit(lambda params, at: student(params, draw)[at, 0])
    mean, var, end = 0.0, 1.0, normal_of(mu, tau)
    for t in (1.0, 0.6, 0.3):
        at = np.flatnonzero(s == t)
        x = np.asarray(run(end, at), np.float64)
        deviation = tau * np.sqrt(var)
        assert abs(x.mean() - mu - tau * mean) < 4 * deviation / np.sqrt(len(at))
        assert abs(x.std() - deviation) < 4 * deviation / np.sqrt(2 * len(at))
        later = {1.0: 0.6, 0.6: 0.3, 0.3: 0.0}[t]
        mean, var = (1 - later) * (mu + tau * mean), ((1 - later) * tau) ** 2 * var + later**2
    slope = jax.grad(lambda params: run(params, at).mean())(end)
    np.testing.assert_allclose(slope["mu"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(slope["tau"], (x.mean() - mu) / tau, rtol=1e-3)
    first = np.flatnonzero(s == 1.0)  # begins with noise itself
    np.testing.assert_allclose(run(normal_of(0.0, 1.0), first), draw.eps[first, 0], rtol=1e-6)
    for bad, message in ((times.Fixed(0.3), "times `OneOf"), (times.OneOf(jnp.array([1.0, 0.0])), "a grid falls")):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(dataclasses.replace(student, time_distribution=bad).__call__, end, draw)


@pytest.mark.parametrize(("p", "q"), [(0.3, 0.3), (0.7, 0.2), (0.1, 0.5)])
def test_the_best_discriminator_and_its_value(p, q):
    """p real(D) + q fake(D) over all D: hinge sign(p - q), 2 min(p, q); softplus log p/q and Jensen-Shannon's value."""
    D = np.linspace(-3, 3, 60_001)
    hinge = p * np.asarray(d.hinge.real(D)) + q * np.asarray(d.hinge.fake(D))
    np.testing.assert_allclose(hinge.min(), 2 * min(p, q), rtol=1e-5)
    if p != q:
        np.testing.assert_allclose(D[hinge.argmin()], np.sign(p - q), atol=2e-4)
    soft = p * np.asarray(d.non_saturating.real(D), np.float64) + q * np.asarray(d.non_saturating.fake(D), np.float64)
    np.testing.assert_allclose(soft.min(), -p * np.log(p / (p + q)) - q * np.log(q / (p + q)), rtol=1e-5)
    assert abs(D[soft.argmin()] - np.log(p / q)) < 0.01


@pytest.mark.parametrize(("mu", "tau"), [(M, S), (0.8, 0.5), (0.3, 0.9), (-0.4, 0.2)])
def test_against_the_best_discriminator_the_student_descends_kl(mu, tau):
    """KL(q | p) = log S/tau + (tau^2 + (mu - M)^2)/(2 S^2) - 1/2: its slopes, which vanish at the truth."""
    loss = Against(
        d.GeneratorLoss(STUDENT, (d.AdversarialTerm(d.Discriminator(log_ratio)),), (1.0,)), normal_of(mu, tau)
    )
    grad = grads(loss, normal_of(mu, tau), FOUR)
    np.testing.assert_allclose(grad["mu"], (mu - M) / S**2, atol=2e-6, rtol=1e-5)
    np.testing.assert_allclose(grad["tau"], tau / S**2 - 1 / tau, atol=2e-6, rtol=1e-5)
    # softplus weighs each point's slope by 1 - sigmoid(D): no longer KL's, but it has its signs and vanishes with it
    eps = norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    x = mu + tau * eps
    D = norm.logpdf(x, M, S) - norm.logpdf(x, mu, tau)
    slope = ((x - M) / S**2 - (x - mu) / tau**2) / (1 + np.exp(D))
    soft = Against(
        d.GeneratorLoss(STUDENT, (d.AdversarialTerm(d.Discriminator(log_ratio, loss=d.non_saturating)),), (1.0,)),
        normal_of(mu, tau),
    )
    grad = grads(soft, normal_of(mu, tau), {"image": jnp.zeros((2000, 1)), "noise": jnp.asarray(eps, jnp.float32)})
    for name, expected, off in (("mu", slope.mean(), mu - M), ("tau", (slope * eps).mean(), tau - S)):
        np.testing.assert_allclose(grad[name], expected, atol=1e-5, rtol=1e-4)
        assert off == 0 or np.sign(expected) == np.sign(off)
    if (mu, tau) == (M, S):
        assert max(abs(g) for g in grad.values()) < 1e-5


def linear(params, h, c, cond):
    return h @ params["w"] + params["b"]


def test_a_linear_discriminator_in_numpy():
    """Hinge and softplus on data and samples, and R1 = |w|^2."""
    params, w, b = {"w": jnp.array([0.7, -1.2]), "b": jnp.asarray(0.2)}, np.array([0.7, -1.2]), 0.2
    real, fake = X0 @ w + b, (0.4 + 0.9 * EPS) @ w + b
    loss = Against(d.DiscriminatorLoss(STUDENT, d.Discriminator(linear), 1e-2), normal_of(0.4, 0.9))
    expected = np.maximum(0, 1 - real) + np.maximum(0, 1 + fake)
    np.testing.assert_allclose(values(loss, params), expected + 1e-2 * (w @ w), rtol=1e-5)
    soft = Against(d.DiscriminatorLoss(STUDENT, d.Discriminator(linear, loss=d.non_saturating)), normal_of(0.4, 0.9))
    np.testing.assert_allclose(values(soft, params), np.log1p(np.exp(-real)) + np.log1p(np.exp(fake)), rtol=1e-5)
    _, aux = jax.jit(loss)(params, KEY, BATCH)
    np.testing.assert_allclose(np.stack([aux["real"], aux["fake"]]), np.stack([real, fake]), rtol=1e-5)
    np.testing.assert_allclose(aux["r1"], w @ w, rtol=1e-5)
    np.testing.assert_allclose(grads(Against(dataclasses.replace(loss.loss, r1=5.0), loss.opponent), params)["w"]
                               - grads(loss, params)["w"], (5 - 1e-2) * 2 * w, rtol=1e-4)  # fmt: skip


def test_heads_on_features_in_numpy():
    """The hinge is each head's and position's own; R1 is taken in the features, of each head's mean."""

    def features(x):
        return {"map": jnp.stack([x, x**2, 3 * x], 1), "vector": jnp.tanh(x)}  # [B, 3, 2], [B, 2]

    def heads(params, h, c, cond):
        return {"map": h["map"] @ params[0], "vector": h["vector"] @ params[1]}  # [B, 3], [B]

    w = np.array([[0.7, -1.2], [0.3, 0.4]])
    loss = Against(d.DiscriminatorLoss(STUDENT, d.Discriminator(heads, d.Features(features)), 0.5), normal_of(0.4, 0.9))

    def side(x, sign):
        maps = np.stack([x, x**2, 3 * x], 1) @ w[0]
        return np.maximum(0, 1 + sign * maps).mean(1) + np.maximum(0, 1 + sign * np.tanh(x) @ w[1])

    penalty = 3 * ((w[0] / 3) ** 2).sum() + (w[1] ** 2).sum()
    expected = side(X0, -1) + side(0.4 + 0.9 * EPS, 1) + 0.5 * penalty
    np.testing.assert_allclose(values(loss, jnp.asarray(w)), expected, rtol=1e-5)
    # ADD's student: -D, summed over heads, beside a term of weight 2.5
    fool = d.AdversarialTerm(d.Discriminator(heads, d.Features(features)))
    add = Against(
        d.GeneratorLoss(STUDENT, (fool, Partial(lambda opponent, key, x, cond, context: x[:, 0])), (1.0, 2.5)),
        jnp.asarray(w),
    )
    x = 0.4 + 0.9 * EPS
    maps = (np.stack([x, x**2, 3 * x], 1) @ w[0]).mean(1) + np.tanh(x) @ w[1]
    np.testing.assert_allclose(values(add, normal_of(0.4, 0.9)), -maps + 2.5 * x[:, 0], rtol=1e-5)


def drawn(part=0):
    """The noise that the term of that number draws for its second perturbation."""
    return np.asarray(normal(fold(fold(KEY, 3 + part), 1), jnp.asarray(X0)), np.float64)


def test_score_distillation_in_numpy(case):
    """The exact teacher of N(0, s^2) is k x_t with k = alpha s^2/(alpha^2 s^2 + sigma^2); no slope through x_t."""
    sde, t, s2 = dj.VP(), 0.4, 0.25
    a, b = float(sde.alpha(t)), float(sde.sigma(t))
    k = a * s2 / (a**2 * s2 + b**2)
    teacher = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), s2 * jnp.eye(2)[None]).denoiser(sde)
    term = d.ScoreDistillation(sde, times.Fixed(t), teacher)
    loss = Against(d.GeneratorLoss(STUDENT, (term,), (2.5,)), NOTHING)
    x = 0.4 + 0.9 * EPS
    error = x - k * (a * x + b * drawn())
    np.testing.assert_allclose(values(loss, normal_of(0.4, 0.9)), 2.5 * a * (error**2).mean(1), rtol=1e-4)
    np.testing.assert_allclose(grads(loss, normal_of(0.4, 0.9))["mu"], 2.5 * a * 2 * error.mean(), rtol=1e-4)
    # its mean over the noise at one x: c ((1 - k alpha)^2 x^2 + k^2 sigma^2)
    many = np.asarray(jax.jit(term)(NOTHING, KEY, jnp.full((20_000, 2), 0.7), None))
    expected = a * ((1 - k * a) ** 2 * 0.7**2 + k**2 * b**2)
    assert abs(many.mean() - expected) < 4 * many.std() / np.sqrt(len(many))


def gaussian_fake(opponent, x, t, cond=None):
    """The exact denoiser of N(mu, tau^2) data on `Flow`."""
    a, b = (1 - t)[:, None], t[:, None]
    return opponent["mu"] + a * opponent["tau"] ** 2 / (a**2 * opponent["tau"] ** 2 + b**2) * (x - a * opponent["mu"])


def matching(t, weight):
    teacher = dj.GaussianMixture(jnp.ones(1), jnp.full((1, 2), M), S**2 * jnp.eye(2)[None]).denoiser(FLOW)
    return d.DistributionMatching(FLOW, times.Fixed(t), teacher, gaussian_fake, in_x0, weight)


@pytest.mark.parametrize(("mu", "tau"), [(M, S), (0.8, 0.9), (-0.4, 0.2)])
def test_distribution_matching_is_the_difference_of_scores(mu, tau):
    """The slope in x is w sigma^2/alpha (score_fake - score_real)/D at x_t, with scores of N(alpha m, alpha^2 s^2 + sigma^2)."""  # noqa: E501
    t, x = 0.6, mu + tau * EPS
    a, b = 1 - t, t
    x_t = a * x + b * np.asarray(normal(fold(KEY, 1), jnp.asarray(X0)))
    score = lambda m, s: -(x_t - a * m) / (a**2 * s**2 + b**2)  # noqa: E731
    change = b**2 / a * (score(mu, tau) - score(M, S))
    real = (x_t + b**2 * score(M, S)) / a
    for weight, w in ((d.kl, (a / b) ** 2), (d.nearness, 1 / np.abs(x - real).mean(1, keepdims=True))):
        slope = slopes(matching(t, weight), normal_of(mu, tau), jnp.asarray(x))
        np.testing.assert_allclose(slope, w * change / 2, rtol=2e-4, atol=2e-6)
    if (mu, tau) == (M, S):
        assert np.abs(slope).max() < 1e-5


def test_distribution_matching_descends_kl_of_the_noised_densities():
    """In the mean, for w = alpha^2/sigma^2: slopes of KL(N(a mu, V') | N(a M, V)), to four standard deviations."""
    t, mu, tau, n = 0.5, 0.8, 0.9, 20_000
    a, V, W = 0.5, 0.25 * S**2 + 0.25, 0.25 * tau**2 + 0.25
    loss = Against(d.GeneratorLoss(STUDENT, (matching(t, d.kl),), (1.0,)), normal_of(mu, tau))
    eps = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    batch = {"image": jnp.zeros((n, 2)), "noise": jnp.asarray(eps)}
    keys = example_keys(KEY, n)
    one = lambda p, k, e: loss(p, k[None], {"image": 0 * e[None], "noise": e[None]})[0][0]  # noqa: E731
    each = jax.jit(jax.vmap(jax.grad(one), (None, 0, 0)))(normal_of(mu, tau), keys, batch["noise"])
    for name, expected in (("mu", a**2 * (mu - M) / V), ("tau", a**2 * tau * (1 / V - 1 / W))):
        g = np.asarray(each[name], np.float64)
        assert abs(g.mean() - expected) < 4 * g.std() / np.sqrt(n), name


def test_the_fake_score_is_trained_on_samples():
    dsm = losses.DSM(FLOW, times.Fixed(0.5), affine, in_x0, losses.weightings.x0)
    loss = Against(d.OnSamples(STUDENT, dsm), normal_of(0.4, 0.9))
    x = 0.4 + 0.9 * jnp.asarray(EPS)
    np.testing.assert_allclose(
        values(loss, normal_of(0.1, 0.2)), values(dsm, normal_of(0.1, 0.2), x, fold(KEY, 3)), rtol=1e-5
    )


@pytest.mark.slow
def test_dmd2_finds_the_data_from_afar():
    """Five steps of the fake score to one of the student; the fake score is affine, as the exact one is."""
    teacher = dj.GaussianMixture(jnp.ones(1), jnp.full((1, 1), M), jnp.full((1, 1, 1), S**2)).denoiser(FLOW)
    noise = times.Fixed(0.5)
    term = d.DistributionMatching(FLOW, noise, teacher, affine, in_x0, d.kl)
    step_d = partial(
        adversarial_steps,
        d.OnSamples(STUDENT, losses.DSM(FLOW, noise, affine, in_x0, losses.weightings.x0)),
        optax.adam(0.05),
        (),
    )
    step_g = partial(adversarial_steps, d.GeneratorLoss(STUDENT, (term,), (1.0,)), optax.adam(0.01), (0.9,))
    start = AdversarialState(
        TrainState.create(jax.random.key(1), normal_of(0.0, 0.5), optax.adam(0.05)),
        TrainState.create(jax.random.key(2), normal_of(-1.0, 1.0), optax.adam(0.01), (0.9,)),
    )
    end, _ = jax.jit(partial(alternating_steps, step_d, step_g, n_d=5))(start, jnp.zeros((6 * 400, 128, 1)))
    np.testing.assert_allclose(end.generator.ema[0]["mu"], M, atol=0.06)
    np.testing.assert_allclose(abs(end.generator.ema[0]["tau"]), S, atol=0.06)


def constant(params, x, c_noise, cond=None, *, train=False, rngs=None):
    return params + 0 * x


@pytest.mark.parametrize("sde", [dj.VP(), dj.EDM(T=3.0)])
def test_the_pairs_posterior_is_that_of_bayes_and_of_ancestral(sde):
    t, s, x0 = 0.8, 0.3, 0.7
    student = d.PairStudent(sde, jnp.array([t, s]), constant, in_x0)
    draw = draws.read(KEY, BATCH)
    (x_s, (x_t, c)), (own, same) = jax.jit(lambda s: (s(jnp.asarray(x0), draw), s.real(draw)))(student)
    np.testing.assert_array_equal(x_t, same[0])  # real and generated pair share x_t
    np.testing.assert_allclose(c, 999 * t / sde.T, rtol=1e-6)
    alpha_s, sigma_s, alpha_t, sigma_t = (float(f) for f in (sde.alpha(s), sde.sigma(s), sde.alpha(t), sde.sigma(t)))
    np.testing.assert_allclose(own, alpha_s * X0 + sigma_s * EPS, rtol=1e-5)
    a = alpha_t / alpha_s
    b2 = sigma_t**2 - a**2 * sigma_s**2
    precision = 1 / sigma_s**2 + a**2 / b2
    mean = (alpha_s * x0 / sigma_s**2 + a * np.asarray(x_t) / b2) / precision
    noise = np.asarray(normal(fold(draw.k_time, 2), x_t))
    np.testing.assert_allclose(x_s, mean + noise / np.sqrt(precision), rtol=1e-4, atol=1e-5)
    state = dj.Ancestral().init(x_t)
    denoise = lambda x, t, cond: jnp.full_like(x, x0)  # noqa: E731
    step = dj.Ancestral().step(fold(draw.k_time, 2), denoise, sde, state, jnp.asarray(t), jnp.asarray(s), None)
    np.testing.assert_allclose(x_s, step.x, rtol=1e-5, atol=1e-6)


def test_a_student_that_returns_the_data_makes_true_pairs():
    """For one data point x_0 and G = x_0 the moments of (x_s, x_t) agree with the real pair's; into s = 0, x_s = G."""
    n, x0 = 20_000, 0.7
    batch = jnp.full((n, 1), x0)
    draw = draws.read(KEY, batch)
    student = d.PairStudent(dj.VP(), jnp.array([0.7, 0.3]), constant, in_x0)
    run = jax.jit(lambda student, x0, draw: (student(x0, draw), student.real(draw)[0]))
    (fake, (x_t, _)), real = jax.tree.map(np.asarray, run(student, jnp.asarray(x0), draw))
    for moment in (lambda x: x, lambda x: x**2, lambda x: x * x_t):
        off = np.asarray(moment(fake) - moment(real), np.float64)
        assert abs(off.mean()) < 4 * off.std() / np.sqrt(n)
    into_zero = dataclasses.replace(student, sde=FLOW, ts=jnp.array([0.5, 0.0]))
    (fake, _), real = run(into_zero, jnp.asarray(0.2), draw)
    np.testing.assert_allclose((fake[0], real[0]), ([0.2], [x0]), rtol=1e-6)


def test_r1_of_pairs_is_taken_in_the_less_noisy_point():
    def pair(params, x_s, beside, cond):
        x_t, c = beside
        return x_s @ params["s"] + x_t @ params["t"] + 0 * c

    student = d.PairStudent(FLOW, jnp.array([1.0, 0.5, 0.0]), constant, in_x0)
    critic = d.Discriminator(pair, d.stepwise, d.non_saturating)
    params = {"s": jnp.array([0.3, 0.4]), "t": jnp.array([5.0, 6.0])}
    loss = Against(d.DiscriminatorLoss(student, critic, 0.01), jnp.asarray(0.2))
    value, aux = jax.device_get(jax.jit(loss)(params, KEY, BATCH))
    np.testing.assert_allclose(aux["r1"], 0.25, rtol=1e-5)
    expected = np.log1p(np.exp(-aux["real"])) + np.log1p(np.exp(aux["fake"])) + 0.0025
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    grad = grads(Against(d.GeneratorLoss(student, (d.AdversarialTerm(critic),), (1.0,)), params), jnp.asarray(0.2))
    assert np.isfinite(grad) and grad < 0  # a larger x_0 makes a larger x_s, which D takes for real


def test_the_latent_is_each_examples_own():
    def net(params, x, c_noise, cond=None, *, train=False, rngs=None):
        return params * x + cond["latent"].sum(1, keepdims=True)

    student = d.PairStudent(FLOW, jnp.array([0.9, 0.0]), net, in_x0, latent=4)
    draw = draws.read(KEY, BATCH)
    x0, _ = student(jnp.asarray(0.0), draw)  # into 0: G itself
    assert len(np.unique(np.asarray(x0)[:, 0])) == 3
    with pytest.raises(ValueError, match="must be None or a dict; got tuple"):
        student(jnp.asarray(0.0), draw._replace(cond=(1,)))


@pytest.mark.slow
def test_an_example_has_its_own_loss():
    """Another first example, with another key, leaves the losses of the second and third."""
    noised = d.Discriminator(
        lambda p, h, c, cond: p * h[:, 0] + c, d.Noised(FLOW, times.Uniform(0.1)), d.non_saturating
    )
    several = d.Student(FLOW, times.OneOf(jnp.array([1.0, 0.6, 0.3])), affine, in_x0)
    pairs = d.PairStudent(FLOW, jnp.array([1.0, 0.5, 0.0]), affine, in_x0)
    judged = d.Discriminator(lambda p, h, c, cond: p * (h * c[0]).sum(1), d.stepwise, d.non_saturating)
    varied = dataclasses.replace(matching(0.5, d.nearness), time_distribution=times.Uniform(0.1))
    add = d.ScoreDistillation(FLOW, times.Uniform(0.1), varied.teacher)
    one = jnp.asarray(0.7)
    run = jax.jit(lambda loss, params, keys, x: loss(params, keys, x)[0])
    keys, x = example_keys(jax.random.key(3), 3), jnp.asarray(X0)
    others, y = keys.at[0].set(jax.random.key(9)), x.at[0].set(5.0)
    for loss, params in (
        (Against(d.DiscriminatorLoss(several, noised, 0.1), normal_of(0.4, 0.9)), one),
        (Against(d.DiscriminatorLoss(pairs, judged, 0.1), normal_of(0.4, 0.9)), one),
        (Against(d.GeneratorLoss(pairs, (d.AdversarialTerm(judged),), (1.0,)), one), normal_of(0.4, 0.9)),
        (Against(d.GeneratorLoss(several, (d.AdversarialTerm(noised), add), (1.0, 2.5)), one), normal_of(0.4, 0.9)),
        (Against(d.GeneratorLoss(several, (varied,), (1.0,)), normal_of(0.1, 0.8)), normal_of(0.4, 0.9)),
    ):
        whole = run(loss, params, keys, x)
        assert np.isfinite(whole).all()
        changed = run(loss, params, others, y)
        assert changed[0] != whole[0]
        np.testing.assert_array_equal(changed[1:], whole[1:])


@pytest.mark.slow
def test_errors():
    disc, term = d.Discriminator(linear), matching(0.5, d.kl)
    pairs = d.PairStudent(FLOW, jnp.array([1.0, 0.0]), affine, in_x0)
    noised, stepwise = d.Discriminator(linear, d.Noised(FLOW, times.Uniform())), d.Discriminator(linear, d.stepwise)
    lumped = d.Discriminator(lambda p, h, c, cond: h.sum())
    one, ours = (1.0,), normal_of(0.4, 0.9)
    for make, message in (
        (lambda: d.DiscriminatorLoss(STUDENT, disc), "DiscriminatorLoss needs the parameters of the other network"),
        (lambda: d.GeneratorLoss(STUDENT, (term,), one), "GeneratorLoss needs the parameters"),
        (lambda: d.OnSamples(STUDENT, disc), "OnSamples needs the parameters"),
        (lambda: d.GeneratorLoss(STUDENT, (term,), ()), "one weight for each term, got 0 for 1"),
        (lambda: dataclasses.replace(term, sde=dj.VP()), "made for Flow"),
        (lambda: dataclasses.replace(pairs, ts=jnp.array([1.0])), "a grid falls from noise to data, in one step"),
        (lambda: dataclasses.replace(pairs, ts=jnp.array([0.0, 1.0])), "a grid falls from noise to data, in one step"),
        (lambda: Against(d.GeneratorLoss(pairs, (term,), one), NOTHING), "takes the samples of a `Student`, not pairs"),
        (lambda: Against(d.DiscriminatorLoss(pairs, disc), ours), "clean takes the samples of a `Student`, not pairs"),
        (lambda: Against(d.DiscriminatorLoss(pairs, noised), ours), "Noised takes the samples of a `Student`"),
        (lambda: Against(d.DiscriminatorLoss(STUDENT, stepwise), ours), "stepwise takes the pairs of a `PairStudent`"),
        (
            lambda: Against(d.DiscriminatorLoss(STUDENT, lumped), ours),
            r"logits \[B, ...\] for B = 3 examples, got \(\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()(ours, KEY, BATCH)

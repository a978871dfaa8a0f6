"""Guided denoisers against exact conditional denoisers and their own identities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import guidance, operators

SDE = dj.VP()


def toy(gain, x, t, cond=None):
    """A conditional denoiser with a parameter; None and label 3 are the null condition."""
    label = 3 if cond is None else cond["label"]
    shift = jnp.where(jnp.broadcast_to(jnp.asarray(label), x.shape[:1]) == 3, 0.0, 0.5 * jnp.asarray(label))
    return jnp.tanh(gain * x) + (shift / (1 + jnp.asarray(t))).reshape(-1, *[1] * (x.ndim - 1))


DENOISE, COND = Partial(toy, 0.7), {"label": jnp.array([0, 1, 2, 1])}


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(7), (4, 3))


def test_classifier_free_guidance_is_linear_in_its_scale(x):
    null, cond = DENOISE(x, 0.3), DENOISE(x, 0.3, COND)
    for scale in (0.0, 1.0, 2.5):
        expected = null + scale * (cond - null)
        np.testing.assert_allclose(guidance.cfg(DENOISE, scale)(x, 0.3, COND), expected, atol=1e-6)
        batched = guidance.cfg(DENOISE, scale, {"label": 3}, batched=True)
        np.testing.assert_allclose(batched(x, 0.3, COND), expected, atol=1e-6)
        np.testing.assert_allclose(batched(x, jnp.full(4, 0.3), COND), expected, atol=1e-6)
    each = guidance.cfg(DENOISE, jnp.array([0.0, 1.0, 2.0, 3.0]))(x, 0.3, COND)
    np.testing.assert_allclose(each[3], (null + 3 * (cond - null))[3], atol=1e-6)
    in_time = guidance.cfg(DENOISE, lambda t: 10 * t)(x, 0.3, COND)
    np.testing.assert_allclose(in_time, null + 3 * (cond - null), atol=1e-5)
    # the paper's w on eps: (1 + w) eps_c - w eps_u
    eps = [dj.gaussian.eps_from_x0(SDE, x, 0.3, x0) for x0 in (null, cond)]
    ours = dj.gaussian.eps_from_x0(SDE, x, 0.3, guidance.cfg(DENOISE, 2.5)(x, 0.3, COND))
    np.testing.assert_allclose(ours, 2.5 * eps[1] - 1.5 * eps[0], atol=1e-5)


def test_a_null_condition_of_one_example_is_that_of_each(x):
    """As `losses.DropCondition` takes it: {"label": 2} is [B] for the network, like the condition."""

    def denoise(x, t, cond):
        assert cond["label"].shape == (len(x),) and cond["text"].shape == (len(x), 2)
        return x + cond["label"].reshape(-1, *[1] * (x.ndim - 1)) + cond["text"].sum()

    null, cond = {"label": 2, "text": jnp.zeros(2)}, {"label": jnp.arange(len(x)), "text": jnp.ones((len(x), 2))}
    each = {"label": jnp.full(len(x), 2), "text": jnp.zeros((len(x), 2))}
    guided = [guidance.cfg(denoise, 3.0, n)(x, 0.5, cond) for n in (null, each)]
    np.testing.assert_array_equal(*guided)


def test_a_scale_in_the_condition_is_each_examples_own(x):
    scale = jnp.array([0.0, 1.0, 2.5, 7.0])
    of_scale = guidance.cfg_of_scale(DENOISE)(x, 0.4, {**COND, "scale": scale})
    np.testing.assert_array_equal(of_scale, guidance.cfg(DENOISE, scale)(x, 0.4, COND))
    with pytest.raises(ValueError, match="must be an entry of the condition"):
        guidance.cfg_of_scale(DENOISE)(x, 0.4, COND)


def test_rescaling_restores_the_standard_deviation(x):
    plain, full = (guidance.cfg(DENOISE, 6.0, rescale=phi)(x, 0.3, COND) for phi in (None, 1.0))
    np.testing.assert_allclose(full.std(1), DENOISE(x, 0.3, COND).std(1), rtol=1e-4)
    half = guidance.cfg(DENOISE, 6.0, rescale=0.5)(x, 0.3, COND)
    np.testing.assert_allclose(half, (plain + full) / 2, rtol=1e-5, atol=1e-6)


def test_composed_negative_and_auto_guidance(x):
    a, b = {"label": jnp.full(4, 1)}, {"label": jnp.full(4, 2)}
    base, d_a, d_b = DENOISE(x, 0.3), DENOISE(x, 0.3, a), DENOISE(x, 0.3, b)
    both = guidance.compose(DENOISE, [a, b], [2.0, -1.0])(x, 0.3)
    np.testing.assert_allclose(both, base + 2 * (d_a - base) - (d_b - base), atol=1e-6)
    negative = guidance.cfg(DENOISE, 3.0, null=b)(x, 0.3, a)
    np.testing.assert_allclose(negative, d_b + 3 * (d_a - d_b), atol=1e-6)
    weak = Partial(toy, 0.2)
    auto = guidance.autoguidance(DENOISE, weak, 2.0)(x, 0.3, a)
    np.testing.assert_allclose(auto, 2 * d_a - weak(x, 0.3, a), atol=1e-6)
    with pytest.raises(ValueError, match="one scale for each condition, got 1 and 2"):
        guidance.compose(DENOISE, [a], [1.0, 2.0])


def test_guidance_by_a_condition_and_by_a_part_of_it(x):
    """Eq. 5; with equal scales the part does not count, and the estimates are those of `compose`."""
    part, null = {"label": jnp.array([2, 2, 1, 0])}, {"label": jnp.full(4, 3)}
    estimates = whole, some, nothing = [DENOISE(x, 0.3, c) for c in (COND, part, null)]
    expected = nothing + 1.5 * (some - nothing) + 5.0 * (whole - some)
    dual = guidance.dual_cfg(DENOISE, 5.0, 1.5, part, null)
    np.testing.assert_allclose(dual(x, 0.3, COND), expected, atol=1e-6)
    np.testing.assert_allclose(dual(x, jnp.full(4, 0.3), COND), expected, atol=1e-6)
    composed = guidance.compose(DENOISE, [COND, part], [5.0, 1.5 - 5.0], null)(x, 0.3)
    np.testing.assert_allclose(composed, expected, atol=1e-5)
    equal = guidance.dual_cfg(DENOISE, 2.0, 2.0, part, null)(x, 0.3, COND)
    np.testing.assert_allclose(equal, guidance.cfg(DENOISE, 2.0, null)(x, 0.3, COND), atol=1e-5)
    rescaled = guidance.dual_cfg(DENOISE, 5.0, 1.5, part, null, rescale=1.0)(x, 0.3, COND)
    np.testing.assert_allclose(rescaled.std(1), estimates[0].std(1), rtol=1e-4)
    with pytest.raises(ValueError, match="a null condition like the condition"):
        guidance.dual_cfg(DENOISE, 5.0, 1.5, {"text": part["label"]}, null)(x, 0.3, COND)
    with pytest.raises(TypeError, match="the scale of the part must be a number"):
        guidance.dual_cfg(DENOISE, 5.0, None, part, null)


def test_an_interval_evaluates_one_denoiser(x):
    calls = []

    def counted(name, x, t, cond=None):
        jax.debug.callback(lambda: calls.append(name))
        return x * (1 if name == "plain" else 2)

    d = guidance.interval(Partial(counted, "guided"), lambda x, t, c=None: counted("plain", x, t, c), 0.2, 0.6)
    d = guidance.interval(
        lambda x, t, c=None: counted("guided", x, t), lambda x, t, c=None: counted("plain", x, t), 0.2, 0.6
    )
    for t in (0.1, 0.2, 0.6, 0.7):
        np.testing.assert_allclose(d(x, jnp.asarray(t)), x * (2 if 0.2 <= t <= 0.6 else 1))
    jax.effects_barrier()
    assert sorted(calls) == ["guided", "guided", "plain", "plain"]


def mixture():
    means = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 0.0]])
    return dj.GaussianMixture(jnp.array([0.5, 0.3, 0.2]), means, jnp.tile(0.1 * jnp.eye(2), (3, 1, 1)))


@pytest.mark.slow
def test_an_exact_classifier_gives_the_exact_conditional_denoiser(x, x64):
    """log p_t(k | x) of a mixture's components: the guided denoiser is the component's own."""
    gm, x = mixture(), jnp.asarray(x[:, :2], float)
    alone = [dj.GaussianMixture(jnp.ones(1), gm.means[k : k + 1], gm.covs[k : k + 1]) for k in range(3)]

    def logits(x, t):
        return jnp.stack([jnp.log(gm.weights[k]) + alone[k].log_prob_at(SDE, x, t) for k in range(3)], axis=1)

    guided = guidance.classifier(gm.denoiser(SDE), SDE, guidance.label_log_prob(logits))
    off = guidance.classifier(gm.denoiser(SDE), SDE, guidance.label_log_prob(logits), 0.0)

    @jax.jit
    def run(x, t):
        by_guidance = [guided(x, t, {"label": jnp.full(4, k)}) for k in range(3)]
        return by_guidance, [one.denoise(SDE, x, t) for one in alone], off(x, t, {"label": 1}), gm.denoise(SDE, x, t)

    for t in (0.05, 0.4, 0.9):
        got, exact, without, plain = run(x, t)
        np.testing.assert_allclose(got, exact, atol=1e-8)
        np.testing.assert_array_equal(without, plain)
    with pytest.raises(ValueError, match=r'needs cond = \{"label"'):
        jax.eval_shape(guided, x, 0.4)
    with pytest.raises(ValueError, match="one value per example"):
        jax.eval_shape(guidance.classifier(gm.denoiser(SDE), SDE, lambda x, t, cond: x.sum()), x, 0.4)


def test_a_classifier_of_constant_logits_changes_nothing(x):
    constant = guidance.label_log_prob(lambda x, t: jnp.tile(jnp.array([0.3, -1.0, 2.0]), (len(x), 1)))
    for scale in (1.0, 10.0):
        guided = guidance.classifier(DENOISE, SDE, constant, scale)
        np.testing.assert_array_equal(guided(x, 0.4, {"label": 1}), DENOISE(x, 0.4, {"label": 1}))


C, U, Y, NOISE, SCALE = np.array([[1.0, 0.3], [0.3, 0.5]]), np.array([1.0, -0.7]), 0.8, 0.3, 2.0


@jax.jit
def guided_step(x, t, s):
    """The mean of an ancestral step that is guided by y = u^T x_0 + noise, whose p(y | x_t) is Gaussian."""

    def log_prob(x, t, cond):
        V = SDE.alpha(t) ** 2 * C + SDE.sigma(t) ** 2 * jnp.eye(2)
        K = SDE.alpha(t) * C @ jnp.linalg.inv(V)  # E[x_0 | x_t] = K x_t, Cov[x_0 | x_t] = C - alpha K C
        return -0.5 * (Y - x @ K.T @ U) ** 2 / (U @ (C - SDE.alpha(t) * K @ C) @ U + NOISE**2)

    gm = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.asarray(C)[None])
    guided = guidance.classifier(gm.denoiser(SDE), SDE, log_prob, SCALE)
    return dj.Ancestral().step(jax.random.key(0), guided, SDE, dj.Ancestral().init(x), t, s, None).mean


@pytest.mark.parametrize("large", [False, True], ids=["small variance", "large variance"])
def test_both_forms_of_classifier_guidance_agree_as_steps_grow(x64, large):
    """Dhariwal & Nichol's Algorithm 1 adds scale Sigma grad to DDPM's mean (NumPy); ours is the score's, Algorithm 2.

    Sigma is of the order of beta, and the forms differ by the order of beta^2 in a step, so of 1/n after n steps. What
    is known is y = u^T x_0 + noise, whose p(y | x_t) a Gaussian x_0 makes Gaussian.
    """

    def by_score(x, t, s):
        return np.asarray(guided_step(x, t, s))

    def by_mean(x, t, s):
        bar, bar_s = (np.exp(-0.1 * t - 9.95 * t**2) for t in (t, s))
        beta = 1 - bar / bar_s
        K = np.sqrt(bar) * C @ np.linalg.inv(bar * C + (1 - bar) * np.eye(2))
        x0 = x @ K.T
        mean = (np.sqrt(bar_s) * beta * x0 + np.sqrt(1 - beta) * (1 - bar_s) * x) / (1 - bar)
        grad = (Y - x0 @ U)[:, None] * (U @ K) / (U @ (C - np.sqrt(bar) * K @ C) @ U + NOISE**2)
        variance = beta if large else beta * (1 - bar_s) / (1 - bar)
        return mean, SCALE * variance * grad

    start, one, moved, end = np.array([[0.5, -1.0], [-1.2, 0.4]]), [], [], []
    for n in (100, 200, 400):
        mean, shift = by_mean(start, 0.5, 0.5 - 1 / n)
        moved.append(np.linalg.norm(shift))
        one.append(np.linalg.norm(by_score(start, 0.5, 0.5 - 1 / n) - mean - shift))
    for n in (40, 80, 160):
        ts, a, b = np.linspace(0.8, 0.1, n + 1), start, start
        for t, s in itertools.pairwise(ts):
            a, b = by_score(a, t, s), sum(by_mean(b, t, s))
        end.append(np.linalg.norm(a - b))
    order = lambda errors: np.log2(np.array(errors[:-1]) / errors[1:])  # noqa: E731
    np.testing.assert_allclose(order(moved), 1, atol=0.1)
    np.testing.assert_allclose(order(one), 2, atol=0.1)
    np.testing.assert_allclose(order(end), 1, atol=0.15)


def problem():
    gm = dj.GaussianMixture(
        jnp.ones(1), jnp.array([[0.3, -0.2, 0.5]]), jnp.array([[[1.0, 0.3, 0.1], [0.3, 0.6, 0.2], [0.1, 0.2, 0.4]]])
    )
    A, y = jnp.array([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]]), jnp.array([0.4, -0.7])
    return gm, A, y, operators.Measurement(operators.matrix(A), jnp.tile(y, (4, 1)), 0.2)


def test_pigdm_with_the_exact_covariance_is_the_exact_posterior_of_a_gaussian(x, x64):
    gm, A, y, m = problem()
    posterior, x = jax.jit(gm.posterior)(A, y, 0.2), jnp.asarray(x, float)
    run = jax.jit(lambda x, t: (guidance.pigdm_exact(gm.denoiser(SDE), SDE, m)(x, t), posterior.denoise(SDE, x, t)))
    for t in (0.05, 0.4, 0.9):
        np.testing.assert_allclose(*run(x, t), atol=1e-6)


def test_conjugate_gradients_stop_at_their_tolerance(x, x64):
    """Two measurements are solved in two iterations, and not in one; none is an error."""
    gm, _, _, m = problem()
    x = jnp.asarray(x, float)
    guides = [guidance.pigdm_exact(gm.denoiser(SDE), SDE, m, n) for n in (1, 2, None)]
    one, two, all_ = jax.jit(lambda x: [guide(x, 0.4) for guide in guides])(x)
    np.testing.assert_allclose(two, all_, atol=1e-9)
    assert jnp.abs(one - all_).max() > 1e-3
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        guidance.pigdm_exact(gm.denoiser(SDE), SDE, m, 0)


def test_pigdm_and_reconstruction_against_their_formulas(x, x64):
    gm, A, y, m = problem()
    x, A, t = jnp.asarray(x, float), np.asarray(A), 0.4
    alpha, sigma = float(SDE.alpha(t)), float(SDE.sigma(t))
    C = np.asarray(gm.covs[0])
    K = alpha * C @ np.linalg.inv(alpha**2 * C + sigma**2 * np.eye(3))  # the Jacobian of the denoiser
    x0 = np.asarray(jax.jit(gm.denoiser(SDE))(x, t))
    residual = np.asarray(y) - x0 @ A.T
    inner = np.linalg.inv(sigma**2 * A @ A.T + 0.2**2 * np.eye(2))  # VP: r^2 = sigma^2
    expected = x0 + sigma**2 / alpha * residual @ inner @ A @ K
    loss = operators.Misfit(m, squared=True)
    guides = [guidance.reconstruction(gm.denoiser(SDE), SDE, loss, scale) for scale in (0.7, 0.0)]
    guides.append(guidance.pigdm(gm.denoiser(SDE), SDE, m))
    got, off, by_pigdm = jax.jit(lambda x: [guide(x, t) for guide in guides])(x)
    np.testing.assert_allclose(by_pigdm, expected, atol=1e-8)
    np.testing.assert_allclose(got, x0 + 0.7 * 2 * sigma**2 / alpha * residual @ A @ K, atol=1e-8)
    np.testing.assert_allclose(off, x0, atol=1e-12)


def test_posterior_guidance_refuses_what_it_cannot_do():
    gm, _, _, m = problem()
    noiseless = operators.Measurement(m.operator, m.y)
    with pytest.raises(ValueError, match="noise_std must be positive"):
        guidance.pigdm_exact(gm.denoiser(SDE), SDE, noiseless)
    with pytest.raises(TypeError, match="needs a linear operator"):
        guidance.pigdm(gm.denoiser(SDE), SDE, operators.Measurement(operators.HDR(), m.y))
    with pytest.raises(ValueError, match="one value per example"):
        guided = guidance.reconstruction(gm.denoiser(SDE), SDE, lambda x0, cond: x0.sum())
        jax.eval_shape(guided, jnp.ones((2, 3)), 0.4)

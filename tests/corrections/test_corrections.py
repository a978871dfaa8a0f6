"""Corrections of the clean estimate against closed forms, and the manifold theorem of MPGD where it is exact."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import corrections, operators


@pytest.fixture(scope="module")
def problem():
    """A measurement of vectors in 6 dimensions by 3 rows, with x_0 [5, 6]."""
    key = jax.random.key(3)
    A = jax.random.normal(key, (3, 6)) / 2
    x0 = jax.random.normal(jax.random.key(4), (5, 6))
    y = jax.random.normal(jax.random.key(5), (5, 3))
    return np.asarray(A), np.asarray(x0), np.asarray(y), operators.Measurement(operators.matrix(A), y, 0.3)


def test_gradient_step(problem):
    A, x0, y, m = problem
    expected = x0 + 2 * 0.1 * (y - x0 @ A.T) @ A
    squared, misfit = operators.Misfit(m, squared=True), operators.Misfit(m)
    scheduled = corrections.Gradient(squared, lambda t: 0.2 * t)
    unit = corrections.Gradient(misfit, 0.1, normalised=True)
    steps = corrections.Gradient(squared, 0.1), scheduled, unit, corrections.Gradient(misfit, 0.0)
    plain, in_time, normalised, none = jax.jit(lambda x0: [step(x0, 0.5) for step in steps])(x0)
    np.testing.assert_allclose(plain, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(in_time, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.mean((normalised - x0) ** 2, axis=1)), 0.1, rtol=1e-5)
    np.testing.assert_array_equal(none, x0)


def test_on_a_linear_manifold_both_autoencoder_forms_stay_in_its_span(problem, x64):
    """x = B z with B orthonormal, E = B', D = B: off-manifold parts vanish, those of the plain step do not."""
    A, _, y, _ = problem
    m = operators.Measurement(operators.matrix(A), jnp.asarray(y, float), 0.3)
    B = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 2)))[0]
    encode, decode = Partial(lambda B, x: x @ B, B), Partial(lambda B, z: z @ B.T, B)
    loss, x0 = operators.Misfit(m, squared=True), jnp.asarray(np.random.default_rng(1).normal(size=(5, 2)) @ B.T)

    def off(moved):
        step = np.asarray(moved - x0)
        return np.abs(step - step @ B @ B.T).max()

    same = Partial(lambda x: x)
    steps = (
        corrections.Gradient(corrections.Through(loss, encode, decode), 0.1),
        corrections.LatentGradient(loss, encode, decode, 0.1),
        corrections.Gradient(loss, 0.1),
        corrections.Gradient(corrections.Through(loss, same, same), 0.1),
        corrections.LatentGradient(loss, same, same, 0.1),
    )
    ae, z, plain, *without = jax.jit(lambda x0: [step(x0, 0.5) for step in steps])(x0)
    assert off(ae) < 1e-12 and off(z) < 1e-12 and off(plain) > 1e-2
    np.testing.assert_allclose(ae, z, atol=1e-12)  # both are the projected gradient here
    for moved in without:
        np.testing.assert_allclose(moved, plain, atol=1e-12)


def test_projection_meets_the_measurement_and_keeps_the_null_space(problem):
    A, x0, y, m = problem
    out = np.asarray(corrections.Project(m)(x0))
    np.testing.assert_allclose(out @ A.T, y, atol=1e-5)
    null = np.eye(6) - np.linalg.pinv(A) @ A
    np.testing.assert_allclose(out @ null, x0 @ null, atol=1e-5)


def test_the_proximal_step_solves_its_least_squares_problem(problem):
    A, x0, y, m = problem
    sde, t, lam = dj.VP(), 0.4, 2.0
    alpha, sigma = float(sde.alpha(t)), float(sde.sigma(t))
    weight = lam * 0.3**2 * alpha**2 / sigma**2
    expected = np.linalg.solve(A.T @ A + weight * np.eye(6), (y @ A + weight * x0).T).T
    np.testing.assert_allclose(corrections.Proximal(m, sde, lam)(x0, t), expected, rtol=1e-4, atol=1e-5)
    at_the_end = corrections.Proximal(m, sde, lam)(x0, 0.0)
    np.testing.assert_allclose(at_the_end, x0, atol=1e-6)  # no uncertainty is left, and no NaN


def test_thresholds(key):
    x = jnp.stack([jnp.linspace(-0.5, 0.9, 201), jnp.linspace(-3.0, 3.0, 201)])[..., None]
    np.testing.assert_array_equal(corrections.Clip()(x), jnp.clip(x, -1, 1))
    out = corrections.DynamicThreshold(0.9)(x)
    np.testing.assert_array_equal(out[0], x[0])  # within the range nothing happens
    q = np.quantile(np.abs(np.asarray(x[1])), 0.9)
    np.testing.assert_allclose(out[1], np.clip(np.asarray(x[1]), -q, q) / q, rtol=1e-5)


def test_a_window_acts_inside_and_computes_nothing_outside(problem):
    _, x0, _, _ = problem
    count = []

    def halve(x0, t, cond=None):
        jax.debug.callback(lambda: count.append(1))
        return x0 / 2

    window = corrections.Window(Partial(halve), 0.3, 0.5)
    for t, gain in ((0.2, 1.0), (0.3, 0.5), (0.5, 0.5), (0.6, 1.0)):
        np.testing.assert_allclose(window(x0, jnp.asarray(t)), gain * x0)
    jax.effects_barrier()
    assert len(count) == 2
    mixed = window(x0, jnp.array([0.2, 0.3, 0.4, 0.5, 0.9]))
    np.testing.assert_allclose(mixed, x0 * np.array([1, 0.5, 0.5, 0.5, 1])[:, None])


def test_a_window_gives_way_to_another_correction(problem):
    _, x0, _, _ = problem
    halve, negate = Partial(lambda x0, t, cond=None: x0 / 2), Partial(lambda x0, t, cond=None: -x0)
    window = corrections.Window(halve, 0.3, 0.5, negate)
    for t, gain in ((0.2, -1.0), (0.4, 0.5), (0.6, -1.0)):
        np.testing.assert_allclose(window(x0, jnp.asarray(t)), gain * x0)
    mixed = window(x0, jnp.array([0.2, 0.3, 0.4, 0.5, 0.9]))
    np.testing.assert_allclose(mixed, x0 * np.array([-1, 0.5, 0.5, 0.5, -1])[:, None])


@pytest.mark.slow
def test_the_latent_form_samples_as_if_the_decoder_were_part_of_the_operator(problem, key):
    """z in 6 dimensions with x = D z, D linear: MPGD on A D z is the same sampler, and its images meet y better."""
    A, _, y, _ = problem
    D = jax.random.normal(jax.random.key(6), (6, 6)) / 2
    seen = operators.Measurement(operators.matrix(A), y, 0.3)
    whole = operators.Measurement(operators.matrix(A @ D), y, 0.3)
    decode = Partial(lambda D, z: z @ D.T, D)
    prior = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 6)), jnp.eye(6)[None])
    sde = dj.VP()
    z, ts = dj.prior_sample(key, sde, (5, 6)), dj.times.uniform(sde, 20)

    def draw(correction):
        return dj.sample(key, prior.denoiser(sde), sde, dj.KeepEps(dj.DDIM(0.5), correction), ts, z)

    latent = draw(corrections.Gradient(corrections.Decoded(operators.Misfit(seen, squared=True), decode), 0.1))
    np.testing.assert_allclose(
        latent, draw(corrections.Gradient(operators.Misfit(whole, squared=True), 0.1)), rtol=1e-4, atol=1e-5
    )
    misfit = operators.Misfit(seen)
    free = draw(corrections.Gradient(corrections.Decoded(misfit, decode), 0.0))
    assert (misfit(decode(latent)) < 0.6 * misfit(decode(free))).all()


def test_errors(problem):
    _, x0, y, m = problem
    with pytest.raises(ValueError, match=r"one value per example, \[5\], but got shape \(\)"):
        corrections.Gradient(lambda x, cond: (x**2).sum(), 0.1)(x0, 0.5)
    nonlinear = operators.Measurement(operators.HDR(), y, 0.3)
    with pytest.raises(TypeError, match="HDR lacks s, V, Vt, U, Ut"):
        corrections.Project(nonlinear)
    with pytest.raises(ValueError, match="noise_std must be positive"):
        corrections.Proximal(operators.Measurement(m.operator, y), dj.VP())
    chex.assert_trees_all_equal(corrections.Project(m), corrections.Project(m))

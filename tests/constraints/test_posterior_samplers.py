"""DPS, MPGD, DDNM and DDRM: the properties in their papers; `tests/experiments` tests their samples' distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import corrections, guidance, operators, times

SDE = dj.VP()
DENOISE = Partial(lambda gain, x, t, cond=None: jnp.tanh(gain * x) / (1 + jnp.asarray(t)), 0.5)


@pytest.fixture(scope="module")
def problem():
    """Images, and a measurement of each: 2 x 2 means with noise 0.1."""
    x = jax.random.uniform(jax.random.key(3), (4, 6, 6, 2), minval=-1.0)
    return x, operators.measure(jax.random.key(4), operators.average_pool((6, 6, 2), 2), x, 0.1)


def draw(sampler, x, denoise=DENOISE, key=None, n=5):
    ts = times.uniform(SDE, n, 0.0)
    return dj.sample(jax.random.key(0) if key is None else key, denoise, SDE, sampler, ts, x)


def take(m, i):
    return operators.Measurement(m.operator, m.y[i : i + 1], m.noise_std)


BUILD = {
    "DPS": lambda m: dj.DPS(dj.Ancestral(), operators.Misfit(m), 0.3),
    "MPGD": lambda m: dj.KeepEps(dj.DDIM(0.5), corrections.Gradient(operators.Misfit(m), 0.3)),
    "DDNM": dj.ddnm,
    "DDRM": dj.DDRM,
}


@pytest.mark.parametrize("name", BUILD)
def test_an_example_does_not_depend_on_its_batch(problem, name):
    x, m = problem
    together = draw(BUILD[name](m), x)
    keys = dj.arrays.example_keys(jax.random.key(0), 4)
    alone = draw(BUILD[name](take(m, 2)), x[2:3], key=keys[2:3])
    np.testing.assert_allclose(together[2:3], alone, atol=1e-5)


def test_scale_0_is_the_sampler_alone(problem):
    x, m = problem
    plain = draw(dj.Ancestral(), x)
    # to one unit in the last place: the programs with the gradient round their products in another order
    np.testing.assert_allclose(draw(dj.DPS(dj.Ancestral(), operators.Misfit(m), 0.0), x), plain, atol=2e-7)
    off = corrections.Gradient(operators.Misfit(m), 0.0)
    np.testing.assert_allclose(draw(dj.KeepEps(dj.Ancestral(), off), x), plain, atol=2e-7)
    blind = operators.Measurement(operators.Mask(jnp.zeros((6, 6, 1))), jnp.zeros_like(x), 0.1)
    np.testing.assert_allclose(draw(dj.DDRM(blind), x), draw(dj.Renoise(0.85), x), atol=1e-6)


def test_noiseless_measurements_are_met(problem):
    x, m = problem
    exact = operators.Measurement(m.operator, m.operator(x), 0.0)
    for sampler in (dj.ddnm(exact), dj.DDRM(exact)):
        np.testing.assert_allclose(m.operator(draw(sampler, x)), exact.y, atol=1e-5)
    whole = operators.Measurement(operators.Mask(jnp.ones((6, 6, 1))), x)
    np.testing.assert_allclose(draw(dj.DDRM(whole), x), x, atol=1e-6)


def test_dps_gradient_is_the_jacobian_formula(x64):
    """One step on a Gaussian: -zeta K^T A^T (A x_0 - y) / |y - A x_0| for each example."""
    gm = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.array([[[1.0, 0.4], [0.4, 0.5]]]))
    A, y, x = np.array([[1.0, -0.5]]), jnp.array([[0.7], [-0.2]]), jnp.array([[0.3, 1.0], [2.0, -1.0]])
    m, ts = operators.Measurement(operators.matrix(A), y), jnp.array([0.5, 0.4])
    plain = dj.sample(jax.random.key(0), gm.denoiser(SDE), SDE, dj.DDIM(), ts, x)
    got = dj.sample(jax.random.key(0), gm.denoiser(SDE), SDE, dj.DPS(dj.DDIM(), operators.Misfit(m), 0.3), ts, x)
    alpha, sigma, C = float(SDE.alpha(0.5)), float(SDE.sigma(0.5)), np.asarray(gm.covs[0])
    K = alpha * C @ np.linalg.inv(alpha**2 * C + sigma**2 * np.eye(2))
    residual = np.asarray(y) - x @ K.T @ A.T
    np.testing.assert_allclose(got - plain, 0.3 * residual / np.abs(residual) @ A @ K, atol=1e-6)


@pytest.mark.parametrize("name", BUILD)
def test_network_calls_of_a_step(problem, name):
    """One forward pass each; DPS alone differentiates the network. Counted while the step is traced."""
    x, m = problem
    calls = []

    @jax.custom_vjp
    def network(x):
        calls.append("forward")
        return jnp.tanh(x)

    def backward(_, g):
        calls.append("backward")
        return (g,)

    network.defvjp(lambda x: (network(x), None), backward)
    sampler = BUILD[name](m)
    args = jax.random.key(0), lambda x, t, cond=None: network(x), SDE, sampler.init(x), jnp.array(0.5), jnp.array(0.4)
    sampler.step(*args, None)
    assert calls.count("backward") == (name == "DPS")
    assert calls.count("forward") == 1 or name == "DPS"


def test_guides_compose_in_one_program(problem, key):
    """CFG + MPGD + DPM-Solver++, and inpainting + PC + classifier guidance."""
    x, m = problem
    cond = {"label": jnp.array([0, 1, 2, 1])}

    def conditional(x, t, cond=None):
        shift = 0.0 if cond is None else 0.1 * cond["label"].reshape(-1, 1, 1, 1)
        return DENOISE(x, t) + shift

    guided = guidance.corrected(guidance.cfg(conditional, 3.0), corrections.Gradient(operators.Misfit(m), 0.1))
    out = dj.sample(key, guided, SDE, dj.DPMpp2M(), times.uniform(SDE, 5), x, cond)
    assert out.shape == x.shape and jnp.isfinite(out).all()
    without = dj.sample(key, guidance.cfg(conditional, 3.0), SDE, dj.DPMpp2M(), times.uniform(SDE, 5), x, cond)
    assert jnp.linalg.norm(m.residual(out)) < jnp.linalg.norm(m.residual(without))

    logits = lambda x, t: x.reshape(len(x), -1)[:, :3]  # noqa: E731
    classified = guidance.classifier(DENOISE, SDE, guidance.label_log_prob(logits), 2.0)
    mask = jnp.zeros((6, 6, 1)).at[:2].set(1)
    pc = dj.PC(dj.inpaint(dj.ReverseDiffusion(), x, mask), dj.inpaint(dj.Langevin(0.1), x, mask))
    out = dj.sample(key, classified, SDE, pc, times.uniform(SDE, 5), x, cond)
    np.testing.assert_array_equal(out[:, :2], x[:, :2])
    assert jnp.isfinite(out).all()

"""Each call is the composition of its parts, runs by one loop, follows the measurement, and says what it needs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import corrections, guidance, operators, posterior, times

SDE, STEPS = dj.VP(), 20
A = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0]])
PRIOR = dj.GaussianMixture(
    jnp.ones(1), jnp.array([[0.6, -0.4, 0.3]]), jnp.array([[[1.0, 0.3, 0.1], [0.3, 0.5, 0.2], [0.1, 0.2, 0.2]]])
)
D, M = PRIOR.denoiser(SDE), operators.Measurement(operators.matrix(A), jnp.tile(jnp.array([1.5, -0.9]), (64, 1)), 0.1)
X, KEY = dj.prior_sample(jax.random.key(1), SDE, (64, 3)), jax.random.key(2)
square = operators.Misfit(M, squared=True)
over_alpha = lambda t: 0.1 / SDE.alpha(t)  # noqa: E731
half_snr = lambda t: 0.4 * SDE.alpha(t) ** 2 / (2 * SDE.sigma(t) ** 2)  # noqa: E731
known = dj.Known(dj.Ancestral(), M)
CASES = {  # the call, and its (denoiser, sampler) by hand
    "dps": (posterior.dps(M, 0.2), (D, dj.DPS(dj.Ancestral(), operators.Misfit(M), 0.2))),
    "dps, squared": (posterior.dps(M, 0.5, squared=True), (D, dj.DPS(dj.Ancestral(), square, 0.5))),
    "mpgd": (
        posterior.mpgd(M, 0.1, squared=True),
        (D, dj.KeepEps(dj.DDIM(0.5), corrections.Gradient(square, over_alpha))),
    ),
    "reconstruction_guidance": (
        posterior.reconstruction_guidance(M, 0.4),
        (guidance.reconstruction(D, SDE, square, half_snr), dj.Ancestral()),
    ),
    "pigdm": (posterior.pigdm(M), (guidance.pigdm(D, SDE, M), dj.DDIM(1.0))),
    "moment_matching": (posterior.moment_matching(M, None), (guidance.pigdm_exact(D, SDE, M), dj.DDIM(1.0))),
    "ddrm": (posterior.ddrm(M), (D, dj.DDRM(M))),
    "ddnm": (posterior.ddnm(M), (D, dj.ddnm(M))),
    "ddnm_plus": (posterior.ddnm_plus(M, 0.5), (D, dj.DDRM(M, 0.5, 1.0))),
    "diffpir": (
        posterior.diffpir(M, 2.0, 0.36),
        (guidance.corrected(D, corrections.Proximal(M, SDE, 2.0)), dj.Renoise(0.6)),
    ),
    "replacement": (
        posterior.replacement(M, 0.1),
        (D, dj.PC(dj.Known(dj.ReverseDiffusion(), M), dj.Known(dj.Langevin(0.1), M))),
    ),
    "repaint": (posterior.repaint(M, 2, 3), (D, dj.TimeTravel(known))),
}


@pytest.fixture(scope="module")
def unconditional():
    x = dj.sample(KEY, D, SDE, dj.Ancestral(), times.uniform(SDE, STEPS), X)
    return float(jnp.linalg.norm(M.residual(x).mean(0)))


QUICK = ("dps", "ddrm")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_a_call_is_the_composition_of_its_parts_and_follows_the_measurement(name, unconditional):
    method, (denoise, sampler) = CASES[name]
    got = method.sample(KEY, D, SDE, X, steps=STEPS)
    ts = times.uniform(SDE, STEPS)
    if name == "repaint":
        ts = times.repaint(ts, 2, 3)
    np.testing.assert_allclose(got, dj.sample(KEY, denoise, SDE, sampler, ts, X), atol=2e-5)
    left = jnp.linalg.norm(M.residual(got).mean(0))
    assert left < (1e-5 if name in ("replacement", "repaint") else 0.5 * unconditional)
    parts = method.apply(D, SDE, times.uniform(SDE, STEPS))
    np.testing.assert_array_equal(parts[2], ts)
    assert all(callable(part) or hasattr(part, "step") for part in parts[:2])


@pytest.mark.slow
def test_moment_matching_has_the_posterior_s_moments():
    """Its mean to 4 standard errors and the first-order bias of 20 steps; the other methods sample others."""
    exact = PRIOR.posterior(jnp.asarray(A, jnp.float32), M.y[0], 0.1)
    got = CASES["moment_matching"][0].sample(KEY, D, SDE, X, steps=STEPS)
    std = np.sqrt(np.diag(exact.covs[0]))
    assert np.all(np.abs(got.mean(0) - exact.means[0]) < 4 * std / 8 + 0.02)


def test_the_papers_numbers_of_steps():
    steps = {name: method.steps for name, (method, _) in CASES.items()}
    assert (steps["dps"], steps["ddrm"], steps["replacement"], steps["repaint"]) == (1000, 20, 1000, 250)
    ts = posterior.repaint(M).apply(D, SDE, times.uniform(SDE, 250))[2]
    assert (posterior.repaint(M).jump, posterior.repaint(M).repeats, int((jnp.diff(ts) < 0).sum())) == (10, 10, 2410)


def test_constants_are_leaves_and_a_sweep_is_one_program():
    @chex.assert_max_traces(n=1)
    def denoise(gain, x, t, cond=None):
        return gain * x

    run = lambda zeta: posterior.dps(M, zeta).sample(KEY, Partial(denoise, 0.5), SDE, X, steps=2)  # noqa: E731
    zetas = jnp.array([0.0, 0.2, 0.4])
    each = jax.jit(jax.vmap(run))(zetas)
    assert not np.allclose(each[0], each[2]) and each.shape == (3, 64, 3)


PLAIN = operators.Measurement(Partial(lambda x: jnp.tanh(x[:, :2])), jnp.zeros((64, 2)), 0.1)
LINEAR = ["pigdm", "moment_matching", "ddrm", "ddnm", "ddnm_plus", "diffpir", "replacement", "repaint"]


@pytest.mark.parametrize("name", ["dps", "mpgd", "reconstruction_guidance"])
def test_any_differentiable_operator_serves_methods_of_a_gradient(name):
    out = getattr(posterior, name)(PLAIN, 0.3).sample(KEY, D, SDE, X, steps=3)
    assert out.shape == X.shape and jnp.isfinite(out).all()


@pytest.mark.parametrize("name", LINEAR)
def test_methods_of_a_decomposition_refuse_another_operator(name):
    with pytest.raises(TypeError, match="needs a linear operator with its singular value decomposition"):
        getattr(posterior, name)(PLAIN)


@pytest.mark.parametrize("name", ["dps", "mpgd", "reconstruction_guidance", *LINEAR])
def test_an_operator_or_a_loss_is_no_measurement(name):
    for wrong in (M.operator, square):
        with pytest.raises(TypeError, match=r"to get a measurement|expected a measurement, such as dj\.measure"):
            getattr(posterior, name)(wrong)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: posterior.dps(M, -1.0), ValueError, "zeta must be"),
        (lambda: posterior.dps(M, sampler=dj.DDIM), TypeError, r"did you mean DDIM\(\)"),
        (lambda: posterior.dps(M, sampler=dj.Jump()), TypeError, "DPS evaluates a denoiser"),
        (lambda: posterior.mpgd(M, "1"), TypeError, "scale must be a number"),
        (lambda: posterior.reconstruction_guidance(M, -1.0), ValueError, "weight must be"),
        (lambda: posterior.ddrm(M, 1.2), ValueError, "eta must be"),
        (lambda: posterior.ddnm(M, -0.1), ValueError, "eta must"),
        (lambda: posterior.diffpir(M, 0.0), ValueError, "lam must be"),
        (lambda: posterior.diffpir(M, 1.0, 2.0), ValueError, "zeta must be"),
        (lambda: posterior.repaint(M, 0), ValueError, "jump must be at least 1"),
        (lambda: posterior.moment_matching(M, 0), ValueError, "iterations must be at least 1"),
        (lambda: posterior.ddrm(M).sample(KEY, D, SDE, X, steps=0), ValueError, "steps must be at least 1"),
        (lambda: posterior.ddrm(M).sample(KEY, D, SDE, X[:3]), ValueError, "each example needs its own y"),
        (
            lambda: posterior.moment_matching(operators.Measurement(M.operator, M.y)),
            ValueError,
            "noise_std must be positive",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()

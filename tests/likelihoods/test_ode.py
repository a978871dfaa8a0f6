"""Likelihoods against the exact densities of Gaussian mixtures, and the noise of the estimate against its formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax.likelihoods import Exact, Gaussian, Rademacher

PROCESSES = (dj.EDM(), dj.VP(), dj.SubVP(), dj.Flow(), dj.VE())


@jax.jit
def densities(mixture, sde, x, x_T, t):
    """What the prior takes for p_T at the latents, less what p_T is; and the density at time t, and without noise."""
    prior = dj.prior_logp(sde, x_T) - mixture.log_prob_at(sde, x_T, sde.T)
    return prior, mixture.log_prob_at(sde, x, t), mixture.log_prob(x)


@pytest.mark.parametrize("kind", range(5), ids=[type(sde).__name__ for sde in PROCESSES])
def test_mixture_within_1e_3_nats_of_the_ode(four_modes, kind, one_of):
    """The rest is the prior's: what N(0, sigma_T^2) takes for p_T at the latent, 1e-2 on VP and 2e-2 on VE here."""
    sde = one_of(kind, PROCESSES, PROCESSES[kind].T)
    x = np.float32([[1.0, 1.0], [0.8, 1.1], [0.0, 0.0], [-1.3, -0.9]])
    options = [dict(t_min=0.002), *[dict(tol=1e-6)] * 3, dict(t_min=0.02, tol=1e-6)][kind]
    found = dj.likelihoods.estimate(jax.random.key(0), four_modes.denoiser(sde), sde, x, probes=Exact(), **options)
    logp = np.asarray(found.logp)
    t_min = np.float32(options.get("t_min", 1e-5))
    prior, exact, clean = map(np.asarray, densities(four_modes, sde, x, found.x_T, t_min))
    near = np.array([0, 1, 3])
    np.testing.assert_allclose((logp - prior)[near], exact[near], atol=1e-3)
    assert np.abs(prior).max() <= 4 * float(sde.alpha(sde.T) / sde.sigma(sde.T)) * 1.6 + 1e-6  # Eq. 4, |x_0| < 1.6
    if kind == 0:  # at sigma = 0.002
        np.testing.assert_allclose(logp, [-0.00539560, -0.63033310, -23.6166015, -1.25527061], atol=1e-3)
    elif kind < 4:
        np.testing.assert_allclose(logp[near], clean[near], atol=1e-3)


@pytest.mark.slow
def test_the_prior_s_bias_is_what_a_small_sigma_max_costs(x64, four_modes):
    sde, x = dj.EDM(T=5.0), jnp.array([[1.0, 1.0], [0.8, 1.1], [0.0, 0.0], [-1.3, -0.9]])
    logp = dj.log_likelihood(jax.random.key(0), four_modes.denoiser(sde), sde, x, probes=Exact(), t_min=0.002, tol=1e-8)
    exact = jax.jit(four_modes.log_prob_at)(sde, x, 0.002)
    np.testing.assert_allclose(np.abs(logp - exact).max(), 0.0416, atol=1e-4)


@pytest.mark.slow
def test_hutchinson_is_unbiased_and_estimates_its_error(four_modes):
    sde, x = dj.VP(), jnp.array([[0.8, 1.1], [-1.3, -0.9]])
    exact = jax.jit(four_modes.log_prob)(x)
    for probes in (Rademacher(32), Gaussian(32)):
        estimate = dj.likelihoods.estimate(jax.random.key(1), four_modes.denoiser(sde), sde, x, probes=probes)
        off = np.abs(estimate.logp - exact)
        assert np.all(off < 4 * estimate.std_error + 1e-3)  # 4 sigma
        assert np.all(estimate.std_error < 0.5)
    assert np.all(estimate.std_error > 0)  # of normal probes; signs are exact where the Jacobian is diagonal


def test_variance_of_the_probes_on_a_linear_field(key):
    A = jax.random.normal(key, (5, 5))
    n = 40000
    off_diagonal = A - jnp.diag(jnp.diag(A))
    expected = {
        Rademacher(n): (off_diagonal**2 + off_diagonal * off_diagonal.T).sum(),
        Gaussian(n): (A**2).sum() + jnp.trace(A @ A),
    }
    for probes, variance in expected.items():
        e = probes.draw(jax.random.key(2), jnp.zeros(5))
        values = jnp.einsum("pi,ij,pj->p", e, A, e)
        assert abs(values.mean() - jnp.trace(A)) < 4 * jnp.sqrt(variance / n)
        kurtosis = ((values - values.mean()) ** 4).mean()
        assert abs(values.var() - variance) < 4 * jnp.sqrt(kurtosis / n)  # 4 sigma of a variance
    diagonal = jnp.einsum("pi,i,pi->p", e := Rademacher(3).draw(key, jnp.zeros(5)), jnp.arange(5.0), e)
    np.testing.assert_allclose(diagonal, 10)  # exact for a diagonal field


@pytest.mark.slow
def test_each_example_is_independent_of_its_batch(four_modes, key):
    sde, x = dj.VP(), jnp.array([[0.8, 1.1], [-1.3, -0.9], [0.0, 3.0]])
    keys = jax.random.split(key, 3)
    together = dj.likelihoods.estimate(keys, four_modes.denoiser(sde), sde, x)
    alone = [dj.likelihoods.estimate(keys[i : i + 1], four_modes.denoiser(sde), sde, x[i : i + 1]) for i in range(3)]
    np.testing.assert_allclose(together.logp, [a.logp[0] for a in alone], rtol=1e-5)
    apart = together.nfe - np.array([a.nfe[0] for a in alone])
    assert np.abs(apart).max() <= 6  # one step: programs of other batch sizes round the error estimate differently
    assert together.x_T.shape == x.shape and np.isnan(together.std_error).all()  # one probe has no error


def test_bits_per_dim():
    d = 7
    uniform = -d * math.log(2.0)  # log density on [-1, 1]^d
    assert dj.bits_per_dim(uniform, d) == pytest.approx(8)
    assert dj.bits_per_dim(0.0, d, low=0, high=1) == pytest.approx(8)
    assert dj.bits_per_dim(-d * math.log(256), d, bits=5, low=0, high=256) == pytest.approx(5)


def test_bad_arguments(four_modes, key):
    sde = dj.VP()
    with pytest.raises(ValueError, match="the number of probes must be at least 1"):
        dj.log_likelihood(key, four_modes.denoiser(sde), sde, jnp.zeros((1, 2)), probes=Rademacher(0))
    with pytest.raises(ValueError, match="float array"):
        dj.log_likelihood(key, four_modes.denoiser(sde), sde, jnp.zeros((1, 2), jnp.uint8))
    with pytest.raises(ValueError, match=r"times must lie in \[0, T = 1.0\]"):
        dj.log_likelihood(key, four_modes.denoiser(sde), sde, jnp.zeros((1, 2)), t_min=-0.1)
    with pytest.raises(FloatingPointError, match="look for NaN"):
        dj.log_likelihood(key, lambda x, t, cond=None: x * jnp.nan, sde, jnp.zeros((1, 2)))


@pytest.mark.parametrize(
    "dtype", [jnp.float32, *(pytest.param(d, marks=pytest.mark.slow) for d in (jnp.bfloat16, jnp.float64))]
)
def test_every_float_type_under_x64(x64, dtype):
    """Of N(0, 1/4), whose density is known; the result is in the type of x, but never below float32."""
    sde, x = dj.VP(), np.array([[0.5, -0.25]])

    def denoise(x, t, cond=None):
        a, s = sde.alpha(t), sde.sigma(t)
        return (a / 4 / (a**2 / 4 + s**2) * x).astype(x.dtype)

    found = dj.likelihoods.estimate(jax.random.key(0), denoise, sde, jnp.asarray(x, dtype), probes=Exact(), tol=1e-3)
    np.testing.assert_allclose(found.logp[0], (-2 * x**2 - 0.5 * np.log(np.pi / 2)).sum(), atol=0.01)
    assert found.logp.dtype == found.x_T.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)


@pytest.mark.slow
def test_shared_entries_of_a_condition_have_no_batch_axis(key):
    """A `Shared` entry of any shape is the same for all examples, an array with axes is each one's own."""
    sde, x = dj.VP(), jnp.array([[0.3, 0.1], [0.2, -0.5], [1.0, 0.0]])

    def denoise(x, t, cond):
        table = cond["table"].value
        assert table.shape == (7, 2) and cond["shift"].shape == (1,)
        return 0.1 * x + 0.1 * cond["shift"][:, None] + 0.1 * table.mean(0)

    cond = {"shift": jnp.arange(3.0), "table": dj.conditions.Shared(jnp.ones((7, 2)))}
    logp = dj.log_likelihood(key, denoise, sde, x, cond, tol=1e-2)
    assert logp.shape == (3,) and jnp.isfinite(logp).all()
    with pytest.raises(ValueError, match="its first axis must be the batch"):
        dj.log_likelihood(key, denoise, sde, x, {"shift": jnp.arange(2.0)})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(probes=5), TypeError, "expected probes, such as Rademacher"),
        (dict(probes=Rademacher), TypeError, r"did you mean Rademacher\(\)"),
        (dict(tol=0.0), ValueError, "tol must be"),
        (dict(tol=-1.0), ValueError, "tol must be"),
        (dict(key=0), ValueError, "must be made by jax.random.key"),
        (dict(sde=dj.VP(beta_max=10.0)), ValueError, "was made for"),
        (dict(x=jnp.full((1, 2), jnp.nan)), ValueError, "x must be finite"),
    ],
)
def test_what_cannot_be_meant_is_refused(four_modes, key, options, error, message):
    x, sde = options.pop("x", jnp.zeros((1, 2))), options.pop("sde", dj.VP())
    with pytest.raises(error, match=message):
        dj.log_likelihood(options.pop("key", key), four_modes.denoiser(dj.VP()), sde, x, **options)


def test_bits_per_dim_of_nothing_is_refused():
    for call in (lambda: dj.bits_per_dim(1.0, 0), lambda: dj.bits_per_dim(1.0, 2, bits=0)):
        with pytest.raises(ValueError, match="must be at least 1"):
            call()
    with pytest.raises(ValueError, match="must rise from low to high"):
        dj.bits_per_dim(1.0, 2, low=1.0, high=-1.0)

"""Solvers against independent derivations, against one another, and against the data's distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import times


@jax.jit
def one_step(sampler, denoise, sde, keys, x, t, s):
    return sampler.step(keys, denoise, sde, sampler.init(x), t, s, None).x


def linear(sde, s2=0.25):
    """The denoiser of data N(0, s2)."""

    def denoise(x, t, cond=None):
        alpha, sigma = dj.gaussian.curves(sde, t, x)
        return alpha * s2 / (alpha**2 * s2 + sigma**2) * x

    return denoise


def numpy_ddpm(abar, i, j, x, x0, z, eta):
    """DDIM's step between table entries i > j in float64, written with alpha-bar as in Song et al. 2021, Eq. 12, 16."""
    eps = (x - np.sqrt(abar[i]) * x0) / np.sqrt(1 - abar[i])
    sigma = eta * np.sqrt((1 - abar[j]) / (1 - abar[i])) * np.sqrt(1 - abar[i] / abar[j])
    return np.sqrt(abar[j]) * x0 + np.sqrt(np.maximum(1 - abar[j] - sigma**2, 0)) * eps + sigma * z


@pytest.mark.parametrize("table", ["linear", "cosine"])
def test_steps_on_the_official_tables_equal_a_float64_derivation(table, key):
    """DDIM, and Ho et al.'s posterior mean and variances with their own coefficients, in float32 to 1e-6."""
    n = 1000
    if table == "linear":
        betas = np.linspace(1e-4, 0.02, n)
    else:
        f = np.cos((np.arange(n + 1) / n + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    abar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    sde = getattr(dj.BetaTable, table)(n)
    x, x0 = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32) * np.float32([[[1]], [[0.5]]])
    keys = dj.arrays.example_keys(key, 4)
    z = np.asarray(dj.arrays.normal(keys, x), np.float64)
    denoise = Partial(lambda x0, x, t, cond: x0, x0)
    x64, x064 = np.asarray(x, np.float64), np.asarray(x0, np.float64)

    def step(sampler, i, j):
        return one_step(sampler, denoise, sde, keys, x, np.float32(i), np.float32(j))

    for i, j in ((1000, 950), (500, 499), (500, 480), (21, 1), (2, 1)):
        for eta in (0.0, 0.5, 1.0):
            expected = numpy_ddpm(abar, i, j, x64, x064, z, eta)
            np.testing.assert_allclose(step(dj.DDIM(eta), i, j), expected, atol=1e-6 * max(1, np.abs(expected).max()))
    for i in (1000, 500, 2):  # Ho et al., Eq. 7; small: beta-tilde, large: beta
        b, a, last = betas[i - 1], abar[i], abar[i - 1]
        mean = np.sqrt(last) * b / (1 - a) * x064 + np.sqrt(1 - b) * (1 - last) / (1 - a) * x64
        for large, variance in ((0.0, b * (1 - last) / (1 - a)), (1.0, b)):
            expected = mean + np.sqrt(variance) * z
            np.testing.assert_allclose(step(dj.Ancestral(large), i, i - 1), expected, atol=3e-6)


@pytest.mark.slow
def test_identities(x64, key):
    """They hold for any denoiser."""
    sde, denoise = dj.VP(), Partial(lambda x, t, cond=None: jnp.tanh(3 * x))
    x, ts = np.random.default_rng(0).normal(size=(6, 2)), jax.jit(times.uniform_logsnr, static_argnums=1)(sde, 12)
    run = lambda sampler, ts=ts: dj.sample(key, denoise, sde, dj.KeepNoise(sampler), ts, x)  # noqa: E731
    for first_order in (dj.DPMSolver(1), dj.LMS(1), dj.DEIS(1), dj.PNDM(1)):
        np.testing.assert_allclose(run(first_order), run(dj.DDIM()), rtol=1e-9)
    # one step of the SDE solvers is ancestral sampling
    for sampler in (dj.DPMpp2M(1.0), dj.DPMpp3M(1.0)):
        np.testing.assert_allclose(run(sampler, ts[:2]), run(dj.Ancestral(), ts[:2]), rtol=1e-9)
    np.testing.assert_allclose(run(dj.Churn(dj.Heun(), 0.0, 12)), run(dj.Heun()), rtol=1e-12)
    # another clock: DDIM's steps are the same in EDM's, between the same noise levels
    edm = dj.EDM(T=1e3)
    levels = sde.sigma(ts) / sde.alpha(ts)
    other = dj.sample(key, dj.rescale(denoise, sde, edm), edm, dj.DDIM(), levels, x / sde.alpha(ts[0]))
    np.testing.assert_allclose(sde.alpha(ts[-1]) * other, run(dj.DDIM()), rtol=1e-6)


def test_euler_ancestral_is_ddim_with_eta_1(x64, key, four_modes):
    """k-diffusion's update in EDM's frame: down to sigma_down by Euler's method, up again by noise."""
    sde, x = dj.EDM(), 5.0 * np.random.default_rng(0).normal(size=(6, 2))
    t, s = 5.0, 3.0
    keys = dj.arrays.example_keys(key, 6)
    denoise, z = four_modes.denoiser(sde), np.asarray(dj.arrays.normal(keys, x))
    x0 = jax.jit(denoise)(x, t)
    up = np.sqrt(s**2 * (t**2 - s**2) / t**2)
    down = np.sqrt(s**2 - up**2)
    expected = x + (down - t) * (x - x0) / t + up * z
    np.testing.assert_allclose(one_step(dj.DDIM(1.0), denoise, sde, keys, x, t, s), expected)


def test_churn_is_algorithm_2_of_edm(x64, key, four_modes):
    """One step re-derived in NumPy, with S_noise, inside and outside of [S_min, S_max]."""
    sde, x, t, s = dj.EDM(), np.random.default_rng(0).normal(size=(6, 2)), np.float64(2.0), np.float64(1.2)
    keys = dj.arrays.example_keys(key, 6)
    mixture, denoise = four_modes.denoiser(sde), jax.jit(four_modes.denoiser(sde))
    z = np.asarray(dj.arrays.normal(dj.arrays.split(keys)[0], x))
    for s_max, s_churn, gamma in ((50.0, 4.0, 0.2), (50.0, 40.0, np.sqrt(2) - 1), (1.9, 4.0, 0.0)):
        sampler = dj.Churn(dj.Heun(), s_churn, 20, s_min=0.05, s_max=s_max, s_noise=1.003)
        t_hat = t * (1 + gamma)
        x_hat = x + np.sqrt(t_hat**2 - t**2) * 1.003 * z
        d = (x_hat - denoise(x_hat, t_hat)) / t_hat
        euler = x_hat + (s - t_hat) * d
        expected = x_hat + (s - t_hat) * (d + (euler - denoise(euler, s)) / s) / 2
        out = one_step(sampler, mixture, sde, keys, x, t, s)
        np.testing.assert_allclose(out, expected, rtol=1e-9)


SDE_SOLVERS = {
    "DDIM(1)": dj.DDIM(1.0),
    "DPMpp2S(1)": dj.DPMpp2S(1.0),
    "DPMpp2M(1)": dj.DPMpp2M(1.0),
    "DPMpp3M(1)": dj.DPMpp3M(1.0),
    "Churn": dj.Churn(dj.Heun(), 30.0, 200),
}


QUICK = ("DDIM(1)", "DPMpp2M(1)")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SDE_SOLVERS])
def test_every_sde_solver_has_the_data_s_distribution(name, key, optimised):
    """Variance of N(0, 0.25): 40,000 draws give it to 0.25 sqrt(2/40000) = 0.0018, and 4 sigma of it are allowed.

    200 steps leave a bias that is smaller (2S ancestral, of first order: 0.003 more).
    """
    sde = dj.Flow()
    x = dj.prior_sample(key, sde, (40_000, 1))
    out = dj.sample(key, linear(sde), sde, SDE_SOLVERS[name], jnp.linspace(1.0, 0.0, 201), x)
    assert abs(float(out.var()) - 0.25) < 4 * 0.0018 + (0.003 if name == "DPMpp2S(1)" else 0)


@pytest.mark.slow
def test_invert_and_sample(key, four_modes, x64):
    """There and back: the error falls with the order of the solver; a grid that ends at 0 is refused."""
    sde = dj.VP()
    denoise, x = four_modes.denoiser(sde), four_modes.sample(key, 50)
    ts = jax.jit(times.uniform_logsnr, static_argnums=1)(sde, 200)
    grids = np.stack([np.pad(ts[:: 200 // n], (0, 200 - n), mode="edge") for n in (50, 100, 200)])  # for one program

    @jax.jit
    @jax.vmap
    def there_and_back(ts):
        return dj.sample(key, denoise, sde, dj.DDIM(), ts, dj.invert(denoise, sde, dj.DDIM(), ts, x))

    errors = ((there_and_back(grids) - x) ** 2).mean((1, 2))
    assert errors[1] < 1e-3 and 3 < errors[0] / errors[1] < 5 and 3 < errors[1] / errors[2] < 5
    assert dj.invert(denoise, sde, dj.DDIM(), ts, x, trajectory=True).shape == (201, 50, 2)
    with pytest.raises(ValueError, match="must end above t = 0"):
        dj.invert(denoise, sde, dj.DDIM(), times.uniform(sde, 5, 0.0), x)


def test_inverted_times_carry_the_derivative_of_the_schedule(x64):
    def time(beta_max):
        return dj.gaussian.time_of_logsnr(dj.VP(beta_max=beta_max), jnp.array([2.0, -3.0]))

    h = 1e-5
    numeric = (time(20.0 + h) - time(20.0 - h)) / (2 * h)
    np.testing.assert_allclose(jax.jacfwd(time)(20.0), numeric, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: dj.DPMSolver(4), "order must be from 1 to 3"),
        (lambda: dj.DPMSolver("2"), "order must be an integer"),
        (lambda: dj.UniPC(0), "order must be from 1 to 4"),
        (lambda: dj.UniPC(2.5), "order must be an integer"),
        (lambda: dj.LMS(5), "order must be from 1 to 4"),
        (lambda: dj.DEIS(0), "order must be from 1 to 4"),
        (lambda: dj.PNDM(9), "order must be from 1 to 4"),
        (lambda: dj.DDIM(-0.1), r"eta must be a finite number in \[0, 1\]"),
        (lambda: dj.DDIM("1"), "eta must be a number"),
        (lambda: dj.DPMpp2S(np.nan), "eta must be a finite number"),
        (lambda: dj.DPMpp2M(2.0), "eta must be a finite number"),
        (lambda: dj.DPMpp3M(0.5, warm=True), "warm steps are deterministic"),
        (lambda: dj.Renoise([0.2, 3.0]), "eta must be a finite number"),
        (lambda: dj.Ancestral(2.0), "large must be a finite number"),
        (lambda: dj.Langevin(-1.0), "snr must be a finite number"),
        (lambda: dj.Langevin(n_steps=-1), "n_steps must be at least 0"),
        (lambda: dj.ULA(0.0), r"step_size must be a finite number in \(0, inf\]"),
        (lambda: dj.AnnealedLangevin(0.0), "eps must be a finite number"),
        (lambda: dj.AnnealedLangevin(n_steps=0), "n_steps must be at least 1"),
        (lambda: dj.Jump(0.5, -1.0), "end must be a finite number"),
        (lambda: dj.PC(dj.ReverseDiffusion, dj.Langevin()), r"did you mean ReverseDiffusion\(\)"),
        (lambda: dj.PC(dj.ReverseDiffusion(), None), "expected a corrector"),
        (lambda: dj.KeepNoise("ddim"), "expected a sampler"),
    ],
)
def test_numbers_that_a_solver_cannot_have(make, error):
    with pytest.raises((ValueError, TypeError), match=error):
        make()

"""A run in two halves is a run, under every constraint: exact means and variances of affine steps on Gaussian data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import corrections, operators, times

SDE, N = dj.VP(), 20_000
MEAN, COV = jnp.array([0.7, -0.4]), jnp.array([[0.6, 0.3], [0.3, 0.4]])
PRIOR = dj.GaussianMixture(jnp.ones(1), MEAN[None], COV[None])
D, TS = PRIOR.denoiser(SDE), times.uniform(SDE, 12)
MASK = jnp.array([1.0, 0.0])
IMAGE = jnp.tile(jnp.array([2.0, 0.0]), (N, 1))
M = operators.Measurement(operators.matrix(np.array([[1.0, 0.5]])), jnp.full((N, 1), 0.8), 0.2)
square = operators.Misfit(M, squared=True)
CONSTRAINTS = {  # without a measurement x has the data's distribution; with one, that of a single run
    "Known": lambda: dj.inpaint(dj.Ancestral(), IMAGE, MASK),
    "Known of KeepNoise": lambda: dj.inpaint(dj.KeepNoise(dj.Ancestral()), IMAGE, MASK),
    "Known, corrected": lambda: dj.PC(
        dj.inpaint(dj.DDIM(0.5), IMAGE, MASK), dj.inpaint(dj.AnnealedLangevin(0.1, 1.0, n_steps=1), IMAGE, MASK)
    ),
    "DPS": lambda: dj.DPS(dj.Ancestral(), square, 0.1),
    "DDRM": lambda: dj.DDRM(M),
    "DDNM": lambda: dj.ddnm(M),
    "MPGD": lambda: dj.KeepEps(dj.DDIM(0.5), corrections.Gradient(square, 0.1)),
    "Churn": lambda: dj.Churn(dj.Heun(), 4.0, 12),
    "TimeTravel": lambda: dj.TimeTravel(dj.inpaint(dj.Ancestral(), IMAGE, MASK)),
}


@jax.jit
def moments(x):
    return x.mean(0), jnp.cov(x, rowvar=False)


def close(a, b, what):
    """Means and covariances agree to 4 sigma of N draws each."""
    (m, C), (m2, C2) = moments(a), moments(b)
    scale = jnp.sqrt(jnp.maximum(jnp.diag(C), 1e-12))
    assert np.all(np.abs(m - m2) < 4 * np.sqrt(2 / N) * scale + 1e-6), (what, m, m2)
    assert np.all(np.abs(C - C2) < 4 * np.sqrt(4 / N) * scale[:, None] * scale + 1e-6), (what, C, C2)


QUICK = ("Known", "DPS")


def named(names):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", named(CONSTRAINTS))
@pytest.mark.slow
def test_two_halves_have_the_distribution_of_one_run(name):
    """With the same key in both halves: the driver folds the time into it."""
    sampler, x, key = CONSTRAINTS[name](), dj.prior_sample(jax.random.key(1), SDE, (N, 2)), jax.random.key(2)
    grid = times.repaint(TS, 2, 2) if name == "TimeTravel" else TS
    cut = len(grid) // 2
    whole = dj.sample(key, D, SDE, sampler, grid, x)
    middle = dj.sample(key, D, SDE, sampler, grid[: cut + 1], x)
    close(dj.sample(key, D, SDE, sampler, grid[cut:], middle), whole, name)
    if name.startswith(("Known", "TimeTravel")):  # at t_m what is known is distributed as its x_t
        alpha, sigma = SDE.alpha(grid[cut]), SDE.sigma(grid[cut])
        m, C = moments(middle)
        assert abs(m[0] - 2 * alpha) < 4 * sigma / np.sqrt(N)
        assert abs(C[0, 0] - sigma**2) < 4 * sigma**2 * np.sqrt(2 / N)
        np.testing.assert_array_equal(whole[:, 0], 2.0)


def test_the_mean_of_what_is_known_is_the_step_s_before_its_noise():
    """Above t_min alpha_s y, at t_min y itself; a constraint outside reads it."""
    sampler = dj.inpaint(dj.Ancestral(), IMAGE[:4], MASK)

    @jax.jit
    def step(s):
        keys, state = dj.arrays.example_keys(jax.random.key(0), 4), sampler.init(IMAGE[:4])
        return sampler.step(keys, D, SDE, state, jnp.array(0.5), s, None)

    np.testing.assert_allclose(step(np.float32(0.3)).mean[:, 0], 2 * SDE.alpha(0.3), rtol=1e-6)
    np.testing.assert_array_equal(step(np.float32(SDE.t_min)).mean[:, 0], 2.0)


@pytest.mark.parametrize("repeats", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_sdedit_and_its_repeats_stop_at_a_middle_time(repeats):
    """Guides distributed as the data lead to the distribution of x_{t_m}, from which another run may go on."""
    guide, key = PRIOR.sample(jax.random.key(3), N), jax.random.key(2)
    ts = jnp.linspace(0.4, 1e-3, 41)
    middle = dj.sdedit(key, D, SDE, dj.Ancestral(), ts[:21], guide, repeats=repeats)
    alpha, sigma = SDE.alpha(ts[20]), SDE.sigma(ts[20])
    rng = jax.random.normal(jax.random.key(9), guide.shape)
    fresh = alpha * PRIOR.sample(jax.random.key(8), N) + sigma * rng
    bias = 0.01 * repeats  # of twenty steps of first order
    (m, C), (m2, C2) = moments(middle), moments(fresh)
    assert np.all(np.abs(m - m2) < 4 * np.sqrt(2 / N) + bias) and np.all(np.abs(C - C2) < 4 * np.sqrt(4 / N) + bias)


@pytest.mark.parametrize("name", named(["Known", "DPS", "DDRM", "DDNM", "MPGD", "Churn", "TimeTravel"]))
def test_where_alpha_is_0_steps_and_their_gradients_are_finite(name):
    """A repeated T, where alpha = 0, a repeated time on the way, and one at 0; the gradient is that of x_T."""
    m = operators.Measurement(M.operator, M.y[:3], 0.0)
    image, loss, sde, still = IMAGE[:3], operators.Misfit(m), dj.Flow(), dj.Renoise(0.5)
    sampler = {
        "Known": lambda: dj.inpaint(still, image, MASK),
        "DPS": lambda: dj.DPS(still, loss, 0.1),
        "DDRM": lambda: dj.DDRM(m),
        "DDNM": lambda: dj.ddnm(m),
        "MPGD": lambda: dj.KeepEps(still, corrections.Gradient(loss, 0.1)),
        "Churn": lambda: dj.Churn(still, 4.0, 5),
        "TimeTravel": lambda: dj.TimeTravel(dj.inpaint(still, image, MASK)),
    }[name]()
    ts = jnp.array([1.0, 1.0, 0.5, 0.5, 0.0, 0.0])
    denoise = lambda x, t, cond=None: PRIOR.denoise(sde, x, t)  # noqa: E731

    def total(x):
        out = dj.sample(jax.random.key(0), denoise, sde, sampler, ts, x)
        return out.sum(), out

    grad, out = jax.jit(jax.grad(total, has_aux=True))(dj.prior_sample(jax.random.key(1), sde, (3, 2)))
    assert jnp.isfinite(out).all() and jnp.isfinite(grad).all()


def test_dps_stands_still_where_its_residual_is_0():
    """Misfit's slope at its minimum is 0, and so is the derivative of the step."""
    x = jnp.array([[0.3, -0.2], [1.0, 0.5]])
    m = operators.Measurement(M.operator, M.operator(x), 0.0)
    exact = lambda z, t, cond=None: z  # noqa: E731

    def run(z, sampler):
        return dj.sample(jax.random.key(0), exact, dj.Flow(), sampler, jnp.array([0.5, 0.4]), z)

    dps = dj.DPS(dj.DDIM(), operators.Misfit(m), 0.3)
    np.testing.assert_array_equal(run(x, dps), run(x, dj.DDIM()))
    assert jnp.isfinite(jax.jit(jax.jacobian(run))(x, dps)).all()

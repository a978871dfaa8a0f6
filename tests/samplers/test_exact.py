"""Samplers against exact solutions: orders of convergence, gains, distributions, and identities between samplers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import times

STARTS = np.array([[3.0, 1.0], [-2.0, 4.0], [0.7, -5.0], [10.0, -3.0]])
VP_STARTS = np.array([[0.6, 0.2], [-0.4, 0.8], [0.14, -1.0], [2.0, -0.6]])
EDM_ENDS = [[0.97145849, 0.79720047], [-0.89785703, 1.03361697], [0.75368596, -1.08948256], [1.32896789, -0.97145849]]
VP_ENDS = [[0.97553506, 0.79956877], [-0.90112258, 1.03847742], [0.75573684, -1.09511668], [1.33841899, -0.97553506]]


def posterior_mean(sde, s2, x, t, cond=None):
    """E[x_0 | x_t] for data N(0, s2)."""
    alpha, sigma = dj.gaussian.curves(sde, t, x)
    return alpha * s2 * x / (alpha**2 * s2 + sigma**2)


def gaussian_denoiser(sde, s2):
    return Partial(posterior_mean, sde, s2)


@jax.jit
def ends(denoise, sde, sampler, grids, x):
    """Where the sampler carries x along each of the grids."""
    return jax.vmap(lambda ts: dj.sample(jax.random.key(0), denoise, sde, sampler, ts, x))(grids)


def gains(sde, sampler, grids, s2):
    """What a deterministic sampler makes of x = 1 along each of the grids."""
    return ends(gaussian_denoiser(sde, s2), sde, sampler, stretch(grids), jnp.ones((1, 1)))[:, 0, 0]


def stretch(grids):
    """The grids at one length, so that one program serves all: steps of length 0, at the second time, do nothing."""
    n = max(map(len, grids))
    return np.stack([np.insert(ts, 1, np.full(n - len(ts), ts[1])) for ts in map(np.asarray, grids)])


def every(fine, counts):
    """Grids of fewer steps: those of the fine one, which is uniform in some scale, at the right distances."""
    return [fine[:: (len(fine) - 1) // n] for n in counts]


def orders(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def test_euler_and_heun_on_a_gaussian_have_the_known_errors(x64):
    sde, exact = dj.EDM(), np.sqrt((0.002**2 + 0.25) / (80**2 + 0.25))
    errors = {
        "Euler": [0.146, 0.0759, 0.0387, 0.01954, 0.00982],
        "Heun": [0.04897, 0.01153, 2.798e-3, 6.893e-4, 1.710e-4],
    }
    to_zero = {"Euler": 0.84607940, "Heun": 1.05526988}  # 18 steps, the last to 0, over the exact 0.006249877933
    grids = [*every(times.karras(sde, 288, to_zero=False), (18, 36, 72, 144, 288)), times.karras(sde, 18)]
    for sampler in (dj.Euler(), dj.Heun()):
        name, measured = type(sampler).__name__, gains(sde, sampler, grids, 0.25)
        np.testing.assert_allclose(abs(measured[:-1] / exact - 1), errors[name], rtol=4e-3)
        np.testing.assert_allclose(measured[-1] / 0.006249877933, to_zero[name], rtol=2e-7)


PROCESSES = (dj.EDM(T=5.0), dj.VP(), dj.VE(sigma_max=5.0, t_min=0.1), dj.Flow(t_min=0.02))
GRIDS = (*[times.uniform_logsnr] * 3, times.uniform)  # the flow begins at T = 1, where alpha = 0


@pytest.fixture(scope="module")
def problems(one_of):
    """For each process grids of 160 and 320 steps, starts at T, and where the exact flow carries them."""
    with jax.enable_x64(True):
        means = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        mixture = dj.GaussianMixture(jnp.full(4, 0.25), means, jnp.tile(0.04 * jnp.eye(2), (4, 1, 1)))
        fine = [jax.jit(grid, static_argnums=1)(sde, 320) for grid, sde in zip(GRIDS, PROCESSES, strict=True)]
        grids = np.stack([stretch(every(ts, (160, 320))) for ts in fine])
        starts = np.stack([STARTS, VP_STARTS, STARTS, VP_STARTS])

        def flow(kind, x, t_start, t_end):
            sde = one_of(kind, PROCESSES)
            solution = dj.sample_ode(mixture.denoiser(sde), sde, x, t_start=t_start, t_end=t_end, rtol=1e-9, atol=1e-9)
            return solution.x

        exact = jax.jit(jax.vmap(flow))(np.arange(4), starts, grids[:, 0, 0], grids[:, 0, -1])
        np.testing.assert_allclose(exact[:2], [EDM_ENDS, VP_ENDS], atol=2e-7)
        return mixture, grids, starts, exact


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "order"), [(dj.Euler(), 1), (dj.DDIM(), 1), (dj.Heun(), 2)], ids=["Euler", "DDIM", "Heun"]
)
def test_orders_of_convergence_on_a_mixture(x64, sampler, order, problems, one_of):
    mixture, grids, starts, exact = problems

    def run(kind, grids, x):
        sde = one_of(kind, PROCESSES)
        return ends(mixture.denoiser(sde), sde, sampler, grids, x)

    errors = np.abs(jax.vmap(run)(np.arange(4), grids, starts) - exact[:, None]).max((2, 3))  # [process, steps]
    measured = np.log2(errors[:, 0] / errors[:, 1])
    assert np.all(np.abs(measured - order) < 0.12), errors


@pytest.mark.slow
def test_ddim_on_uniform_logsnr_has_the_known_errors(x64, four_modes):
    sde = dj.VP()
    known = [0.182, 0.0790, 0.0371, 0.0180, 8.85e-3, 4.39e-3, 2.19e-3]
    grids = every(times.uniform_logsnr(sde, 640), [10, 20, 40, 80, 160, 320, 640])
    end = ends(four_modes.denoiser(sde), sde, dj.DDIM(), stretch(grids), VP_STARTS)
    np.testing.assert_allclose(np.abs(end - np.array(VP_ENDS)).max((1, 2)), known, rtol=4e-3)


def test_ddim_gains_on_unit_gaussian(x64):
    cosine, linear = dj.Cosine(), dj.BetaTable.linear(1000)
    known = [0, 0.5, 0.72855339, 0.85623212, 0.92567649, 0.96216566, 0.98090614]
    ts = times.uniform(cosine, 64, 0.0)
    measured = [gains(cosine, dj.DDIM(), every(ts, counts), 1.0) for counts in ([1], [2, 4, 8, 16, 32, 64])]
    np.testing.assert_allclose(np.concatenate(measured), known, atol=1e-8)
    grids = [times.leading(linear, n) for n in (10, 50, 100, 1000)]
    known = [0.83169588, 0.96407927, 0.98185083, 0.99812429]
    np.testing.assert_allclose(gains(linear, dj.DDIM(), grids, 1.0), known, rtol=1e-7)


def test_cfm_euler_gains(x64):
    sde = dj.Flow()
    """From T = 1 to 0 by plain Euler: the last step, DDIM's, is Euler's too, as x_0 = x - t dx/dt on this path."""
    known = {
        1.0: [0, 0.5, 0.72, 0.85082176, 0.92270422, 0.96061428, 0.98011433],
        0.25: [0, 0.2, 0.34054054, 0.41478455, 0.45568309, 0.47736357, 0.48855529],
    }
    grids = every(times.uniform(sde, 64), [2**k for k in range(7)])
    for s2, expected in known.items():
        np.testing.assert_allclose(gains(sde, dj.Euler(), grids, s2), expected, atol=1e-8)


@pytest.mark.parametrize("sampler", [dj.Heun(), dj.PC(dj.EulerMaruyama(), dj.Langevin(n_steps=2))], ids=["Heun", "PC"])
def test_number_of_network_evaluations(sampler):
    calls = []

    def denoise(x, t, cond=None):
        jax.debug.callback(lambda t: calls.append(float(t)), t)
        return x / 2

    sde = dj.EDM()
    for n in (18, 40):
        calls.clear()
        ts = np.append(np.geomspace(80, 0.002, n, dtype=np.float32), np.float32(0))
        dj.sample(jax.random.key(0), denoise, sde, sampler, ts, jnp.ones((1, 4))).block_until_ready()
        jax.effects_barrier()
        assert len(calls) == (2 * n - 1 if isinstance(sampler, dj.Heun) else 3 * n)
        assert min(calls) > 0  # the denoiser is never evaluated at t = 0


@pytest.mark.slow
def test_adaptive_ode(x64, four_modes):
    sde = dj.EDM(T=5.0)
    solution = dj.sample_ode(four_modes.denoiser(sde), sde, STARTS)
    np.testing.assert_allclose(solution.x, EDM_ENDS, atol=1e-4)
    assert np.all((solution.nfe - 2) % 6 == 0) and np.all(solution.nfe < 150)
    wide = dj.EDM()
    exact = dj.sample_ode(gaussian_denoiser(wide, 0.25), wide, jnp.ones((1, 1)), t_end=0.0, rtol=1e-9, atol=1e-12).x
    np.testing.assert_allclose(exact, 0.006249877933, rtol=5e-7)
    # there and back again
    back = dj.sample_ode(four_modes.denoiser(sde), sde, solution.x, t_start=0.002, t_end=5.0).x
    np.testing.assert_allclose(back, STARTS, rtol=2e-3)
    alone = dj.sample_ode(four_modes.denoiser(sde), sde, STARTS[1:2])
    np.testing.assert_allclose(alone.x[0], solution.x[1], rtol=1e-12)
    assert alone.nfe[0] == solution.nfe[1]


def linear_coefficients(sde, sampler, s2, t, s):
    """(A, B) of x_s = A x_t + B z, read off the sampler's own step."""
    denoise = gaussian_denoiser(sde, s2)
    key, x = jax.random.key(0), jnp.ones((1, 1))
    state = sampler.step(key, denoise, sde, sampler.init(x), t, s, None)
    z = dj.arrays.normal(key, x)
    return state.mean[0, 0], ((state.x - state.mean) / z)[0, 0]


@jax.jit
def final_variance(sde, sampler, s2, ts, ss, last_noise=False):
    """The exact variance of samples begun at variance 1: v <- A^2 v + B^2, the last step's noise left out or kept."""
    A, B = jax.vmap(linear_coefficients, (None, None, None, 0, 0))(sde, sampler, s2, ts, ss)
    B = B.at[-1].set(jnp.where(last_noise, B[-1], 0))
    return jax.lax.scan(lambda v, ab: (ab[0] ** 2 * v + ab[1] ** 2, None), 1.0, (A, B))[0]


@pytest.mark.parametrize(
    ("s2", "small", "large"),
    [(0.25, 0.24612521, 0.25075208), (1.0, 0.99106738, 0.99990000), (4.0, 3.97477657, 3.99056929)],
)
def test_ddpm_ancestral_final_variance(x64, s2, small, large):
    sde = dj.BetaTable.linear(1000)
    ts = times.trailing(sde, 1000)
    np.testing.assert_allclose(final_variance(sde, dj.Ancestral(0.0), s2, ts[:-1], ts[1:]), small, rtol=1e-7)
    np.testing.assert_allclose(final_variance(sde, dj.Ancestral(1.0), s2, ts[:-1], ts[1:]), large, rtol=1e-7)


def test_ancestral_with_the_optimal_variance_recovers_the_data(x64):
    """`large` as a function of the time: all of s2 but the Var(x_0 | x_1) that the last step's mean leaves out."""
    sde = dj.BetaTable.linear(1000)
    ts = times.trailing(sde, 1000)

    def best(s2, x, t, cond):
        s = jnp.maximum(t - 1, 1e-3)  # the last step's noise is left out
        _, b = dj.gaussian.transition(sde, t, s)
        left = s2 * sde.sigma(t) ** 2 / (sde.alpha(t) ** 2 * s2 + sde.sigma(t) ** 2)  # Var(x_0 | x_t)
        ratio = sde.sigma(s) / sde.sigma(t)
        extra = (sde.alpha(s) * b / (sde.sigma(t) * sde.sigma(s))) ** 2 * left  # over v
        return -0.5 * jnp.log1p(extra) / jnp.log(ratio) * jnp.ones_like(x)

    abar_1 = 1 - 1e-4
    for s2 in (0.25, 1.0, 4.0):
        left = s2 * (1 - abar_1) / (abar_1 * s2 + 1 - abar_1)
        variance = final_variance(sde, dj.Ancestral(Partial(best, s2)), s2, ts[:-1], ts[1:])
        np.testing.assert_allclose(variance, s2 - left, rtol=1e-7)


def test_reverse_diffusion_and_ancestral_on_score_sde_s_table(x64):
    """Unit data, whose score is -x at every time, so that the original's mixing of a table with a curve cancels."""
    table = dj.BetaTable.from_betas(np.linspace(0.1 / 1000, 20 / 1000, 1000))
    ts = times.trailing(table, 1000)
    np.testing.assert_allclose(final_variance(table, dj.ReverseDiffusion(), 1.0, ts[:-1], ts[1:]), 1.002707, atol=6e-7)
    np.testing.assert_allclose(final_variance(table, dj.Ancestral(1.0), 1.0, ts[:-1], ts[1:]), 0.9999, atol=6e-5)


@pytest.mark.parametrize(
    ("s2", "em", "ode"), [(0.25, 0.250233, 0.249774), (1.0, 1.00128, 1.0), (4.0, 4.003177, 3.995937)]
)
def test_score_sde_s_own_thousand_steps(x64, s2, em, ode):
    """The original's nodes are (1 - 1e-3)/999 apart while each of its steps is 1/1000: run so, we are where it is."""
    sde, nodes = dj.VP(), jnp.linspace(1, 1e-3, 1000)
    shorter = nodes - 1 / 1000
    shorter = shorter.at[-1].set(1e-30)  # not 0: its last step is an ordinary one
    np.testing.assert_allclose(final_variance(sde, dj.EulerMaruyama(), s2, nodes, shorter), em, rtol=3e-6)
    np.testing.assert_allclose(final_variance(sde, dj.Euler(), s2, nodes, shorter), ode, rtol=3e-6)


def test_euler_maruyama_has_weak_order_1(x64):
    sde, s2 = dj.VP(), 0.25
    exact = float(sde.alpha(1e-3) ** 2 * s2 + sde.sigma(1e-3) ** 2)
    grids = stretch(every(times.uniform(sde, 8000), (250, 500, 1000, 2000, 4000, 8000)))
    run = jax.vmap(lambda ts: final_variance(sde, dj.EulerMaruyama(), s2, ts[:-1], ts[1:], last_noise=True))
    errors = run(grids) - exact
    np.testing.assert_allclose(errors, [1.469e-3, 7.25e-4, 3.60e-4, 1.794e-4, 8.96e-5, 4.47e-5], rtol=2e-3)
    assert np.all(np.abs(orders(errors) - 1) < 0.025)


@pytest.mark.slow
def test_langevin_corrector_has_the_known_stationary_variance(key, optimised):
    """sigma^2 (1 + snr^2) in many dimensions D; each example's own norms add terms of order 1/D."""
    sde, t, D = dj.VE(), 0.5, 4096
    denoise = lambda x, t, cond: 0 * x  # noqa: E731
    for snr, factor in ((0.16, 1.0256), (0.17, 1.0289)):
        x = sde.sigma(t) * jax.random.normal(key, (100, D))
        out = dj.sample(key, denoise, sde, dj.KeepNoise(dj.Langevin(snr)), jnp.full(81, t), x)
        sigma = factor * np.sqrt(2 / out.size)
        assert abs(float(out.var() / sde.sigma(t) ** 2) - factor) < 4 * sigma + 6 / D


@pytest.mark.slow
def test_identities_between_samplers(x64, key, four_modes):
    sde = dj.VP()
    denoise, ts, x = four_modes.denoiser(sde), times.uniform(sde, 20), dj.prior_sample(key, sde, (6, 2))
    run = lambda sampler: dj.sample(key, denoise, sde, sampler, ts, x)  # noqa: E731
    for wrap in (lambda sampler: sampler, dj.KeepNoise):  # eta = 1 is fixed-small ancestral sampling
        np.testing.assert_allclose(run(wrap(dj.DDIM(1.0))), run(wrap(dj.Ancestral())), rtol=1e-9, atol=1e-11)
    # no corrector step: the predictor alone
    none = dj.Langevin(n_steps=0)
    np.testing.assert_array_equal(run(dj.PC(dj.DDIM(), none)), run(dj.DDIM()))
    keys = dj.arrays.example_keys(key, 6)
    step = jax.jit(lambda sampler, keys: sampler.step(keys, denoise, sde, sampler.init(x), 0.5, 0.4, None).x)
    alone = step(dj.EulerMaruyama(), dj.arrays.split(keys)[1])
    np.testing.assert_array_equal(step(dj.PC(dj.EulerMaruyama(), none), keys), alone)
    # eta = 0 is Euler's method for x/alpha as a function of sigma/alpha
    edm, alphas = dj.EDM(T=1e3), sde.alpha(ts)
    levels = sde.sigma(ts) / alphas
    end = dj.sample(key, four_modes.denoiser(edm), edm, dj.Euler(), levels, x / alphas[0])
    np.testing.assert_allclose(run(dj.DDIM()), alphas[-1] * end, rtol=1e-9)


PRIORS = (dj.VP(), dj.SubVP(), dj.VE())


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow][:k], id=type(sde).__name__) for k, sde in enumerate(PRIORS)]
)
@pytest.mark.parametrize(
    "sampler",
    [
        pytest.param(dj.EulerMaruyama(), id="EulerMaruyama"),
        pytest.param(dj.ReverseDiffusion(), id="ReverseDiffusion", marks=pytest.mark.slow),
        pytest.param(dj.Ancestral(), id="Ancestral", marks=pytest.mark.slow),
        pytest.param(dj.PC(dj.ReverseDiffusion(), dj.Langevin(0.1, batch_mean=True)), id="PC", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_every_stochastic_sampler_has_the_mixture_s_distribution(kind, sampler, key, one_of, optimised):
    """Two modes of weight 0.2 and 0.8: 4000 samples give the weight to 0.0063, and 4 sigma of it.

    In two dimensions a Langevin step in proportion to 1/|score| of the example itself is not Langevin dynamics any more
    (its distribution is p |score|^2), so the corrector takes the batch's mean norms here.
    """
    mixture = dj.GaussianMixture(
        jnp.array([0.8, 0.2]), jnp.array([[1.0, 1.0], [-1.0, -1.0]]), jnp.tile(0.04 * jnp.eye(2), (2, 1, 1))
    )
    ts = times.uniform(PRIORS[kind], 500)
    sde = one_of(kind, PRIORS)
    x = dj.sample(key, mixture.denoiser(sde), sde, sampler, ts, dj.prior_sample(key, sde, (4000, 2)))
    right = x[:, 0] > 0
    assert abs(float(right.mean()) - 0.8) < 4 * np.sqrt(0.16 / 4000)
    std = float(x[right].std(axis=0).mean())
    assert abs(std - 0.2) < 4 * 0.2 / np.sqrt(2 * 2 * 3200) + 0.01  # and 0.01 for the steps' own bias

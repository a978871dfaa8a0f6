"""Every solver at the limits: float32, steps of length 0, steps into t = 0, steps out of alpha = 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax.samplers import multistep

PROCESSES = (dj.VP(), dj.SubVP(), dj.VE(), dj.EDM(), dj.Flow(), dj.Cosine(), dj.BetaTable.linear(1000))
ENDS = (1e-3, 1e-3, 1e-5, 0.002, 1e-3, 1e-3, 1.0)
STEPS = (10, 1000)


def posterior_mean(sde, gain, x, t, cond=None):
    """E[x_0 | x_t] for data N(m, gain), off centre and with unequal variances along the last axis."""
    alpha, sigma = dj.gaussian.curves(sde, t, x)
    m, s2 = jnp.array([0.5, -1.0], x.dtype), gain * jnp.array([0.2, 1.5], x.dtype)
    var = alpha**2 * s2 + sigma**2
    return m + alpha * s2 * (x - alpha * m) / jnp.where(var == 0, 1, var)


@pytest.fixture(scope="module")
def grids(one_of):
    """For each process and number of steps a grid in time and one in logsnr, [7 * 2 * 2, 1001], and its process."""

    @jax.jit
    @jax.vmap
    def finest(kind, T, end):
        return dj.times.uniform_logsnr(one_of(kind, PROCESSES, T), STEPS[-1], t_min=end)

    ends = np.array(ENDS, np.float32)
    in_logsnr = np.asarray(finest(np.arange(7), np.array([p.T for p in PROCESSES], np.float32), ends))
    rows, kinds = [], []
    for kind, (sde, end) in enumerate(zip(PROCESSES, ENDS, strict=True)):
        for n in STEPS:
            for ts in (np.linspace(sde.T, end, n + 1), in_logsnr[kind, :: STEPS[-1] // n]):
                rows.append(np.pad(ts, (0, STEPS[-1] - n), mode="edge"))
                kinds.append(kind)
    return np.array(kinds), np.array(rows, np.float32)


DETERMINISTIC = (
    dj.DDIM(),
    dj.Heun(),
    dj.DPMSolver(3),
    dj.DPMpp2M(),
    dj.DPMpp3M(),
    dj.UniPC(4),
    dj.LMS(4),
    dj.DEIS(4),
    dj.PNDM(4),
)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", DETERMINISTIC, ids=str)
def test_float32_stays_near_float64(sampler, grids, one_of):
    """10 and 1000 steps on every process: equal float32 times, and ends that differ by rounding alone."""

    def run(kinds, grids, x):
        def one(row):
            kind, ts = row
            sde = one_of(kind, PROCESSES, jnp.array([p.T for p in PROCESSES], x.dtype)[kind])
            return dj.sample(
                jax.random.key(0), Partial(posterior_mean, sde, 1.0), sde, sampler, ts, sde.sigma(ts[0]) * x
            )

        return jax.lax.map(one, (kinds, grids))

    kinds, ts = grids
    x = np.array([[0.6, 0.2], [-1.4, 2.0]])
    single = jax.jit(run)(kinds, ts, jnp.asarray(x, jnp.float32))
    with jax.enable_x64(True):
        double = jax.jit(run)(kinds, ts.astype(np.float64), x)
    assert single.dtype == np.float32 and double.dtype == np.float64
    size = np.maximum(np.abs(double).max((1, 2)), 1)
    np.testing.assert_array_less(np.abs(single - double).max((1, 2)) / size, 1e-4)


def test_moments_in_float32():
    """To 1e-6 of float64's quadrature, at steps of every length."""
    h = np.geomspace(1e-6, 30, 60)
    tau, w = np.polynomial.legendre.leggauss(200)
    tau, w = (tau + 1) / 2, w / 2
    density = h[:, None] * np.exp(-h[:, None] * (1 - tau)) * w
    exact = np.stack([(density * tau**j).sum(1) for j in range(4)])
    got = jax.vmap(lambda h: multistep.exponential_moments(h, 4), out_axes=1)(h.astype(np.float32))
    np.testing.assert_allclose(got, exact, rtol=2e-5)


LIMITS = {  # one of each kind of step; the warm ones hold the cold ones
    "EulerMaruyama": dj.EulerMaruyama(),
    "ReverseDiffusion": dj.ReverseDiffusion(),
    "Ancestral": dj.Ancestral(0.5),
    "Heun": dj.Heun(),
    "DDIM": dj.DDIM(0.5),
    "PC": dj.PC(dj.Euler(), dj.Langevin(0.1)),
    "AnnealedLangevin": dj.AnnealedLangevin(0.1, 1.0, n_steps=2),
    "DPMpp2S": dj.DPMpp2S(0.5),
    "DPMpp2M": dj.DPMpp2M(0.5),
    "DPMpp3M": dj.DPMpp3M(0.5),
    "UniPC warm": dj.UniPC(3, warm=True),
    "DEIS warm": dj.DEIS(3, warm=True),
}
WITH_NULL = (dj.VP(), dj.Flow(), dj.Cosine(), dj.VE())  # alpha(T) = 0 for two, sigma(0) > 0 for one


QUICK = ("DDIM", "AnnealedLangevin")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in LIMITS])
def test_times_twice_and_both_ends(name, one_of, key):
    """Each time of T, ..., 0 twice: finite, with finite gradients, and for one-step ODE solvers the same as once."""
    sampler, x = LIMITS[name], np.array([[0.6, 0.2], [-1.4, 2.0]], np.float32)
    once = np.array([1.0, 0.7, 0.4, 0.1, 0.0], np.float32)

    def end(kind, gain, ts, scale):
        sde = one_of(kind, WITH_NULL)
        start = scale * sde.sigma(1.0) * x
        return dj.sample(key, Partial(posterior_mean, sde, gain), sde, sampler, ts, start)

    def total(*args):
        out = end(*args)
        return out.sum(), out

    if "warm" in name:  # without gradients, whose programs are large
        assert np.isfinite(
            jax.jit(jax.vmap(end, (0, None, None, None)))(np.arange(4), 1.0, np.repeat(once, 2), 1.0)
        ).all()
        return
    run = jax.jit(jax.vmap(jax.value_and_grad(total, (1, 2, 3), has_aux=True), (0, None, None, None)))
    (_, out), grads = run(np.arange(4), 1.0, np.repeat(once, 2), 1.0)
    assert np.isfinite(out).all()
    assert all(np.isfinite(g).all() for g in grads), grads
    if name == "Heun":
        plain = jax.jit(jax.vmap(end, (0, None, None, None)))(np.arange(4), 1.0, once, 1.0)
        np.testing.assert_allclose(out, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sampler", [dj.EulerMaruyama(), dj.ReverseDiffusion(), dj.AnnealedLangevin(0.1, 1.0)], ids=str)
def test_the_first_step_where_alpha_is_0_has_the_right_size(sampler, key):
    """From T = 1 of the flow to .9 the variance is alpha^2 var(x_0-hat) + sigma^2 = .81; 4 sigma of 10,000 draws."""
    sde = dj.Flow()
    x = dj.prior_sample(jax.random.key(3), sde, (10_000, 2))
    out = dj.sample(key, Partial(posterior_mean, sde, 1.0), sde, sampler, np.array([1.0, 0.9]), x)
    bias = 0.1 if isinstance(sampler, dj.AnnealedLangevin) else 0  # its steps are long ones
    np.testing.assert_allclose(out.var(0), 0.81, atol=4 * 0.81 * np.sqrt(2 / 10_000) + bias)


@pytest.mark.parametrize(
    "sde", [pytest.param(dj.Flow(), id="Flow"), pytest.param(dj.Cosine(), id="Cosine", marks=pytest.mark.slow)]
)
def test_inversion_up_to_alpha_0(sde):
    """The end of the flow of N(0, 1/4) from (t, x): x over its standard deviation."""

    def denoise(x, t, cond=None):
        a, s = dj.gaussian.curves(sde, t, x)
        return a / 4 / (a**2 / 4 + s**2) * x

    x, low = jnp.array([[0.3, -0.8]]), 1e-3
    right = x / np.sqrt(float(sde.alpha(low) ** 2 / 4 + sde.sigma(low) ** 2))
    ts = dj.times.uniform(sde, 200, low)
    for sampler in (dj.DDIM(), dj.DPMpp2S(), dj.DPMpp2M(), dj.UniPC(2), dj.DEIS(2)):
        np.testing.assert_allclose(dj.invert(denoise, sde, sampler, ts, x), right, rtol=0.05)


@pytest.mark.parametrize(
    "sampler",
    [
        dj.DDIM(0.5),
        dj.EulerMaruyama(),
        dj.Ancestral(),
        dj.Renoise(),
        dj.ULA(0.1),
        dj.Jump(),
        dj.DPMpp3M(1.0),
        dj.KeepNoise(dj.DDIM(1.0)),
        dj.PC(dj.DDIM(), dj.Langevin()),
    ],
    ids=lambda s: type(s).__name__,
)
def test_inversion_by_a_stochastic_sampler_is_refused(sampler):
    with pytest.raises(ValueError, match="take a deterministic sampler"):
        dj.invert(lambda x, t, cond=None: x, dj.VP(), sampler, np.array([1.0, 0.5]), jnp.ones((2, 3)))

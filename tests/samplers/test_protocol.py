"""Properties of every sampler and of the driver: shapes, one trace, batch independence, vmap, finite ends, errors."""

import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax.samplers import default_grid as grid
from diffjax.typing import pytree

SAMPLERS = {
    "EulerMaruyama": dj.EulerMaruyama(),
    "ReverseDiffusion": dj.ReverseDiffusion(),
    "Ancestral": dj.Ancestral(),
    "AncestralLarge": dj.Ancestral(large=1.0),
    "AncestralLearned": dj.Ancestral(large=Partial(lambda gain, x, t, cond: gain * x**2 / (1 + x**2), 0.9)),
    "Euler": dj.Euler(),
    "Heun": dj.Heun(),
    "DDIM": dj.DDIM(),
    "DDIM(eta=1)": dj.DDIM(eta=1.0),
    "Langevin": dj.Langevin(snr=0.1),
    "ULA": dj.ULA(0.01),
    "AnnealedLangevin": dj.AnnealedLangevin(0.1, 1.0, n_steps=3),
    "PC": dj.PC(dj.ReverseDiffusion(), dj.Langevin(snr=0.1, n_steps=2)),
    "DPMSolver": dj.DPMSolver(3),
    "DPMpp2S(eta=1)": dj.DPMpp2S(eta=1.0),
    "DPMpp2M": dj.DPMpp2M(),
    "DPMpp3M(eta=1)": dj.DPMpp3M(eta=1.0),
    "UniPC": dj.UniPC(3),
    "LMS": dj.LMS(4),
    "DEIS": dj.DEIS(3),
    "PNDM": dj.PNDM(4),
    "PLMS": dj.PLMS(),
    "Churn": dj.Churn(dj.Heun(), 2.0, 4),
}
DETERMINISTIC = {
    "Euler",
    "Heun",
    "DDIM",
    "DPMSolver",
    "DPMpp2M",
    "UniPC",
    "LMS",
    "DEIS",
    "PNDM",
    "PLMS",
    "Churn",
}  # last steps


QUICK = {"EulerMaruyama", "Ancestral", "Heun", "DDIM(eta=1)", "PC", "DPMpp2M", "UniPC"}  # one of each kind of step


def named(names):
    """These samplers, of which all but one of each kind are for the whole suite alone."""
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.fixture(params=named(SAMPLERS))
def sampler(request):
    return SAMPLERS[request.param]


def shrink(gain, x, t, cond=None):
    """A denoiser with a parameter, for images as well as vectors."""
    return gain * x / (1 + jnp.asarray(t).reshape(-1, *[1] * (x.ndim - 1)))


DENOISE = Partial(shrink, 0.5)


X = np.random.default_rng(0).normal(size=(7, 2, 3, 1)).astype(np.float32)
TS = np.linspace(1, 1e-3, 5, dtype=np.float32)


def test_protocol(sampler, key, request):
    sde = dj.VP()
    path = np.asarray(dj.sample(key, DENOISE, sde, sampler, TS, X, trajectory=True))
    assert path.shape == (5, *X.shape) and path.dtype == np.float32 and np.isfinite(path).all()
    np.testing.assert_array_equal(path[0], X)

    # 7 together equal 7 alone with the same keys, each a batch of its own; their last steps' noise is kept
    def one(key, x):
        return dj.sample(key[None], DENOISE, sde, dj.KeepNoise(sampler), TS, x[None], trajectory=True)

    alone = np.asarray(jax.vmap(one, out_axes=1)(dj.arrays.example_keys(key, 7), X))
    assert alone.shape == (5, 7, 1, 2, 3, 1)
    np.testing.assert_allclose(path[:-1], alone[:-1, :, 0], rtol=1e-5, atol=1e-6)
    if request.node.callspec.params["sampler"] in DETERMINISTIC:
        np.testing.assert_allclose(path[-1], alone[-1, :, 0], rtol=1e-5, atol=1e-6)
    else:
        assert np.abs(path[-1] - alone[-1, :, 0]).max() > 1e-4


@pytest.mark.parametrize("sampler", ["EulerMaruyama", "DDIM(eta=1)", "UniPC"], indirect=True)
def test_a_path_ends_where_the_sample_lies(sampler, key):
    """And an example that is alone has the last mean of the batch."""
    end = dj.sample(key, DENOISE, dj.VP(), sampler, TS, X)
    path = dj.sample(key, DENOISE, dj.VP(), sampler, TS, X, trajectory=True)
    np.testing.assert_allclose(end, path[-1], rtol=1e-5, atol=1e-6)
    alone = dj.sample(dj.arrays.example_keys(key, 7)[3:4], DENOISE, dj.VP(), sampler, TS, X[3:4])
    np.testing.assert_allclose(end[3:4], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "sampler",
    [
        *("DEIS", "Churn"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("DPMSolver", "DPMpp2S(eta=1)", "DPMpp3M(eta=1)", "UniPC")
        ),
    ],
    indirect=True,
)
def test_gradients_through_every_kind_of_step(sampler, key):
    """With respect to the denoiser's parameter and the process, from T to t = 0: those of finite differences."""
    ts, x = jnp.array([1.0, 0.7, 0.4, 0.2, 0.0]), jax.random.normal(key, (4, 3))

    def end(gain, beta_max):
        return dj.sample(key, Partial(shrink, gain), dj.VP(beta_max=beta_max), sampler, ts, x).sum()

    run = jax.jit(jax.value_and_grad(end, (0, 1)))
    grads, h = run(0.5, 20.0)[1], 1e-2
    slope = (run(0.5 + h, 20.0)[0] - run(0.5 - h, 20.0)[0]) / (2 * h)
    np.testing.assert_allclose(grads[0], slope, rtol=2e-2, atol=2e-3)
    h = 0.5
    slope = (run(0.5, 20.0 + h)[0] - run(0.5, 20.0 - h)[0]) / (2 * h)
    np.testing.assert_allclose(grads[1], slope, rtol=5e-2, atol=2e-4)


def known(x0, x, t, cond=None):
    return x0


PROCESSES = (dj.VP(), dj.VE(), dj.Flow(), dj.EDM(), dj.Cosine())


@pytest.mark.parametrize("kind", range(5), ids=[type(sde).__name__ for sde in PROCESSES])
@pytest.mark.parametrize(
    "sampler", named(name for name in SAMPLERS if name not in ("Langevin", "ULA", "PC")), indirect=True
)  # a corrector takes no step
def test_a_step_into_t_0_is_finite_and_returns_the_denoised_image(sampler, kind, key, one_of):
    sde = one_of(kind, PROCESSES, T=PROCESSES[kind].T)
    t = 0.01 * sde.T
    x0, eps = np.random.default_rng(0).normal(size=(2, 8, 3)).astype(np.float32)
    x = dj.gaussian.perturb(sde, x0, t, eps)
    out = dj.sample(key, Partial(known, x0), sde, sampler, np.array([t, 0.0], np.float32), x)
    # x_0, but for VE's sigma(0) = 0.01 and the error of a reverse-diffusion step of 0.01
    assert jnp.abs(out - x0).max() < 0.08


def test_one_trace_over_all_floats_and_none_for_the_second_call(key):
    x, ts = jnp.ones((2, 3)), dj.times.uniform(dj.VP(), 5)

    @chex.assert_max_traces(n=2)  # PC calls the denoiser twice in the one trace of its step
    def denoise(gain, x, t, cond=None):
        return shrink(gain, x, t)

    for beta_max in (10.0, 15.0, 20.0):
        for snr in (0.1, 0.2, 0.3):
            sampler = dj.PC(dj.EulerMaruyama(), dj.Langevin(snr=snr))
            dj.sample(key, Partial(denoise, beta_max), dj.VP(beta_max=beta_max), sampler, ts, x)


@pytest.mark.slow
def test_vmap_over_a_stacked_sde_equals_the_loop(key):
    x, betas = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), [10.0, 15.0, 20.0]
    ts = dj.times.uniform(dj.VP(), 6)

    def run(sde):
        return dj.sample(key, DENOISE, sde, dj.EulerMaruyama(), ts, x)

    stack = jax.tree.map(lambda *leaves: np.array(leaves, np.float32), *[dj.VP(beta_max=b) for b in betas])
    np.testing.assert_allclose(
        jax.vmap(run)(stack), np.stack([run(dj.VP(beta_max=b)) for b in betas]), rtol=1e-5, atol=1e-6
    )
    axes = jax.tree.unflatten(jax.tree.structure(dj.VP()), [None, 0, None, None])
    over_one = jax.vmap(run, in_axes=(axes,))(dj.VP(beta_max=jnp.array(betas)))
    np.testing.assert_allclose(over_one[1], run(dj.VP(beta_max=15.0)), rtol=1e-5, atol=1e-6)


def test_vmap_over_eta_and_gradients_through_the_sampler(key):
    x, ts = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), dj.times.uniform(dj.VP(), 6)
    run = lambda eta, gain: dj.sample(key, Partial(shrink, gain), dj.VP(), dj.DDIM(eta), ts, x).sum()  # noqa: E731
    etas, alone = np.array([0.0, 0.5, 1.0], np.float32), jax.jit(run)
    values, grads = jax.jit(jax.vmap(jax.value_and_grad(run, (0, 1)), (0, None)))(etas, 0.5)
    np.testing.assert_allclose(values, [alone(e, 0.5) for e in etas], rtol=1e-4)
    assert all(np.isfinite(g).all() for g in grads)  # at eta = 0 too
    h = 1e-2
    np.testing.assert_allclose(grads[1][1], (alone(0.5, 0.5 + h) - alone(0.5, 0.5 - h)) / (2 * h), rtol=2e-2)


def test_compile_time_does_not_grow_with_the_steps(key):
    x = jnp.ones((2, 3))

    def first_call(n):
        start = time.perf_counter()
        dj.sample(key, DENOISE, dj.VP(), dj.Heun(), dj.times.uniform(dj.VP(), n), x)
        return time.perf_counter() - start

    first_call(3)
    assert first_call(1000) < 4 * first_call(10) + 1


def test_low_precision_states_are_promoted_and_float64_is_kept(key, x64):
    sde, ts = dj.VP(), dj.times.uniform(dj.VP(), 2)
    assert dj.sample(key, DENOISE, sde, dj.DDIM(), ts, jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.float32
    assert dj.sample(key, DENOISE, sde, dj.DDIM(1.0), ts, jnp.ones((2, 3), jnp.float64)).dtype == jnp.float64


@pytest.mark.parametrize(
    ("ts", "message"),
    [
        ([1.0], "n >= 1 steps"),
        ([[1.0, 0.0]], "n >= 1 steps"),
        ([0.1, 0.9], "reverse the grid"),
        ([1.0, float("nan")], "must fall"),
        ([float("nan"), 0.5], "must fall"),
        ([1.5, 0.1], r"\[0, T = 1.0\]"),
        ([1.0, -0.1], r"\[0, T = 1.0\]"),
    ],
)
def test_bad_grids(key, ts, message):
    with pytest.raises(ValueError, match=message):
        dj.sample(key, DENOISE, dj.VP(), dj.DDIM(), jnp.array(ts), jnp.ones((2, 3)))


def test_bad_states_keys_and_denoisers(key):
    ts = dj.times.uniform(dj.VP(), 2)
    with pytest.raises(ValueError, match="float array"):
        dj.sample(key, DENOISE, dj.VP(), dj.DDIM(), ts, jnp.ones((2, 3), int))
    with pytest.raises(ValueError, match="one key or 2 keys"):
        dj.sample(jax.random.split(key, 3), DENOISE, dj.VP(), dj.DDIM(), ts, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="must keep the shape"):
        dj.sample(key, lambda x, t, cond: x[:, :1], dj.VP(), dj.DDIM(), ts, jnp.ones((2, 3)))
    with pytest.raises(TypeError, match="expected a denoiser"):
        dj.sample(key, jnp.ones(3), dj.VP(), dj.DDIM(), ts, jnp.ones((2, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"times must lie in"):
        dj.sample_ode(DENOISE, dj.VP(), jnp.ones((2, 3)), t_end=1.2)
    with pytest.raises(ValueError, match="float array"):
        dj.sample_ode(DENOISE, dj.VP(), jnp.ones((2, 3), int))
    with pytest.raises(FloatingPointError, match=r"examples \[1\] was not solved in 4096 steps: look for NaN"):
        dj.sample_ode(
            lambda x, t, cond: jnp.where(x < 0, jnp.nan, 0.5 * x), dj.VP(), jnp.array([[1.0, 2.0], [-1.0, 1.0]])
        )


def test_default_grids(key):
    """The solver's own, also where it is wrapped; n steps from T to the data."""
    for sde in (dj.VP(), dj.EDM(), dj.Flow(), dj.Cosine(), dj.BetaTable.linear(100)):
        for sampler in (dj.DPMpp2M(), dj.KeepNoise(dj.Euler()), dj.PC(dj.EulerMaruyama(), dj.Langevin())):
            ts = grid(sampler, sde, 10)
            assert ts.shape == (11,) and ts[0] == sde.T and ts[-1] <= sde.t_min * 1.01 and (jnp.diff(ts) < 0).all()
    np.testing.assert_array_equal(grid(dj.Euler(), dj.Flow(), 4), dj.times.uniform(dj.Flow(), 4))
    np.testing.assert_allclose(
        grid(dj.samplers.Jump(), dj.Cosine(), 4), dj.times.uniform(dj.Cosine(), 4, 0.0), atol=1e-6
    )
    np.testing.assert_array_equal(grid(dj.Renoise(1.0), dj.VP(), 4), grid(dj.samplers.Jump(1.0), dj.VP(), 4))
    np.testing.assert_array_equal(grid(dj.Renoise(0.5), dj.VP(), 4), grid(dj.DDIM(), dj.VP(), 4))
    np.testing.assert_array_equal(grid(dj.AnnealedLangevin(), dj.VE(), 4), dj.times.geometric(dj.VE(), 4))
    with pytest.raises(TypeError, match="n must be an integer"):
        grid(dj.DDIM(), dj.VP(), 2.5)


RUN = {
    "key": jax.random.key(0),
    "denoise": DENOISE,
    "sde": dj.VP(),
    "sampler": dj.DDIM(),
    "ts": [1.0, 0.5, 0.001],
    "x": [[0.1, 0.2], [0.3, 0.4]],
}


@pytree
class InNumPy:
    T: float = 1.0

    def alpha(self, t):
        return np.cos(t)

    def sigma(self, t):
        return np.sin(t)


class Plain:
    """A sampler that JAX does not take for a pytree."""

    def init(self, x):
        return x

    def step(self, *args):
        return args[3]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"key": 0}, "jax.random.key"),
        ({"key": np.zeros(2, np.uint32)}, "jax.random.key"),
        ({"sampler": dj.DDIM}, r"did you mean DDIM\(\)"),
        ({"sampler": "ddim"}, "expected a sampler"),
        ({"sampler": Plain()}, "decorate it with @dj.pytree"),
        ({"sampler": np.array([1.0, 0.0]), "ts": dj.DDIM()}, "expected a sampler"),
        ({"sampler": dj.DDIM(jnp.ones(2))}, "eta of DDIM must be one number"),
        ({"sampler": dj.Renoise(jnp.ones(3))}, "one for each of 2 examples"),
        ({"denoise": dj.VP(), "sde": DENOISE}, "expected an SDE"),
        ({"denoise": "model"}, "expected a denoiser"),
        ({"denoise": lambda x, t, cond: (x, x)}, "must return one array"),
        ({"denoise": dj.Empirical(jnp.ones((3, 2))).denoiser(dj.EDM())}, "was made for"),
        ({"cond": {"label": jnp.zeros(3)}}, "for 2 examples"),
        ({"ts": 10}, "must be .n . 1. times"),
        ({"ts": None}, "ts must be times"),
        ({"ts": ["1.0", "0.0"]}, "ts must be times"),
        ({"ts": [[1.0], [0.5, 0.1]]}, "ts must be times"),
        ({"x": np.zeros((2, 4, 4, 1), np.uint8)}, "scale pictures"),
        ({"x": (4, 2)}, "prior_sample"),
        ({"x": {"x": 1.0}}, "got dict"),
        ({"x": np.ones((2, 2), complex)}, "float array"),
        ({"sde": InNumPy()}, r"InNumPy must be written with jax\.numpy"),
    ],
)
def test_wrong_arguments(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        dj.sample(**RUN | wrong)


def test_lists_and_integers_are_converted():
    as_arrays = RUN | {"ts": np.array(RUN["ts"], np.float32), "x": np.array(RUN["x"], np.float32)}
    np.testing.assert_array_equal(dj.sample(**RUN), dj.sample(**as_arrays))
    one_step = [dj.sample(**RUN | {"ts": ts}) for ts in ((1, 0), np.array([1.0, 0.0], np.float16))]
    np.testing.assert_array_equal(*one_step)

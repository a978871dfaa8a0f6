"""Denoisers from networks that output the exact target give the exact posterior mean."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import precondition
from diffjax.sde import gaussian

S2 = 0.3  # variance of N(0, S2) data, for which E[x_0 | x] = alpha S2 x / (alpha^2 S2 + sigma^2)


def ideal(sde, x, t, s2=S2):
    alpha, sigma = gaussian.curves(sde, t, x)
    return alpha * s2 * x / (alpha**2 * s2 + sigma**2)


@pytest.mark.parametrize("sde", [dj.VP(), dj.VE(), dj.Flow(), dj.EDM()], ids=lambda sde: type(sde).__name__)
@pytest.mark.parametrize("name", ["eps", "score", "v", "velocity", "x0"])
def test_each_prediction(x64, key, sde, name):
    x, t = np.random.default_rng(0).normal(size=(6, 2)), np.linspace(0.1, 0.9, 6) * sde.T
    options, seen = {"scaled": False} if name == "score" else {}, []

    @jax.jit
    def run(x, t):
        x0 = ideal(sde, x, t)
        target = x0 if name == "x0" else getattr(gaussian, f"{name}_from_x0")(sde, x, t, x0)
        network = lambda x, c_noise, cond=None: (seen.append(c_noise), target)[1]  # noqa: E731
        denoise = getattr(precondition, f"from_{name}")(sde, network, precondition.scaled_time, **options)
        return x0, denoise(x, t), seen[0]

    x0, got, c_noise = run(x, t)
    np.testing.assert_allclose(got, x0, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(c_noise, 999 * t / sde.T)
    denoise = getattr(precondition, f"from_{name}")(sde, lambda x, c, cond=None: x, **options)
    assert not jax.tree_util.all_leaves([denoise])  # a pytree, with the SDE's floats as leaves


def test_scaled_score(x64, key):
    sde, x = dj.VE(), jax.random.normal(key, (6, 2))
    t = jnp.linspace(0.1, 0.9, 6)
    x0 = ideal(sde, x, t)
    F = gaussian.bcast(sde.sigma(t), x) * gaussian.score_from_x0(sde, x, t, x0)
    denoise = precondition.from_score(sde, lambda x, c, cond: F)
    np.testing.assert_allclose(denoise(x, t), x0, rtol=1e-9)


def test_from_denoiser_to_score_and_back(x64, key, four_modes):
    sde, x, t = dj.VP(), jax.random.normal(key, (6, 2)), jnp.linspace(0.1, 0.9, 6)
    score = precondition.to_score(sde, four_modes.denoiser(sde))
    log_prob = lambda x, t: four_modes.log_prob_at(sde, x[None], t)[0]  # noqa: E731
    back = precondition.from_score(sde, score, precondition.time, scaled=False)
    gradient, x0 = jax.jit(lambda: (jax.vmap(jax.grad(log_prob))(x, t), four_modes.denoise(sde, x, t)))()
    scores, again = jax.jit(lambda: (score(x, t), back(x, t)))()
    np.testing.assert_allclose(scores, gradient, rtol=1e-8)
    np.testing.assert_allclose(again, x0, rtol=1e-8)
    assert not jax.tree_util.all_leaves([score])


@pytest.mark.parametrize("sde", [dj.EDM(), dj.VP()], ids=["EDM", "VP"])
def test_edm_keeps_the_network_at_unit_variance(x64, key, sde):
    sd, t = 0.5, jnp.full(20000, 0.4) * sde.T
    x0 = sd * jax.random.normal(key, (20000, 1))
    eps = jax.random.normal(jax.random.key(1), x0.shape)
    x = gaussian.perturb(sde, x0, t, eps)
    seen = {}

    def network(x, c_noise, cond=None):
        seen.update(x=x, c_noise=c_noise)
        return jnp.zeros_like(x)

    D = precondition.edm(sde, network, sd)(x, t)
    np.testing.assert_allclose(seen["x"].std(), 1, atol=4 / np.sqrt(40000))  # 4 sigma
    np.testing.assert_allclose(seen["c_noise"], np.log(sde.sigma(t) / sde.alpha(t)) / 4)
    # F = 0 is the optimum for N(0, sd^2) data, and its weighted loss is exactly 1: here within 4 sigma (var 2)
    np.testing.assert_allclose(D, ideal(sde, x, t, sd**2), rtol=1e-9)
    loss = dj.losses.weightings.edm(sde, t)[:, None] * (D - x0) ** 2
    assert abs(float(loss.mean()) - 1) < 4 * np.sqrt(2 / 20000)


def test_the_index_of_ncsn_s_levels(x64):
    L, sde = 10, dj.VE(0.01, 1.0)
    t = 1 - jnp.arange(L) / (L - 1)
    np.testing.assert_allclose(sde.sigma(t), np.geomspace(1.0, 0.01, L), rtol=1e-12)  # the grid, the noisiest first
    np.testing.assert_array_equal(precondition.level(L)(sde, t), np.arange(L))
    between = jnp.clip(t[:, None] + jnp.array([-0.49, 0.49]) / (L - 1), 0, 1)
    np.testing.assert_array_equal(precondition.level(L)(sde, between), np.repeat(np.arange(L)[:, None], 2, 1))
    assert precondition.level(1)(sde, 0.3) == 0
    with pytest.raises(ValueError, match="at least 1"):
        precondition.level(0)


def test_a_network_that_changes_the_shape_is_named():
    denoise = precondition.from_eps(dj.VP(), lambda x, c, cond: x[..., :1])
    with pytest.raises(ValueError, match="must keep the shape"):
        denoise(jnp.zeros((2, 3)), 0.5)


def test_bf16_networks_leave_the_arithmetic_in_float32():
    sde = dj.VP()
    denoise = precondition.from_eps(sde, lambda x, c, cond: x.astype(jnp.bfloat16))
    assert denoise(jnp.ones((2, 3)), 0.5).dtype == jnp.float32


def test_a_denoiser_crosses_jit_with_its_parameters_as_arguments():
    def network(params, x, c_noise, cond=None):
        return params["w"] * x

    traces = []

    @jax.jit
    def call(denoise, x):
        traces.append(0)
        return denoise(x, 0.5)

    for w in (1.0, 2.0):
        denoise = precondition.from_x0(dj.VP(), Partial(network, {"w": jnp.array(w)}))
        assert float(call(denoise, jnp.ones((1, 1)))[0, 0]) == w
    assert len(traces) == 1


def test_learned_range_splits_the_channels_and_costs_one_network(key):
    """`cost_analysis` counts the network's multiplications once where mean and variance stand under one jit."""
    sde = dj.BetaTable.linear(100)

    def network(w, x, c_noise, cond=None):
        h = jnp.tanh(x @ w + gaussian.bcast(c_noise, x))
        return h @ w.T @ jnp.ones((w.shape[0], 2 * x.shape[-1]))

    w = jax.random.normal(key, (8, 64))
    first, large = precondition.learned_range(sde, Partial(network, w), precondition.time_index)
    denoise = precondition.from_eps(sde, first, precondition.time_index)
    x, t = jax.random.normal(jax.random.key(1), (4, 8)), 3.0
    F = network(w, x, jnp.asarray(2.0))
    np.testing.assert_allclose(large(x, t), (F[:, 8:] + 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(denoise(x, t), gaussian.x0_from_eps(sde, x, t, F[:, :8]), rtol=1e-6)

    def flops(*functions):
        f = lambda x: [function(x, t) for function in functions]  # noqa: E731
        return jax.jit(f).lower(x).compile().cost_analysis()["flops"]

    assert flops(denoise, large) < 1.05 * flops(denoise)
    with pytest.raises(ValueError, match="twice the channels"):
        precondition.learned_range(sde, lambda x, c, cond: x)[1](x, t)


def test_a_network_of_one_process_in_the_clock_of_another(x64, key):
    vp, cosine = dj.VP(), dj.Cosine()
    network = lambda x, c_noise, cond=None: x * jnp.sin(c_noise)[:, None]  # noqa: E731
    own = precondition.from_v(vp, network)
    x, t = jax.random.normal(key, (3, 2)), jnp.array([0.2, 0.6, 0.9])
    moved = precondition.from_v(cosine, network, precondition.clock(vp))
    both = jax.jit(lambda x, t: (moved(x, t), dj.gaussian.rescale(own, vp, cosine)(x, t)))
    np.testing.assert_allclose(*both(x, t), rtol=1e-6)
    assert precondition.clock(vp)(cosine, 1.0) == precondition.scaled_time(
        vp, 1.0
    )  # sigma/alpha infinite: c_noise at T
    np.testing.assert_allclose(precondition.scaled_by(20.0)(dj.EDM(T=4.0), jnp.array([1.0, 4.0])), [5, 20])


# -- what a network gets


def shapes_of(seen):
    """A network that writes down its noise levels, and relies on their shape."""

    def network(x, c_noise, cond=None):
        for c in c_noise if isinstance(c_noise, tuple) else (c_noise,):
            seen.append((c.shape, c.dtype))
            x = x + 0.01 * c.reshape(len(x), *[1] * (x.ndim - 1))
        return x

    return network


MAKERS = {
    "v": precondition.from_v,
    "level": lambda sde, net: precondition.from_score(sde, net, precondition.level(10)),
    "index": lambda sde, net: precondition.from_x0(sde, net, precondition.time_index),
    "time": lambda sde, net: precondition.from_velocity(sde, net, precondition.time),
    "clock": lambda sde, net: precondition.from_v(sde, net, precondition.clock(dj.Cosine())),
    "edm": precondition.edm,
    "consistency": precondition.consistency,
    "large": lambda sde, net: precondition.learned_range(sde, lambda *a: jnp.concatenate([net(*a)] * 2, -1))[1],
    "ctm": lambda sde, net: dj.flow_maps.ctm(sde, net).to(0.0),
    "diagonal": lambda sde, net: dj.flow_maps.average_velocity(sde, net).diagonal,
    "duration": lambda sde, net: dj.flow_maps.average_velocity(sde, net, dj.flow_maps.Duration()).to(0.0),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_network_gets_one_noise_level_for_each_example(name):
    """Whatever t is, also a Python or NumPy integer, and with images of odd sizes."""
    seen, x = [], np.random.default_rng(0).normal(size=(3, 5, 1, 2)).astype(np.float32)
    denoise = MAKERS[name](dj.VP(0.1, 2.0, T=4.0), shapes_of(seen))
    run = jax.jit(denoise)
    outs = [run(x, t) for t in (2.0, 2, np.int64(2), np.float64(2), jnp.full(3, 2, jnp.bfloat16), np.full(3, 2))]
    outs.append(denoise(x, 2))
    assert set(seen) == {((3,), jnp.dtype(jnp.float32))}
    for out in outs:
        assert out.dtype == jnp.float32
        np.testing.assert_allclose(out, outs[0], rtol=1e-6)
    for t in (np.zeros(4), np.zeros((3, 1))):
        with pytest.raises(ValueError, match="one for each example"):
            denoise(x, t)


def test_such_a_network_runs_in_every_driver(key):
    sde, x = dj.VP(), jnp.ones((2, 2))
    denoise = precondition.from_v(sde, shapes_of(seen := []))
    flow = dj.flow_maps.average_velocity(sde, shapes_of(seen))
    for run in (
        lambda: dj.sample(key, denoise, sde, dj.DDIM(), dj.times.uniform(sde, 2), x),
        lambda: dj.sample(key, flow, sde, dj.Jump(), dj.times.uniform(sde, 2), x),
        lambda: dj.sample_ode(denoise, sde, x).x,
        lambda: dj.log_likelihood(key, denoise, sde, x),
    ):
        jax.eval_shape(run)
    assert {shape for shape, _ in seen} == {(2,), (1,)}  # a batch, and one example within vmap


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_the_dtype_of_x_stays_and_the_arithmetic_is_no_coarser_than_float32(dtype, x64):
    sde, x = dj.VP(), jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), dtype)
    for make in (precondition.from_eps, precondition.edm, precondition.consistency):
        denoise = make(sde, lambda x, c, cond: 0.3 * jnp.ones_like(x, float))
        exact = denoise(x.astype(float), 0.9)
        for t in (0.9, jnp.float32(0.9), jnp.full(4, 0.9)):
            out = denoise(x, t)
            assert out.dtype == dtype
            np.testing.assert_allclose(np.asarray(out, float), exact, rtol=float(jnp.finfo(dtype).eps), atol=2e-5)


# -- where alpha or sigma is 0


ENDS = {"Flow": dj.Flow(), "Cosine": dj.Cosine(), "VP": dj.VP(), "EDM": dj.EDM(), "VE": dj.VE()}


@pytest.mark.parametrize("name", ENDS)
def test_preconditionings_and_noise_levels_at_both_ends(name):
    """Finite values and gradients at t = 0 and T and beside them, and the limits of the docstring."""
    sde, x = ENDS[name], jnp.asarray(np.random.default_rng(2).normal(size=(3, 2)), jnp.float32)
    network = lambda x, c, cond=None: jnp.tanh(x) + 0.1 * jnp.sin(c)[:, None]  # noqa: E731
    levels = (precondition.log_sigma, precondition.quarter_log_sigma, precondition.scaled_time, precondition.level(7))

    def values(t):
        out = [c(sde, t) for c in levels] + [precondition.clock(dj.VP(), c)(sde, t) for c in levels]
        for make in (precondition.edm, partial(precondition.consistency, eps=0.01 * sde.T)):
            out.append(make(sde, network)(x, t).sum())
        return jnp.stack(out)

    @jax.jit
    def both(t):
        return jax.jvp(values, (t,), (jnp.ones(()),)), precondition.edm(sde, network)(x, t)

    T = np.float32(sde.T)
    for t in (np.float32(0), np.float32(1e-30), np.float32(1e-7) * T, np.nextafter(T, np.float32(0)), T):
        assert all(np.isfinite(v).all() for v in both(t)[0]), t
    alpha, sigma = (np.float64(c(T)) for c in (sde.alpha, sde.sigma))
    if alpha == 0:
        c = 24 * np.log(2) / 4
        F = np.tanh(np.asarray(x, float) / sigma) + 0.1 * np.sin(c)
        np.testing.assert_allclose(both(T)[1], 0.5 * F, rtol=1e-5)
    if float(sde.sigma(0.0)) == 0:
        np.testing.assert_allclose(both(np.float32(0))[1], x / sde.alpha(0.0), rtol=1e-6)


def test_a_prediction_of_eps_does_not_start_where_alpha_is_0(key):
    x, net = jnp.ones((2, 2)), lambda x, c, cond=None: 0.5 * x
    for sde, make in ((dj.Flow(), precondition.from_eps), (dj.Cosine(), precondition.from_score)):
        denoise, ts = make(sde, net), dj.times.uniform(sde, 3)
        for guided in (denoise, dj.guidance.corrected(denoise, dj.corrections.Clip())):
            with pytest.raises(ValueError, match="says nothing of x_0"):
                dj.sample(key, guided, sde, dj.DDIM(), ts, x)
            with pytest.raises(ValueError, match="says nothing of x_0"):
                dj.sample_ode(guided, sde, x)
        assert np.isfinite(dj.sample(key, denoise, sde, dj.DDIM(), 0.9 * ts, x)).all()
    carried = dj.rescale(precondition.from_eps(dj.VP(), net), dj.VP(), dj.Flow())
    precondition.check_start(carried, dj.times.uniform(dj.Flow(), 3))
    precondition.check_start(precondition.from_eps(dj.VP(), net), 1.0)


# -- a denoiser carries its SDE


def test_the_process_of_whatever_is_made_of_denoisers(four_modes):
    vp, cosine = dj.VP(), dj.Cosine()
    net = lambda x, c, cond=None: x  # noqa: E731
    guide, maps = dj.guidance, dj.flow_maps
    d = precondition.from_v(vp, net)
    flow = maps.average_velocity(vp, net)
    of_vp = [
        d,
        precondition.edm(vp, net),
        precondition.from_v(vp, net, precondition.clock(cosine)),
        precondition.to_score(vp, d),
        four_modes.denoiser(vp),
        dj.Empirical(jnp.ones((3, 2))).denoiser(vp),
        dj.Boxes(jnp.zeros((1, 2)), jnp.ones((1, 2))).denoiser(vp),
        dj.rescale(precondition.from_v(cosine, net), cosine, vp),
        guide.cfg(guide.corrected(d, dj.corrections.Clip()), 2.0, {"label": 3}),
        guide.interval(d, four_modes.denoiser(vp), 0.1, 0.5),
        guide.autoguidance(d, precondition.from_x0(dj.VP(jnp.float32(0.1), T=np.float64(1)), net), 2.0),
        jax.jit(d),
        Partial(jax.jit(lambda denoise, x, t, cond=None: denoise(x, t, cond)), d),
        *(flow, flow.to(0.1), flow.diagonal, maps.guided(flow, 2.0), maps.ctm(vp, net), maps.to_end(d)),
        *(maps.ddim_step(vp, d), maps.along(vp, d, np.array([1.0, 0.0])), four_modes.flow_map(vp)),
    ]
    for made in of_vp:
        assert precondition.process_of(made) == vp, made
        precondition.check_process(made, dj.VP(t_min=0.1))  # where sampling stops is no part of the process
        precondition.check_process(dj.typing.as_partial(made), vp)
        for other in (cosine, dj.VP(beta_max=10.0)):
            with pytest.raises(ValueError, match=r"made for VP.*`dj.rescale"):
                precondition.check_process(made, other)
    assert precondition.process_of(lambda x, t, cond: x) is None
    for mixed in (
        lambda: guide.autoguidance(d, precondition.from_v(cosine, net), 2.0),
        lambda: guide.interval(four_modes.denoiser(cosine), d, 0.1, 0.5),
        lambda: dj.rescale(precondition.from_v(cosine, net), vp, cosine),
    ):
        with pytest.raises(ValueError, match="made for"):
            precondition.check_process(mixed(), vp)


def test_traced_numbers_of_a_process_are_not_compared(key):
    x, traces = jnp.ones((2, 2)), []

    @jax.jit
    def run(sde, other):
        traces.append(0)
        denoise = precondition.from_v(sde, lambda x, c, cond=None: x)
        return dj.sample(key, denoise, other, dj.DDIM(), jnp.array([1.0, 0.1]), x)

    for beta in (10.0, 20.0):
        run(dj.VP(beta_max=beta), dj.VP())
    assert len(traces) == 1
    with pytest.raises(ValueError, match="made for"):
        run(dj.VP(), dj.Cosine())


# -- errors


def test_what_is_no_network_or_sde_is_named(key):
    vp, x, net = dj.VP(), jnp.ones((2, 2)), dj.nn.MLP(width=4, depth=1)
    bound = Partial(net.apply, {"params": {}})

    class Plain:
        T, t_min = 1.0, 0.0
        alpha = sigma = staticmethod(lambda t: t)

    no_parameters = "has no parameters here"
    for make, error, message in (
        (lambda: precondition.from_v(bound, vp), TypeError, "expected an SDE, such as dj.VP"),
        (lambda: precondition.from_v(dj.VP, bound), TypeError, r"did you mean VP\(\)"),
        (lambda: precondition.edm(Plain(), bound), TypeError, "decorate it with @dj.pytree"),
        (lambda: precondition.clock("VP"), TypeError, "expected an SDE"),
        *(
            ((lambda f=f: precondition.from_v(vp, f)), TypeError, no_parameters)
            for f in (net, net.apply, Partial(net.apply))
        ),
        (lambda: dj.flow_maps.ctm(vp, jax.jit(net.apply)), TypeError, no_parameters),
        (lambda: dj.sample(key, net.apply, vp, dj.DDIM(), np.array([1.0, 0.5]), x), TypeError, no_parameters),
        (lambda: precondition.check_process(bound, vp), TypeError, "this is a network, not a denoiser"),
        (lambda: precondition.from_v(vp, None), TypeError, "expected a function"),
        (lambda: precondition.from_v(vp, lambda x: x), ValueError, "expected a network"),
        (lambda: precondition.from_v(vp, bound, 3.0), TypeError, "expected a function"),
        (lambda: precondition.from_v(vp, bound, lambda t: t), ValueError, "expected c_noise"),
        (lambda: precondition.edm(vp, bound, 0.0), ValueError, "sigma_data must be"),
        (lambda: precondition.consistency(vp, bound, -1.0), ValueError, "sigma_data must be"),
        (lambda: precondition.level(2.5), TypeError, "must be an integer"),
        (lambda: precondition.scaled_by("7"), TypeError, "must be a number"),
        (lambda: precondition.to_score(dj.Flow(), precondition.from_v(vp, bound)), ValueError, "made for VP"),
        (lambda: dj.flow_maps.average_velocity(bound, vp), TypeError, "expected an SDE"),
    ):
        with pytest.raises(error, match=message):
            make()


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (lambda x, c, cond: (x, x), TypeError, "one array shaped like x, got tuple"),
        (lambda x, c, cond: None, TypeError, "one array shaped like x, got NoneType"),
        (lambda x, c, cond: [x], TypeError, "one array shaped like x, got list"),
        (lambda x, c, cond: x[:, 0], ValueError, "must keep the shape"),
        (lambda x, c, cond: x * 1j, TypeError, "real numbers"),
        (lambda x, c, cond: np.sin(np.asarray(x)), TypeError, "the network uses NumPy"),
        (lambda x, c, cond: x if c[0] > 0 else -x, TypeError, "the network branches on a value"),
        (lambda x, c, cond: x * float(c[0]), TypeError, "the network branches on a value"),
    ],
)
def test_what_a_network_returns_is_looked_at(network, error, message):
    vp, x = dj.VP(), jnp.ones((2, 2))
    for call in (
        precondition.from_v(vp, network),
        precondition.edm(vp, network),
        dj.flow_maps.average_velocity(vp, network).to(0.0),
        dj.flow_maps.ctm(vp, lambda x, c, cond: network(x, c[0], cond)).diagonal,
    ):
        with pytest.raises(error, match=message):
            jax.jit(lambda x, t, call=call: call(x, t))(x, 0.5)
    for wrong in (np.ones((2, 2), np.uint8), jnp.ones((2, 2), complex)):
        with pytest.raises(TypeError, match="array of floats"):
            precondition.from_v(vp, network)(wrong, 0.5)

"""Every few-step loss at the exact flow map: it is 0 there, or at its known minimum, its gradient is 0, and not beside.

In double precision, so that 0 is 0; the four points of the case make expectations exact.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import diffjax as dj
from diffjax import losses, precondition, times
from diffjax.losses import distillation as d

FLOW, COSINE, EDM = dj.Flow(t_min=0.01), dj.Cosine(), dj.EDM()


@pytest.fixture(autouse=True)
def double(x64):
    pass


def zero_at_truth(case, loss, on_other_flow_maps):
    """Whether the map of other data, a flow map as well, also has the loss 0: without a teacher it must."""
    truth, other, off = case.residuals(loss, case.batch)
    assert abs(truth[0]) < 1e-15 and truth[1] < 1e-9, truth
    assert off[0] > 1e-5 and off[1] > 1e-5, off
    if on_other_flow_maps:
        assert abs(other[0]) < 1e-15 and other[1] < 1e-9, other
    else:
        assert other[0] > 1e-6 and other[1] > 1e-5, other


@pytest.mark.parametrize(
    "residual", [d.lagrangian, d.eulerian, d.progressive_uniform, d.progressive_midpoint], ids=lambda f: f.__name__
)
def test_self_distillation(case, residual):
    at = case.At((0.8, 0.3))
    zero_at_truth(case, d.SelfDistillation(FLOW, at, residual, case.network, case.flow_map), True)


@pytest.mark.parametrize("residual", [d.lagrangian, d.eulerian], ids=lambda f: f.__name__)
def test_map_matching(case, residual):
    loss = d.SelfDistillation(FLOW, case.At((0.8, 0.3)), residual, case.network, case.flow_map, case.teacher(FLOW))
    zero_at_truth(case, loss, False)


def test_consistency_distillation(case):
    """With the exact flow as the teacher's step the loss is 0 at x sqrt((e^2 + s2)/(t^2 + s2))."""
    at, net = case.At((2.0, 1.0)), (case.network, case.consistency)
    zero_at_truth(case, d.Consistency(EDM, at, *net, case.exact(EDM)), False)
    into_zero = d.Consistency(dj.Flow(), case.At((0.8, 0.0)), *net, case.exact(FLOW))
    zero_at_truth(case, into_zero, False)


def test_trajectories(case):
    loss = d.Trajectory(FLOW, case.At((0.9, 0.7, 0.3)), case.exact(FLOW), case.network, case.flow_map)
    zero_at_truth(case, loss, False)
    # on to u = s, plain distillation of the teacher's steps, and to s = 0, where no further jump is made
    for stops in ((0.9, 0.5, 0.5), (0.9, 0.7, 0.0), (0.9, 0.0, 0.0)):
        value, grad = case.value_and_grad(dataclasses.replace(loss, stops=case.At(stops)), case.truth, case.batch)
        assert value < 1e-15 and max(map(abs, grad.values())) < 1e-9


def average(params, x, c_noise, cond=None, *, train, rngs):
    """u of the straight path, without a division by t - s: x ((1 + v)(t + s) - 2v) / (r_t (r_t + r_s)), plus b x."""
    (t, s), v = c_noise, params["v"]
    r_t, r_s = (jnp.sqrt((1 - c) ** 2 * v + c**2) for c in (t, s))
    return (((1 + v) * (t + s) - 2 * v) / (r_t * (r_t + r_s)) - params["b"])[:, None] * x


def mean_flow(case, **options):
    levels = dj.flow_maps.Both(precondition.time)
    return d.MeanFlow(FLOW, case.At((0.8, 0.3)), average, levels, power=0.0, **options)


@pytest.mark.parametrize("improved", [False, True])
def test_mean_flow_from_a_teacher(case, improved):
    zero_at_truth(case, mean_flow(case, improved=improved, teacher=case.teacher(FLOW)), False)


@pytest.mark.parametrize(("improved", "t", "s"), [(False, 0.8, 0.3), (True, 0.8, 0.3), (False, 0.6, 0.6)])
def test_mean_flow_without_one_stands_at_its_minimum(case, improved, t, s):
    """V(r) = (1 - r)^2 s2 + r^2. The pair's velocity has the variance s2/V(t) given x_t, which stays in the loss.

    MeanFlow's tangent is that velocity as well: its residual is shrunk by dX/dx, and the minimum by V(s)/V(t).
    """
    V = lambda r: (1 - r) ** 2 * case.S2 + r**2  # noqa: E731
    loss = dataclasses.replace(mean_flow(case, improved=improved), pairs=case.At((t, s)))
    truth, other, off = case.residuals(loss, case.batch)
    np.testing.assert_allclose(truth[0], case.S2 / V(t) * (1 if improved else V(s) / V(t)), rtol=1e-9)
    assert truth[1] < 1e-9 and off[1] > 1e-3 and (other[1] > 1e-3)


def trig(params, x, c_noise, cond=None, *, train, rngs):
    """F = (cos x - k x)/sin of the map to 0, k = sqrt(v)/sqrt(cos^2 v + sin^2), plus b x."""
    cos, sin, v = jnp.cos(jnp.pi / 2 * c_noise), jnp.sin(jnp.pi / 2 * c_noise), params["v"]
    k = jnp.sqrt(v / (cos**2 * v + sin**2))
    return ((cos - k) / sin + params["b"])[:, None] * x


def continuous(case, t=0.6, **options):
    return d.ContinuousConsistency(COSINE, times.Fixed(t), trig, c_noise=precondition.time, **options)


def test_continuous_consistency(case):
    zero = case.residuals(continuous(case, teacher=case.teacher(COSINE)), case.batch)
    assert abs(zero[0][0]) < 1e-15 and zero[0][1] < 1e-9
    assert min(zero[1]) > 1e-4 and min(zero[2]) > 1e-4
    # trained on pairs: |g|^2 = cos^2 k^2 s2/V remains, V = cos^2 s2 + sin^2; k^2 = s2/V
    truth, other, off = case.residuals(continuous(case, c=None), case.batch)
    cos2 = np.cos(0.3 * np.pi) ** 2
    V = cos2 * case.S2 + 1 - cos2
    np.testing.assert_allclose(truth[0], cos2 * (case.S2 / V) ** 2, rtol=1e-9)
    assert truth[1] < 1e-9 and other[1] > 1e-3 and off[1] > 1e-3


WEIGHTS = {"x0": lambda snr: 1, "truncated_snr": lambda snr: np.maximum(snr, 1), "v": lambda snr: snr + 1}


@pytest.mark.parametrize("weight", WEIGHTS)
def test_progressive_distillation(case, weight):
    """The exact denoiser on N(0, s2): the student's x is a number times z, found here by the teacher's two steps."""
    ts, s2 = np.linspace(1, 0, 9), case.S2
    cos, sin = np.cos(np.pi / 2 * ts), np.sin(np.pi / 2 * ts)
    x = cos * s2 / (cos**2 * s2 + sin**2)  # the denoiser's gain
    step = cos[1:] * x[:-1] + sin[1:] * (1 - cos[:-1] * x[:-1]) / sin[:-1]  # a DDIM step's gain
    t, s = slice(0, 8, 2), slice(2, 9, 2)
    ratio = sin[s] / sin[t]
    gain = (step[0::2] * step[1::2] - ratio) / (cos[s] - ratio * cos[t])

    def student(sde, network):
        def f(z, t, cond=None):
            p = network(z, None, cond)
            return (jnp.interp(t, ts[::-2], np.append(0, gain[::-1])) + p["b"] * t + p["v"] - s2)[:, None] * z

        return f

    how = getattr(losses.weightings, weight)
    loss = d.Progressive(COSINE, ts, case.teacher(COSINE), case.network, student, how)
    zero_at_truth(case, loss, False)
    # beside it an error of b t z counts as the weight says, at each time of the student's grid
    batch = {"image": np.tile(case.x0, (16, 1)), "noise": np.tile(case.eps, (16, 1))}
    values, aux = jax.jit(lambda loss: loss({"v": s2, "b": 0.3}, jax.random.key(1), batch))(loss)
    aux = {"t": np.asarray(aux["t"])}
    z = np.cos(np.pi / 2 * aux["t"]) * batch["image"][:, 0] + np.sin(np.pi / 2 * aux["t"]) * batch["noise"][:, 0]
    snr = np.tan(np.pi / 2 * aux["t"]) ** -2.0
    np.testing.assert_allclose(values, WEIGHTS[weight](snr) * (0.3 * aux["t"] * z) ** 2, rtol=1e-9)
    assert set(np.asarray(aux["t"])) == set(ts[t])


def straight(sde, network):
    """x_0 = c eps on the lines (alpha c + sigma) eps, c = sigma_T sqrt(v)/spread(T), plus b t x."""

    def D(x, t, cond=None):
        p = network(x, None, cond)
        c = sde.sigma(sde.T) * jnp.sqrt(p["v"]) / jnp.hypot(sde.alpha(sde.T) * jnp.sqrt(p["v"]), sde.sigma(sde.T))
        return (c / (sde.alpha(t) * c + sde.sigma(t)) + p["b"] * t)[:, None] * x

    return D


@pytest.mark.parametrize("sde", [FLOW, EDM], ids=lambda sde: type(sde).__name__)
def test_reflow(case, sde):
    """The exact flow's pairs do not cross: the velocity along their lines has the loss 0, the flow's own has not."""
    for t in (0.2, 0.6, 1.0):
        velocity = losses.DSM(sde, times.Fixed(t), case.network, straight, losses.weightings.velocity)
        zero_at_truth(case, d.Reflow(sde, case.exact(sde), velocity), False)
        curved = dataclasses.replace(velocity, precondition=lambda sde, network: case.teacher(sde))
        value, _ = case.value_and_grad(d.Reflow(sde, case.exact(sde), curved), case.truth, case.batch)
        a, sigma_T = float(sde.alpha(t)), float(sde.sigma(sde.T))
        c = sigma_T * np.sqrt(case.S2) / float(case.spread(sde, sde.T, case.S2))
        gain = a * case.S2 / (a**2 * case.S2 + t**2)  # both processes have sigma = t
        np.testing.assert_allclose(value, (c - gain * (a * c + t)) ** 2 / t**2, rtol=1e-9)
        assert value > 1e-3


def test_a_sum_is_at_its_minimum_where_its_parts_are(case):
    """Self-distillation with flow matching on the diagonal: now the map of other data is no minimum any more."""
    off = d.SelfDistillation(FLOW, case.At((0.8, 0.3)), d.lagrangian, case.network, case.flow_map)
    on = losses.DSM(
        FLOW, times.Fixed(0.6), case.network, functools.partial(dj.flow_maps.diagonal_of, case.flow_map),
        losses.weightings.velocity,
    )  # fmt: skip
    truth, other, beside = case.residuals(losses.Sum((on, off), (0.75, 0.25)), case.batch)
    np.testing.assert_allclose(truth[0], 0.75 * case.S2 / (0.16 * case.S2 + 0.36), rtol=1e-9)
    assert truth[1] < 1e-9 and other[1] > 1e-3 and beside[1] > 1e-3


def test_consistency_training_is_distillation_as_its_step_vanishes(case):
    """Its value is the spread of f over pairs with one eps; its gradient at the truth is of order h, times h."""
    s2, e2, t = case.S2, EDM.t_min**2, 1.5
    slopes = []
    for h in (0.1, 0.05):
        s = t - h
        value, grad = case.value_and_grad(
            d.Consistency(EDM, case.At((t, s)), case.network, case.consistency), case.truth, case.batch
        )
        correlation = (s2 + t * s) / np.sqrt((s2 + t**2) * (s2 + s**2))
        np.testing.assert_allclose(value, 2 * (e2 + s2) * (1 - correlation), rtol=1e-9)
        slopes.append(abs(float(grad["v"])))
    assert 3.5 < slopes[0] / slopes[1] < 4.5  # against the first order of a loss that were not at its minimum


SETTINGS = {"iCT": (0.00054, EDM.t_min), "ECT": (0.03, 0.0), "ECT, c = 0": (0.0, 0.0)}  # c, and f's boundary


def improved(case, name, times, teacher=None):
    c, end = SETTINGS[name]

    def f(sde, network):
        return lambda x, t, cond=None: case.flow_map(sde, network)(x, t, end, cond)

    return d.Consistency(EDM, case.At(times), case.network, f, teacher, metric=d.PseudoHuber(c), weight=d.rate)


@pytest.mark.parametrize("name", ["iCT", "ECT"])  # with c = 0 the slope is 1 at any rounding error
def test_settings_of_improved_consistency_training_on_a_teachers_pairs(case, name):
    zero_at_truth(case, improved(case, name, (2.0, 1.0), case.exact(EDM)), False)


@pytest.mark.parametrize("name", SETTINGS)
def test_improved_consistency_training_is_distillation_as_its_step_vanishes(case, name):
    """At the truth D = f(x_t) - f(x_s), f = k x, correlates with x_t just so that x_t = D/(2k) + what is independent.

    So a metric m has the slope dk E m'(D) D/(2k) (Stein), of the order h of that at the map of other data. Points along
    D and across it take the expectation; they are symmetric, so what is independent drops out to the last digit.
    """
    (c, end), s2, t, ratios = SETTINGS[name], case.S2, 1.5, []
    along, across = (norm.ppf((np.arange(n) + 0.5) / n) for n in (400, 40))
    for h in (0.02, 0.01):
        k_t, k_s = (np.sqrt((s2 + end**2) / (s2 + time**2)) for time in (t, t - h))
        D = np.array([(k_t - k_s) * np.sqrt(s2), k_t * t - k_s * (t - h)])  # of x_0 / sqrt(s2) and eps
        std = np.hypot(*D)
        x0, eps = (
            np.add.outer(a * along, b * across).reshape(-1, 1) / std for a, b in zip(D, (-D[1], D[0]), strict=True)
        )
        run = functools.partial(
            case.value_and_grad, improved(case, name, (t, t - h)), batch={"image": np.sqrt(s2) * x0, "noise": eps}
        )
        value, grad = run({"v": jnp.asarray(s2), "b": jnp.asarray(0.0)})
        size = np.hypot(std * along, c)
        np.testing.assert_allclose(value, np.mean(size - c) / h, rtol=1e-9)
        slope = np.mean((std * along) ** 2 / size) / (2 * k_t) / h
        np.testing.assert_allclose(grad["v"], slope * k_t / 2 * (1 / (s2 + end**2) - 1 / (s2 + t**2)), rtol=1e-9)
        np.testing.assert_allclose(grad["b"], slope * (t - end), rtol=1e-9)
        ratios.append(float(grad["v"] / run({"v": jnp.asarray(0.4), "b": jnp.asarray(0.0)})[1]["v"]))
    assert 1.9 < ratios[0] / ratios[1] < 2.1 and abs(ratios[1]) < 0.02


def test_continuous_consistency_is_the_limit_of_the_discrete_one(case):
    """The gradient of |f(x_t) - sg f(x_s)|^2 is that of |F - sg(F + g)|^2 times the step in phi and tan phi."""
    t, h, params = 0.6, 1e-5, {"v": jnp.asarray(0.4), "b": jnp.asarray(0.3)}
    f = functools.partial(precondition.from_v, c_noise=precondition.time)
    for teacher, flow in ((None, None), (case.teacher(COSINE), case.exact(COSINE))):
        discrete = d.Consistency(COSINE, case.At((t, t - h)), trig, f, flow)
        limit = continuous(case, t, teacher=teacher, c=None)
        a = case.value_and_grad(discrete, params, case.batch)[1]
        b = case.value_and_grad(limit, params, case.batch)[1]
        phi = np.pi / 2 * t
        for name in params:
            np.testing.assert_allclose(a[name], b[name] * (np.pi / 2 * h) * np.tan(phi), rtol=1e-3)


def test_normalised_tangents_keep_the_minimum_of_consistency_training(case, key):
    """Given x_t the tangent is symmetric, so that its direction has the mean 0: 4 sigma of 20,000 pairs."""
    k0, k1 = jax.random.split(key)
    batch = {"image": 0.5 * jax.random.normal(k0, (20_000, 1)), "noise": jax.random.normal(k1, (20_000, 1))}
    loss = continuous(case)
    each = jax.jit(
        lambda p: jax.vmap(
            jax.grad(lambda p, x, e: loss(p, key, {"image": x[None], "noise": e[None]})[0][0]), (None, 0, 0)
        )(p, batch["image"], batch["noise"])["v"]
    )
    at_truth, beside = (np.asarray(each({"v": jnp.asarray(v), "b": jnp.asarray(0.0)})) for v in (case.S2, 0.4))
    sigma = lambda g: g.std() / np.sqrt(len(g))  # noqa: E731
    assert abs(at_truth.mean()) < 4 * sigma(at_truth) and abs(beside.mean()) > 20 * sigma(beside)

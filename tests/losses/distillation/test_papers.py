"""The papers' updates, derived again in NumPy, and what the losses refuse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import flow_maps, losses, precondition, times
from diffjax.arrays import fold
from diffjax.losses import distillation as d
from diffjax.train import TrainState, train_step
from diffjax.typing import NO_CONTEXT, Context

X0, EPS = np.random.default_rng(5).normal(size=(2, 3, 2))
BATCH = {"image": jnp.asarray(X0, jnp.float32), "noise": jnp.asarray(EPS, jnp.float32)}
FLOW = dj.Flow()
values = jax.jit(
    lambda loss, params, batch=BATCH, context=NO_CONTEXT: loss(params, jax.random.key(0), batch, context)[0]
)
mean = lambda a: (np.asarray(a) ** 2).mean(1)  # noqa: E731  an example's mean square


@pytest.mark.slow
def test_progressive_target_on_the_circle():
    """Rotated by two half steps D from phi_t, N(0, 1) data: x = (cos^2 D sin phi_t - sin phi_s)/sin 2D z."""
    sde, one = dj.Cosine(), dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.eye(2)[None])
    for t, half in ((1.0, 0.5), (1.0, 0.125), (0.6, 0.1), (0.4, 0.2)):
        phi, D, z = np.pi / 2 * t, np.pi / 2 * half, np.float32(X0)
        got = d.progressive.two_steps(sde, one.denoiser(sde), z, *(np.full(3, t - i * half) for i in range(3)))
        expected = (np.cos(D) ** 2 * np.sin(phi) - np.sin(phi - 2 * D)) / np.sin(2 * D) * z
        np.testing.assert_allclose(got, expected, rtol=2e-5)
        if half == 0.5:  # from pure noise to data in one step: half of z
            np.testing.assert_allclose(got, z / 2, rtol=1e-5)


def x_student(params, x, c_noise, cond=None, *, train, rngs):
    return params * x + c_noise[:, None]


@pytest.mark.parametrize("kind", ["x0", "eps", "v"])
def test_progressive_weights_count_the_errors_they_name(kind):
    """The paper's weights: SNR truncated below 1 is the larger of the errors in x and eps, SNR + 1 that in v."""
    sde, t, m, s = dj.VP(), 0.3, 0.2, 0.1
    loss = d.Progressive(sde, np.array([t, m, s]), lambda x, t, cond=None: jnp.tanh(x), x_student, TIMED[kind])
    alpha, sigma = (np.asarray(f(np.array([t, m, s])), np.float64) for f in (sde.alpha, sde.sigma))
    z = alpha[0] * X0 + sigma[0] * EPS
    x = np.tanh(z)
    z_m = alpha[1] * x + sigma[1] * (z - alpha[0] * x) / sigma[0]
    x = np.tanh(z_m)
    z_s = alpha[2] * x + sigma[2] * (z_m - alpha[1] * x) / sigma[1]
    goal = (z_s - sigma[2] / sigma[0] * z) / (alpha[2] - sigma[2] / sigma[0] * alpha[0])
    F, (a, b) = 0.4 * z + t, (alpha[0], sigma[0])
    student = {"x0": F, "eps": (z - b * F) / a, "v": a * z - b * F}[kind]
    eps = lambda x: (z - a * x) / b  # noqa: E731
    v = lambda x: a * eps(x) - b * x  # noqa: E731
    in_x, in_eps, in_v = mean(goal - student), mean(eps(goal) - eps(student)), mean(v(goal) - v(student))
    np.testing.assert_allclose(values(loss, 0.4), np.maximum(in_x, in_eps), rtol=1e-3)
    for weight, error in ((losses.weightings.v, in_v), (losses.weightings.simple, in_eps)):
        np.testing.assert_allclose(values(dataclasses.replace(loss, weight=weight), 0.4), error, rtol=1e-3)


def _timed(kind):
    def convert(sde, network):
        return getattr(precondition, f"from_{kind}")(sde, network, precondition.time)

    return convert


TIMED = {kind: _timed(kind) for kind in ("x0", "eps", "v")}


def test_halving():
    ts = np.linspace(1, 0, 9)
    grids = d.halvings(ts)
    assert [len(g) - 1 for g in grids] == [8, 4, 2] and [len(d.halve(g)) - 1 for g in grids] == [4, 2, 1]
    np.testing.assert_array_equal(grids[-1], [1, 0.5, 0])
    assert [len(g) - 1 for g in d.halvings(ts, 4)] == [8]
    for steps, grid in ((3, ts), (8, ts), (1, ts[:8])):
        with pytest.raises(ValueError, match="cannot be halved"):
            d.halvings(grid, steps)
    with pytest.raises(ValueError, match="even number of them, got 7"):
        d.halve(ts[:8])
    with pytest.raises(ValueError, match="even number"):
        d.Progressive(dj.VP(), ts[:8], lambda x, t, cond: x, x_student, precondition.from_v)


def test_consistency_with_heuns_step_and_an_average_as_the_target(case):
    """Song et al. 2023, Algorithm 2, on EDM: a Heun step of the teacher, other parameters as the target."""
    sde, t, s, sd, e = dj.EDM(), 3.0, 2.0, 0.5, 0.002
    teacher = lambda x, t, cond=None: jnp.tanh(x)  # noqa: E731
    at = case.At((t, s))
    loss = d.Consistency(sde, at, x_student, precondition.consistency, flow_maps.heun_step(sde, teacher), target_ema=1)
    context = Context(ema=(jnp.asarray(9.0), jnp.asarray(0.6)))
    x = X0 + t * EPS
    slope = (x - np.tanh(x)) / t
    euler = x + (s - t) * slope
    x_s = x + (s - t) * (slope + (euler - np.tanh(euler)) / s) / 2

    def f(w, x, t):
        F = w * x / np.sqrt(t**2 + sd**2) + np.log(t) / 4
        return sd**2 / ((t - e) ** 2 + sd**2) * x + sd * (t - e) / np.sqrt(t**2 + sd**2) * F

    np.testing.assert_allclose(values(loss, 0.4, context=context), mean(f(0.4, x, t) - f(0.6, x_s, s)), rtol=1e-4)
    # consistency training: one eps; with the student as its own target; its gradient leaves the target out
    loss = d.Consistency(sde, at, x_student, precondition.consistency, weight=d.rate)
    error = f(0.4, x, t) - f(0.4, X0 + s * EPS, s)
    np.testing.assert_allclose(values(loss, 0.4), mean(error), rtol=1e-4)  # t - s = 1
    grad = jax.jit(jax.grad(lambda w: values(loss, w).sum()))(0.4)
    slope = sd * (t - e) / np.sqrt(t**2 + sd**2) * x / np.sqrt(t**2 + sd**2)
    np.testing.assert_allclose(grad, (2 * error * slope).mean(1).sum(), rtol=1e-4)
    # into 0 the target is x_0 itself, finite though log 0 is not
    into_zero = dataclasses.replace(loss, pairs=case.At((t, 0.0)), weight=d.even)
    np.testing.assert_allclose(values(into_zero, 0.4), mean(f(0.4, x, t) - X0), rtol=1e-4)


def test_distances():
    a, b = (np.random.default_rng(i).normal(size=(4, 3, 2)) for i in (0, 1))
    c = 0.00054 * np.sqrt(6)
    norm = np.sqrt(((a - b) ** 2).sum((1, 2)))
    run = jax.jit(lambda metric, a, b: metric(a, b))
    np.testing.assert_allclose(run(d.PseudoHuber(), a, b), np.sqrt(norm**2 + c**2) - c, rtol=1e-5)
    np.testing.assert_allclose(run(d.PseudoHuber(0.0), a, b), norm, rtol=1e-5)
    np.testing.assert_allclose(run(Partial(d.metrics.absolute), a, b), np.abs(a - b).mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(0.00054 * np.sqrt(3 * 32**2), 0.02992984, rtol=1e-6)  # c of CIFAR-10
    for scale in (0.0, 0.1):
        grad = jax.grad(lambda z, scale=scale: d.PseudoHuber(scale)(z, 0 * z).sum())(jnp.zeros((1, 2)))
        np.testing.assert_array_equal(grad, 0)


def u_net(w, x, c_noise, cond=None, *, train=False, rngs=None):
    """A velocity that is nonlinear in x and in both times; u_x, u_t are its slopes."""
    t, s = (c[:, None] for c in c_noise)
    return jnp.tanh(w * x) * (1 + t * s) + t**2


TIMES = flow_maps.Both(precondition.time)


@pytest.mark.parametrize("improved", [False, True])
def test_mean_flow_in_numpy(case, improved):
    """Geng et al. 2025, Algorithm 1: u_tgt = v - (t - r) (v du/dz + du/dt) without gradient; weight (l + c)^-p."""
    t, r, w, p, c = 0.8, 0.3, 0.7, 0.75, 1e-3
    z, v = (1 - t) * X0 + t * EPS, EPS - X0
    th = np.tanh(w * z)
    u = th * (1 + t * r) + t**2
    tangent = th * (1 + t * t) + t**2 if improved else v
    du = w * (1 - th**2) * (1 + t * r) * tangent + th * r + 2 * t
    error = u - (v - (t - r) * du)
    square = (error**2).sum(1)
    loss = d.MeanFlow(FLOW, case.At((t, r)), u_net, TIMES, improved, power=p, c=c)
    np.testing.assert_allclose(values(loss, w), square / (square + c) ** p, rtol=1e-4)
    grad = jax.jit(jax.grad(lambda w: values(loss, w).sum()))(w)
    expected = (2 * error * z * (1 - th**2) * (1 + t * r)).sum(1) / (square + c) ** p
    np.testing.assert_allclose(grad, expected.sum(), rtol=1e-4)


def test_guided_mean_flow_regresses_on_the_guided_velocity(case):
    """At s = t: scale v + (1 - scale) u(z, t, t | null); the network takes its condition as a shift."""

    def net(w, x, c_noise, cond=None, *, train=False, rngs=None):
        return w * x + cond

    loss = d.MeanFlow(FLOW, case.At((0.6, 0.6)), net, TIMES, scale=2.0, null=jnp.full((3, 2), 5.0), power=0.0)
    z, v = 0.4 * X0 + 0.6 * EPS, EPS - X0
    batch = BATCH | {"cond": jnp.ones((3, 2))}
    error = (0.7 * z + 1) - (2 * v - (0.7 * z + 5))
    np.testing.assert_allclose(values(loss, 0.7, batch), 2 * mean(error), rtol=1e-4)


def test_shortcuts_and_progressive_self_distillation_in_numpy(case):
    """phi over the whole step against the parts' mean, weighted by their durations; Frans et al.: two halves' mean.

    With h = (u - s)/(t - s): (1 - h) of the first part, h of the second.
    """
    levels = flow_maps.Duration(precondition.time)

    def shortcut(sde, network):
        return flow_maps.average_velocity(sde, network, levels)

    def u(w, x, t, d):
        return np.tanh(w * x) * (1 + t * d) + t**2

    t, s, w = 0.75, 0.25, 0.7
    x = (1 - t) * X0 + t * EPS
    first = u(w, x, t, 0.25)
    second = u(w, x - 0.25 * first, 0.5, 0.25)
    loss = d.SelfDistillation(FLOW, case.At((t, s)), d.progressive_midpoint, u_net, shortcut)
    np.testing.assert_allclose(values(loss, w), mean(u(w, x, t, 0.5) - (first + second) / 2), rtol=1e-4)

    keys = dj.arrays.fold(jax.random.key(0), 3)
    h = np.asarray(jax.vmap(jax.random.uniform)(dj.arrays.example_keys(keys, 3)))[:, None]  # (u - s)/(t - s)
    mid = s + h * (t - s)
    first = u(w, x, t, t - mid)
    second = u(w, x - (t - mid) * first, mid, mid - s)
    loss = d.SelfDistillation(FLOW, case.At((t, s)), d.progressive_uniform, u_net, shortcut)
    np.testing.assert_allclose(values(loss, w), mean(u(w, x, t, t - s) - ((1 - h) * first + h * second)), rtol=1e-4)


def test_lagrangian_and_eulerian_residuals_in_numpy(case):
    """X = x - (t - s) u, so d/ds X = u - (t - s) u_s, d/dt X = -u - (t - s) u_t, grad X = 1 - (t - s) u_x."""
    t, s, w = 0.8, 0.3, 0.7
    x, b = (1 - t) * X0 + t * EPS, t - s
    th = np.tanh(w * x)
    u, v = th * (1 + t * s) + t**2, th * (1 + t * t) + t**2
    X = x - b * u
    lsd = (u - b * th * t) - (np.tanh(w * X) * (1 + s * s) + s**2)
    esd = -u - b * (th * s + 2 * t) + (1 - b * w * (1 - th**2) * (1 + t * s)) * v
    for residual, expected in ((d.lagrangian, lsd), (d.eulerian, esd)):
        loss = d.SelfDistillation(FLOW, case.At((t, s)), residual, u_net, MAP)
        np.testing.assert_allclose(values(loss, w), mean(expected), rtol=1e-4)


def test_trajectories_in_numpy(case):
    """Kim et al. 2024: both jumps on to time 0 by the target; the gradient is the first jump's."""
    t, u, s, w, target = 0.9, 0.7, 0.3, 0.4, 0.6
    teacher = flow_maps.ddim_step(FLOW, lambda x, t, cond=None: jnp.tanh(x))
    loss = d.Trajectory(FLOW, case.At((t, u, s)), teacher, u_net, TRAJECTORY, target_ema=0)
    context = Context(ema=(jnp.asarray(target),))

    def G(w, x, t, s):  # Eq. 4 of flow_maps on the straight path, g the network's output
        g = np.tanh(w * x) * (1 + t * s) + t**2
        return (1 - s) * g + s * (x - (1 - t) * g) / t

    x = (1 - t) * X0 + t * EPS
    x_u = (1 - u) * np.tanh(x) + u * (x - (1 - t) * np.tanh(x)) / t
    jump, goal = G(w, x, t, s), G(target, G(target, x_u, u, s), s, 0)
    np.testing.assert_allclose(values(loss, w, context=context), mean(G(target, jump, s, 0) - goal), rtol=1e-4)
    in_v = dataclasses.replace(loss, weight=d.error_in_v)  # (alpha^2 + sigma^2)^2 / sigma^2 at t, on the straight path
    factor = (((1 - t) ** 2 + t**2) / t) ** 2
    np.testing.assert_allclose(values(in_v, w, context=context), factor * mean(G(target, jump, s, 0) - goal), rtol=1e-4)
    grad = jax.jit(jax.grad(lambda w: values(loss, w, context=context).sum()))(w)
    h = 1e-6
    moved = (G(target, G(w + h, x, t, s), s, 0) - G(target, G(w - h, x, t, s), s, 0)) / (2 * h)
    np.testing.assert_allclose(grad, (2 * (G(target, jump, s, 0) - goal) * moved).mean(1).sum(), rtol=1e-4)


def TRAJECTORY(sde, network):
    return flow_maps.ctm(sde, network, TIMED["x0"], precondition.time)


def test_tangents_of_trigflow_in_numpy(case):
    """Lu & Song 2025, Algorithm 1, with a nonlinear F: g, its norm, its warm-up, and the loss."""

    def F(w, x, c_noise, cond=None, *, train=False, rngs=None):
        return jnp.tanh(w * x) + jnp.sin(c_noise)[:, None] * x

    t, w, c, r = 0.6, 0.7, 0.1, 0.25
    phi = np.pi / 2 * t
    cos, sin = np.cos(phi), np.sin(phi)
    x, v = cos * X0 + sin * EPS, cos * EPS - sin * X0
    still = np.tanh(w * x) + np.sin(t) * x
    slope = (w * (1 - np.tanh(w * x) ** 2) + np.sin(t)) * v + np.cos(t) * (2 / np.pi) * x
    g = -(cos**2) * (still - v) - r * cos * sin * (x + slope)
    norm = np.sqrt((g**2).sum(1))
    loss = d.ContinuousConsistency(dj.Cosine(), times.Fixed(t), F, c_noise=precondition.time, c=c, warmup=100.0)
    value, aux = jax.jit(lambda l: l(w, jax.random.key(0), BATCH, Context(jnp.asarray(25))))(loss)
    np.testing.assert_allclose(aux["tangent"], norm, rtol=1e-4)
    np.testing.assert_allclose(value, mean(g / (norm + c)[:, None]), rtol=1e-4)


def test_sums_balances_and_learnt_weights(case):
    line = Partial(lambda p, k, b: (p["a"] * b[:, 0] + p["b"], {"t": b[:, 0]}))
    curve = Partial(lambda p, k, b: (3 * p["a"] ** 2 * b[:, 0] + 0 * p["b"], {}))
    p, b = {"a": jnp.asarray(2.0), "b": jnp.asarray(1.0)}, jnp.array([[1.0], [3.0]])
    key = jax.random.key(0)
    value, aux = losses.Sum((line, curve), (0.5, 2.0))(p, key, b)
    np.testing.assert_allclose(value, 0.5 * np.array([3.0, 7.0]) + 2 * np.array([12.0, 36.0]))
    np.testing.assert_allclose(aux["part1"], [12.0, 36.0])
    with pytest.raises(ValueError, match="one weight for each loss, got 1 for 2"):
        losses.Sum((line, curve), (1.0,))(p, key, b)
    # gradients with respect to a: the mean of b, 2, and 12 times that, 24
    balanced = losses.Balanced((line, curve), lambda tree: tree["a"])
    value, aux = balanced(p, key, b)
    grad = jax.grad(lambda p: balanced(p, key, b)[0].sum())(p)
    np.testing.assert_allclose(aux["balance1"], 2 / 24.0001, rtol=1e-5)
    np.testing.assert_allclose(value.sum(), 10 + 48 * 2 / 24.0001, rtol=1e-5)
    np.testing.assert_allclose(grad["a"], 4 + 48 * 2 / 24.0001, rtol=1e-5)  # the balance is a constant
    three = losses.Balanced((line, curve, line), lambda tree: tree["a"], (0.5, 10.0))(p, key, b)[
        1
    ]  # each against the first
    np.testing.assert_allclose((three["balance1"][0], three["balance2"][0]), (0.5, 2 / 2.0001), rtol=1e-5)
    with pytest.raises(ValueError, match="give two or more, got 1"):
        losses.Balanced((line,), lambda tree: tree["a"])(p, key, b)
    # exp(-u) l + u is least at u = log l
    learnt = losses.LearnedWeight(line, lambda q, aux: q * aux["t"])
    value, grad = jax.value_and_grad(lambda q: learnt({"net": p, "log_loss": q}, key, b[1:])[0][0])(np.log(7.0) / 3)
    np.testing.assert_allclose((value, grad), (1 + np.log(7.0), 0), atol=1e-6)


@pytest.mark.slow
def test_the_step_and_the_averages_reach_a_loss_at_any_depth(case):
    """Also one inside other losses: CT with a growing grid, its target the average; two steps against their losses."""
    sde = dj.EDM()
    inner = d.Consistency(
        sde,
        times.KarrasNeighbours(sde, times.Rising(2.0, 20.0, 10.0)),
        x_student,
        precondition.consistency,
        target_ema=1,
    )
    parts = (1.0, 0.5)
    loss, tx, decays = losses.Sum((inner, inner), parts), optax.sgd(0.1), (0.5, 0.9)
    state = TrainState.create(jax.random.key(1), jnp.asarray(0.4), tx, decays)
    step = jax.jit(lambda state: train_step(loss, tx, decays, state, BATCH))
    for n in range(3):
        context = Context(jnp.asarray(n), state.ema)
        keys = dj.arrays.example_keys(jax.random.fold_in(state.key, n), 3)
        expected = jax.jit(
            lambda p, k, c: sum(w * inner(p, fold(k, i), BATCH, c)[0].mean() for i, w in enumerate(parts))
        )(state.params, keys, context)
        state, metrics = step(state)
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    assert abs(state.ema[1] - state.params) > 1e-4  # the target is another


def test_one_student_for_all_guidance_scales():
    """Meng et al. 2023: given the scale it was drawn for, the guided step itself has the loss 0; given another, not.

    The denoiser is x + label, so that guidance shifts x_0 by scale times label, and so do two DDIM steps.
    """
    shift = lambda x, t, cond: x + 0 * t[:, None] + (0 if cond is None else cond["label"][:, None])  # noqa: E731
    teacher = dj.guidance.cfg_of_scale(shift)

    def student(params, x, c_noise, cond, *, train, rngs):
        scaled = {"label": cond["label"], "scale": params * cond["scale"]}
        return d.progressive.two_steps(FLOW, teacher, x, c_noise, c_noise - 0.25, c_noise - 0.5, scaled)

    loss = d.Progressive(FLOW, np.array([1.0, 0.75, 0.5]), teacher, student, TIMED["x0"], losses.weightings.x0)
    batch = BATCH | {"cond": {"label": jnp.array([1.0, -2.0, 3.0])}}
    scaled = losses.DrawScale(loss)
    np.testing.assert_allclose(values(scaled, 1.0, batch), 0, atol=1e-9)
    assert values(scaled, 0.5, batch).min() > 0.1
    with pytest.raises(ValueError, match="must be an entry of the condition"):
        loss(1.0, jax.random.key(0), batch)


def test_an_example_has_its_own_loss():
    """Moved to other neighbours, with its key, it keeps it: times, noise and parts are its own."""
    pairs, ts = times.Sorted(times.Uniform(0.1), 0.3), np.linspace(1, 0, 5, dtype=np.float32)
    teacher = flow_maps.ddim_step(FLOW, lambda x, t, cond=None: jnp.tanh(x))
    off = d.SelfDistillation(FLOW, pairs, d.progressive_uniform, u_net, MAP)
    on = losses.DSM(FLOW, times.Uniform(0.1), u_net, Partial(flow_maps.diagonal_of, MAP))
    run = jax.jit(lambda loss, keys, x: loss(0.7, keys, x)[0])
    keys, x = dj.arrays.example_keys(jax.random.key(3), 3), jnp.asarray(X0, jnp.float32)
    for loss in (
        losses.Sum((off, on), (0.5, 0.5)),
        d.MeanFlow(FLOW, pairs, u_net, TIMES),
        d.Trajectory(FLOW, times.Stops(ts), teacher, u_net, TRAJECTORY),
        d.Progressive(FLOW, ts, lambda x, t, cond=None: jnp.tanh(x), x_student, TIMED["x0"]),
    ):
        whole = run(loss, keys, x)
        assert np.isfinite(whole).all()
        moved = run(loss, keys[np.array([2, 2, 1])], x[np.array([2, 2, 1])])
        np.testing.assert_allclose(moved[1:], whole[np.array([2, 1])], rtol=1e-5)


def MAP(sde, network):
    return flow_maps.average_velocity(sde, network, TIMES)


TS = np.array([1.0, 0.5, 0.0])


def narrow(params, x, c_noise, cond=None, **_):
    return params * x[:, :1]


def test_errors(case):
    key, at = jax.random.key(0), case.At((0.8, 0.3))
    net = (x_student, precondition.from_v)
    own = lambda sde: flow_maps.heun_step(sde, case.teacher(sde))  # noqa: E731
    for solver in (
        flow_maps.ddim_step,
        flow_maps.heun_step,
        lambda sde, f: flow_maps.along(sde, f, np.array([1.0, 0.0])),
    ):
        with pytest.raises(ValueError, match=r"made for VP.*, but is used under Flow"):
            solver(FLOW, case.teacher(dj.VP()))
    for make, message in (
        (lambda: d.Consistency(FLOW, at, *net, target_ema=-1), "the target network has average -1"),
        (lambda: d.Consistency(FLOW, at, *net, target_ema=0), "average 0 of the parameters, of 0 that there are"),
        (
            lambda: d.Consistency(dj.EDM(), times.KarrasNeighbours(dj.EDM(), times.Rising()), *net),
            "needs the training step",
        ),
        (
            lambda: d.Consistency(FLOW, times.Neighbours(np.array([0.0, 0.5, 1.0])), *net),
            "a grid falls from noise to data",
        ),
        (
            lambda: d.Trajectory(FLOW, times.Stops(np.array([0.0, 1.0])), own(FLOW), x_student, flow_maps.ctm),
            "a grid falls from noise to data",
        ),
        (
            lambda: d.Progressive(FLOW, np.array([0.0, 0.5, 1.0]), lambda x, t, cond: x, *net),
            "a grid falls from noise to data",
        ),
        (
            lambda: d.Trajectory(FLOW, times.Stops(np.array([1.0, 0.0])), own(dj.VP()), x_student, flow_maps.ctm),
            "made for VP",
        ),
        (
            lambda: d.SelfDistillation(
                FLOW, at, d.lagrangian, u_net, flow_maps.average_velocity, case.teacher(dj.VP())
            ),
            "made for VP",
        ),
        (
            lambda: d.ContinuousConsistency(dj.Cosine(), times.Fixed(0.3), x_student, case.teacher(dj.VP())),
            "made for VP",
        ),
        (
            lambda: d.Consistency(FLOW, at, *net, flow_maps.heun_step(dj.VP(), lambda x, t, cond: x)),
            r"made for VP.*, but is used under Flow",
        ),
        (
            lambda: d.Progressive(dj.VP(), np.array([1.0, 0.5, 0.0]), case.teacher(dj.VP(T=0.9)), *net),
            r"T=0\.9.*dj\.rescale",
        ),
        (
            lambda: d.MeanFlow(
                FLOW, at, u_net, teacher=dj.guidance.cfg(precondition.from_v(dj.Cosine(), lambda x, c, cond: x), 2.0)
            ),
            "made for Cosine",
        ),
        (
            lambda: d.Consistency(FLOW, at, *net, case.teacher(FLOW)),
            r"expected a flow map, such as `flow_maps.heun_step",
        ),
        (
            lambda: d.Trajectory(FLOW, times.Stops(TS), case.teacher(FLOW), x_student, flow_maps.ctm),
            "expected a flow map",
        ),
        (lambda: d.SelfDistillation(FLOW, at, d.lagrangian, u_net, precondition.from_velocity), "expected a flow map"),
        (lambda: d.Reflow(FLOW, case.teacher(FLOW), losses.DSM(FLOW, at, *net)), "expected a flow map"),
        (lambda: d.Consistency(FLOW, times.Uniform(), *net), "expected a distribution of pairs"),
        (
            lambda: d.Consistency(FLOW, times.Neighbours(1000 * TS), *net),
            r"must lie in \[0, T = 1.0\], got 0.0 to 1000.0",
        ),
        (
            lambda: d.Trajectory(FLOW, times.Stops(2 * TS), own(FLOW), x_student, flow_maps.ctm),
            r"T = 1.0\], got 0.0 to 2.0",
        ),
        (lambda: d.Progressive(FLOW, 1000 * TS, case.teacher(FLOW), *net), r"T = 1.0\], got 0.0 to 1000.0"),
        (
            lambda: d.Progressive(FLOW, TS, lambda x, t, cond: x[:, :1], *net),
            "the teacher maps x .* must keep the shape",
        ),
        (
            lambda: d.Consistency(FLOW, at, narrow, precondition.consistency),
            "the network maps x .* must keep the shape",
        ),
        (lambda: d.Consistency(FLOW, at, narrow, precondition.edm), "the network maps x .* must keep the shape"),
        (lambda: d.MeanFlow(FLOW, at, narrow), "the network maps x .* must keep the shape"),
        (
            lambda: d.ContinuousConsistency(dj.Cosine(), times.Fixed(0.3), narrow),
            "the network maps x .* must keep the shape",
        ),
        (lambda: d.ContinuousConsistency(dj.EDM(), times.Fixed(0.3), x_student), r"alpha\^2 \+ sigma\^2 = 1"),
        (lambda: d.ContinuousConsistency(dj.VP(), times.Fixed(0.3), x_student, warmup=10.0), "warm-up of the tangent"),
    ):
        with pytest.raises(ValueError, match=message):
            make()(0.4, key, BATCH)
    with pytest.raises(ValueError, match="each image needs its own eps"):
        d.MeanFlow(FLOW, at, u_net)(0.4, key, {"image": jnp.ones((3, 2)), "noise": jnp.ones((2, 2))})
    # a teacher carried over to the student's process is welcome
    carried = dj.rescale(case.teacher(dj.VP()), dj.VP(), FLOW)
    precondition.check_process(carried, FLOW)
    precondition.check_process(dj.guidance.cfg(carried, 2.0), FLOW)
    precondition.check_process(lambda x, t, cond: x, FLOW)


@pytest.mark.parametrize("sde", [dj.Flow(), dj.EDM(T=20.0)], ids=lambda sde: type(sde).__name__)
def test_reflow_trains_on_the_ends_of_the_teachers_flow(sde):
    """Data N(0, s^2): the flow carries sigma_T eps to s eps / sqrt(1 + (s alpha_T / sigma_T)^2), here by 64 steps."""
    s, one = 0.5, dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 2)), 0.25 * jnp.eye(2)[None])
    teacher = flow_maps.along(
        sde, one.denoiser(sde), times.karras(sde, 64) if sde.T > 1 else times.uniform(sde, 64, 0.0)
    )

    def inner(params, key, batch):
        goal = s * batch["noise"] / jnp.sqrt(1 + (s * sde.alpha(sde.T) / sde.sigma(sde.T)) ** 2)
        return jnp.abs(batch["image"] - goal).max(-1), {"eps": batch["noise"][:, 0]}

    loss = d.Reflow(sde, teacher, inner)
    off, aux = loss({}, jax.random.key(3), jnp.zeros((5, 2)))
    assert off.shape == (5,) and (off < 2e-3).all() and len(set(np.asarray(aux["eps"]).tolist())) == 5
    with pytest.raises(ValueError, match="made for"):
        d.Reflow(dj.VP(), teacher, inner)({}, jax.random.key(3), jnp.zeros((5, 2)))

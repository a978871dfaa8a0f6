"""VDM's bound: closed forms on a Gaussian, invariance to the schedule's interior, and what its gradient trains."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import diffjax as dj
from diffjax import precondition, times
from diffjax.arrays import example_keys, fold, normal
from diffjax.losses import VDM
from diffjax.train import TrainState, train_step

S2, ENDS = 0.25, (-6.0, 4.0)
LEVELS = np.arange(256) / 127.5 - 1
run = jax.jit(lambda loss, params, key, batch: loss(params, key, batch))


def exact(sde, network):
    """The posterior mean for data N(0, S2), scaled by the network's parameter, which is 1 at the optimum."""

    def denoise(x, t, cond=None):
        alpha, sigma = dj.gaussian.curves(sde, t, x)
        return network(x, precondition.quarter_log_sigma(sde, t)) * alpha * S2 * x / (alpha**2 * S2 + sigma**2)

    return denoise


def scale(params, x, c_noise, cond=None, *, train=False, rngs=None):
    return params


def bent(*ends):
    """A schedule that spends most of its time near the data."""
    sde = dj.Learned.create(4, *(ends or ENDS))
    return dataclasses.replace(sde, w=sde.w + jnp.array([0.0, 0.0, 2.0, 5.0]), s=sde.s + 2)


def information(gamma_0, gamma_1):
    """The diffusion term's expectation in bits per dimension: 1/2 int s2 e^-g / (1 + s2 e^-g) dg between the ends."""
    return 0.5 * np.log2((1 + S2 * np.exp(-gamma_0)) / (1 + S2 * np.exp(-gamma_1)))


def data(n, d=4):
    return np.sqrt(S2) * jax.random.normal(jax.random.key(7), (n, d))


@pytest.mark.slow
def test_every_term_is_that_of_numpy(x64, key):
    x0 = jnp.asarray(LEVELS[np.random.default_rng(0).integers(0, 256, (5, 2, 3))])
    sde, keys, unit = bent(), example_keys(key, 5), 6 * np.log(2)
    _, aux = run(VDM(scale, exact), {"net": 0.9, "sde": sde}, keys, {"image": x0})
    t, eps, eps_0 = aux["t"], normal(fold(keys, 1), x0), normal(fold(keys, 3), x0)
    gamma = jax.jit(lambda t: sde.gamma(t))
    slope = np.asarray(gamma(t + 1e-6) - gamma(t - 1e-6)) / 2e-6
    gamma = np.asarray(gamma(t))[:, None, None]
    alpha, sigma = 1 / np.sqrt(1 + np.exp(gamma)), 1 / np.sqrt(1 + np.exp(-gamma))
    z = alpha * x0 + sigma * eps
    eps_hat = (z - alpha * 0.9 * alpha * S2 * z / (alpha**2 * S2 + sigma**2)) / sigma
    diffusion = 0.5 * slope * ((eps - eps_hat) ** 2).sum((1, 2)) / unit
    np.testing.assert_allclose(aux["diffusion"], diffusion, rtol=1e-7)
    np.testing.assert_allclose(aux["prior"], 0.5 * np.exp(-4.0) * (x0**2).sum((1, 2)) / unit, rtol=1e-9)
    logits = -0.5 * np.exp(6.0) * (x0[..., None] + np.exp(-3.0) * eps_0[..., None] - LEVELS) ** 2
    mass = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    own = np.take_along_axis(mass, np.asarray(jnp.round((x0 + 1) * 127.5)).astype(int)[..., None], -1)
    np.testing.assert_allclose(aux["decoder"], -np.log(own).sum((1, 2, 3)) / unit, rtol=1e-9)


@pytest.mark.parametrize("schedule", [dj.Learned.create, bent], ids=["linear", "bent"])
def test_the_diffusion_term_is_the_same_information_for_every_interior(key, schedule):
    """4 sigma of 20000 examples taken as independent; the low-discrepancy times make it less."""
    sde = schedule() if schedule is bent else schedule(4, *ENDS)
    _, aux = run(VDM(scale, exact), {"net": 1.0, "sde": sde}, key, data(20000))
    values = np.asarray(aux["diffusion"], np.float64)
    assert abs(values.mean() - information(*ENDS)) < 4 * values.std() / np.sqrt(20000)


@pytest.mark.slow
def test_the_discrete_bound_tends_to_the_continuous_one(x64, key):
    """At times of both grids, example by example, with an error of order 1/T; for every T it is a sum of KLs."""
    x0, params = data(16), {"net": 1.0, "sde": bent()}
    for t in (0.25, 0.5, 1.0):
        distribution = times.Uniform(t, t)
        continuous = run(VDM(scale, exact, distribution), params, key, x0)[1]["diffusion"]
        discrete = [
            run(VDM(scale, exact, distribution, steps=n), params, key, x0)[1]["diffusion"] for n in (1000, 8000)
        ]
        errors = np.array([float(jnp.abs(d / continuous - 1).max()) for d in discrete])
        assert errors[-1] < 2e-3
        np.testing.assert_allclose(errors[0] / errors[1], 8, rtol=0.02)
    # T = 3: a term's expectation is (snr(s) - snr(t)) Var(x_0 | x_t) / 2, and the sum is above the integral
    sde, steps = params["sde"], 3
    values = run(VDM(scale, exact, steps=steps), params, jax.random.key(1), data(60000))[1]
    snr = np.exp(-np.asarray(sde.gamma(jnp.arange(steps + 1) / steps)))
    expected = (0.5 * (snr[:-1] - snr[1:]) * S2 / (1 + S2 * snr[1:])).sum() / np.log(2)
    error = float(values["diffusion"].std()) / np.sqrt(60000)
    assert abs(float(values["diffusion"].mean()) - expected) < 4 * error
    assert sorted(set(np.round(np.asarray(values["t"]) * 3, 9))) == [1.0, 2.0, 3.0] and expected > information(*ENDS)


def differences(f, sde, name, h=1e-5):
    """Central differences of f by each entry of one leaf of the schedule."""
    leaf = getattr(sde, name)
    units = h * np.eye(leaf.size).reshape(leaf.size, *leaf.shape)
    move = lambda unit: f(dataclasses.replace(sde, **{name: leaf + unit}))  # noqa: E731
    return np.array([(move(u) - move(-u)) / (2 * h) for u in units]).reshape(leaf.shape)


@pytest.mark.parametrize("steps", [0, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_ends_and_network_descend_the_bound_and_the_interior_the_variance(x64, key, steps):
    """For one example the interior's gradient is 2 l dl, in continuous time; with T steps it is that of the bound."""
    loss, x0, sde = VDM(scale, exact, steps=steps), jnp.asarray(LEVELS[None, 40:44]), bent()

    def bound(sde, net):
        values, aux = loss({"net": net, "sde": sde}, key, x0)
        return values[0], aux["diffusion"][0]

    both = jax.jit(jax.value_and_grad(bound, (0, 1), has_aux=True))
    value = lambda sde, net: both(sde, net)[0][0]  # noqa: E731
    net = jnp.asarray(0.9)
    (_, l), (grads, by_net) = both(sde, net)
    np.testing.assert_allclose(by_net, (value(sde, net + 1e-5) - value(sde, net - 1e-5)) / 2e-5, rtol=1e-6)
    for name in ("gamma_0", "gamma_1", "w", "s", "c"):
        factor = 2 * l if name in "wsc" and not steps else 1
        expected = factor * differences(lambda sde: value(sde, net), sde, name)
        np.testing.assert_allclose(getattr(grads, name), expected, rtol=1e-5, atol=1e-8)
    assert abs(2 * l - 1) > 0.1


@pytest.mark.slow
def test_training_the_interior_lowers_the_variance_and_leaves_the_mean(key):
    """100 steps on a schedule that starts badly; means within 4 sigma of the exact one.

    No schedule has a variance below (2/4) mean^2: at one time |eps - eps_hat|^2 is a chi^2 of the 4 entries.
    """
    loss, tx = VDM(scale, exact), optax.adam(0.1)
    x0 = data(256)

    def mean(sde, key):
        return loss({"net": 1.0, "sde": sde}, key, x0)[1]["diffusion"].mean()

    def step(carry, key):
        sde, state = carry
        grads = jax.grad(mean)(sde, key)
        grads = dataclasses.replace(grads, gamma_0=jnp.zeros(()), gamma_1=jnp.zeros(()))
        updates, state = tx.update(grads, state)
        return (optax.apply_updates(sde, updates), state), None

    before = bent()
    (after, _), _ = jax.jit(lambda c, k: jax.lax.scan(step, c, k))(
        (before, tx.init(before)), jax.random.split(key, 100)
    )
    assert (float(after.gamma_0), float(after.gamma_1)) == ENDS
    test = np.sqrt(S2) * jax.random.normal(jax.random.key(3), (20000, 4))
    values = [run(loss, {"net": 1.0, "sde": sde}, jax.random.key(2), test)[1]["diffusion"] for sde in (before, after)]
    excess = [float(v.var()) - 0.5 * information(*ENDS) ** 2 for v in values]
    assert 0 < excess[1] < 0.35 * excess[0]
    for v in values:
        assert abs(float(v.mean()) - information(*ENDS)) < 4 * float(v.std()) / np.sqrt(20000)


@pytest.mark.slow
def test_network_and_schedule_train_together_under_train_step(key):

    def network(w, x, c_noise, cond, *, train, rngs):
        return jnp.polyval(w[:3], dj.arrays.bcast(c_noise, x)) * x + w[3]

    params = {"net": jnp.zeros(4), "sde": dj.Learned.create(4)}
    from_v = functools.partial(precondition.from_v, c_noise=precondition.quarter_log_sigma)
    loss, tx, x0 = VDM(network, from_v), optax.adam(3e-2), jnp.asarray(LEVELS[:32], jnp.float32).reshape(8, 4)
    state = TrainState.create(key, params, tx)
    step = jax.jit(lambda state: train_step(loss, tx, (), state, x0))
    test = jnp.tile(x0, (64, 1))
    before = run(loss, state.params, key, test)[0]
    for _ in range(100):
        state, _ = step(state)
    gain = before - run(loss, state.params, key, test)[0]  # of the same noise
    assert float(gain.mean()) > 4 * float(gain.std()) / np.sqrt(len(test))
    leaves = [jax.tree.leaves(p["sde"]) for p in (params, state.params)]
    assert all(bool((a != b).all()) for a, b in zip(*leaves, strict=True))

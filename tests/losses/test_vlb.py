"""The bound as a loss: its terms and its mean against `elbo`, known minima, and who trains what in the hybrid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import precondition, times
from diffjax.arrays import example_keys, fold, normal
from diffjax.likelihoods.elbo import decoder_log_std, discretised_gaussian, step_kl
from diffjax.losses import DSM, VLB, Hybrid, weightings

BETAS = np.linspace(1e-3, 0.4, 20)
TABLE = dj.BetaTable.from_betas(BETAS)
S2 = 0.25
run = jax.jit(lambda loss, params, key, batch: loss(params, key, batch))
from_eps = functools.partial(precondition.from_eps, c_noise=precondition.time_index)


def exact(sde, network):
    """The `precondition` of an oracle, the posterior mean of N(0, s2) data; s2 is what the network says of 1."""

    def denoise(x, t, cond=None):
        s2 = network(jnp.ones_like(x), precondition.time_index(sde, t), cond)
        alpha, sigma = dj.gaussian.curves(sde, t, x)
        return alpha * s2 * x / (alpha**2 * s2 + sigma**2)

    return denoise


def network(params, x, c_noise, cond=None, *, train=True, rngs=None):
    """Mean a x, and variance half b + 0.1 c_noise/20."""
    second = params["b"] + 0.1 * dj.arrays.bcast(c_noise, x) / 20 + jnp.zeros_like(x)
    return jnp.concatenate([params["a"] * x, second], axis=-1)


def half(params, x, c_noise, cond=None, *, train=True, rngs=None):
    return params["a"] * x


PARAMS = {"a": 0.7, "b": -0.3}
ORACLE = {"a": S2}


def levels(key, *shape):
    return jax.random.randint(key, shape, 0, 256) / 127.5 - 1


@jax.jit
def both(sde, t):
    return sde.alpha(t), sde.sigma(t)


def curves(sde, t):
    return tuple(float(c) for c in both(sde, t))


@jax.jit
def left(sde, t, s2):
    """Var(x_0 | x_t) for data N(0, s2)."""
    return s2 * sde.sigma(t) ** 2 / (sde.alpha(t) ** 2 * s2 + sde.sigma(t) ** 2)


@pytest.mark.parametrize(("s2", "known"), [(0.25, 0.17305341), (1.0, 0.27551323), (4.0, 0.39540695)])
def test_simple_loss_of_ddpm_s_table_has_the_known_minimum(key, s2, known):
    """The exact sum over the times, and DSM with the integer distribution within 4 sigma of 40000 x 4 entries."""
    with jax.enable_x64(True):
        sde, t = dj.BetaTable.linear(1000), np.arange(1.0, 1001.0)
        minimum = jax.jit(lambda sde, t: weightings.simple(sde, t))(sde, t) * left(sde, t, s2)
        np.testing.assert_allclose(minimum.mean(), known, atol=6e-9)
    loss = DSM(dj.BetaTable.linear(1000), times.Integers(1000.0), half, exact)
    x0 = np.sqrt(s2) * np.random.default_rng(1).normal(size=(40000, 4)).astype(np.float32)
    values, aux = run(loss, {"a": s2}, key, x0)
    assert float(aux["t"].min()) == 1 and float(aux["t"].max()) == 1000
    assert abs(float(values.mean()) - known) < 4 * float(values.std()) / np.sqrt(40000)


@pytest.mark.parametrize("large", [None, 0.0, 1.0])
def test_each_term_is_that_of_the_bound(x64, key, large):
    """T L_t in bits per dimension, the decoder at t = 1, at the noise of the example's own key."""
    x0, T, table = levels(key, 3, 2, 4), 20, dj.BetaTable.from_betas(BETAS)
    keys = example_keys(key, 3)
    eps = normal(fold(keys, 1), x0)
    for t in (1.0, 2.0, 13.0, 20.0):
        loss = VLB(table, times.Uniform(t, t), network if large is None else half, from_eps, large)
        values, aux = run(loss, PARAMS, keys, {"image": x0})
        alpha, sigma = curves(table, t)
        x_t = alpha * np.asarray(x0) + sigma * np.asarray(eps)
        predicted = (x_t - sigma * 0.7 * x_t) / alpha
        c = (-0.3 + 0.1 * (t - 1) / 20 + 1) / 2 if large is None else large
        if t == 1:
            beta, (a2, s2), s1 = 1 - alpha**2, (c**2 for c in curves(table, 2.0)), sigma**2
            v = (1 - a2 / (1 - s1)) * s1 / s2  # beta tilde of the second step
            log_std = 0.5 * (c * np.log(beta) + (1 - c) * np.log(v) if large is None else np.log(v))
            nats = jax.jit(discretised_gaussian)(x0, predicted, log_std)
            np.testing.assert_allclose(log_std, decoder_log_std(table, 1.0, 2.0, None if large is not None else c))
        else:
            nats = jax.jit(step_kl)(table, x0, predicted, t, t - 1, c)
        np.testing.assert_allclose(values, T * nats / (8 * np.log(2)), rtol=1e-9)
        np.testing.assert_allclose(aux["vlb"], values)


def test_the_mean_of_the_loss_is_the_bound_without_its_prior_term(key):
    """Both are estimates: 4 sigma of their difference."""
    x0 = levels(jax.random.key(1), 30000, 2)
    values, _ = run(VLB(TABLE, times.Integers(20.0), half, exact, 1.0), ORACLE, key, x0)
    denoise = jax.tree_util.Partial(lambda x, t, cond: exact(TABLE, lambda *_: S2)(x, t))
    bound = dj.elbo(key, denoise, TABLE, times.trailing(TABLE, 20), x0, large=1.0).bits_per_dim(2)
    gap = np.asarray(values - (bound.total - bound.prior), np.float64)
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(len(gap))


@pytest.mark.slow
def test_the_hybrid_trains_the_mean_by_l_simple_and_the_variance_by_l_vlb(x64, key):
    x0 = levels(jax.random.key(1), 40, 3)
    distribution, weight, table = times.Integers(20.0), 0.01, dj.BetaTable.from_betas(BETAS)
    hybrid, vlb = Hybrid(table, distribution, network, from_eps, weight), VLB(table, distribution, network, from_eps)
    simple = DSM(table, distribution, half, from_eps)

    def mean(params, loss):
        values, aux = loss(params, key, x0)
        return values.mean(), (values, aux)

    grad = jax.jit(jax.grad(mean, has_aux=True))
    (both, (values, aux)), (of_vlb, (vlb_values, _)), (of_simple, (simple_values, _)) = (
        grad(PARAMS, loss) for loss in (hybrid, vlb, simple)
    )
    np.testing.assert_allclose(both["a"], of_simple["a"], rtol=1e-12)
    np.testing.assert_allclose(both["b"], weight * of_vlb["b"], rtol=1e-12)
    assert abs(of_vlb["a"]) > 1e-3 and abs(of_vlb["b"]) > 1e-3 and of_simple["b"] == 0
    np.testing.assert_allclose(aux["simple"], simple_values, rtol=1e-12)
    np.testing.assert_allclose(aux["vlb"], vlb_values, rtol=1e-12)
    np.testing.assert_allclose(values, aux["simple"] + weight * aux["vlb"], rtol=1e-12)


def test_the_network_runs_once_and_float32_gradients_are_finite_at_every_time(key):
    calls = []

    def counted(params, x, c_noise, cond=None, *, train, rngs):
        calls.append((cond, train, rngs["dropout"].shape))
        return network(params, x, c_noise)

    x0 = levels(key, 1000, 2)
    loss = Hybrid(dj.BetaTable.linear(1000), lambda key, n: 1.0 + jnp.arange(n), counted, from_eps, train=False)
    batch = {"image": x0, "cond": {"label": jnp.zeros(1000)}}
    grads = jax.jit(jax.grad(lambda params: loss(params, key, batch)[0].sum()))(PARAMS)  # NaN in any makes it NaN
    assert len(calls) == 1 and list(calls[0][0]) == ["label"] and calls[0][1:] == (False, ())
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))
    with pytest.raises(ValueError, match="twice the channels"):
        jax.eval_shape(VLB(TABLE, times.Integers(20.0), half, from_eps), PARAMS, key, x0)


@pytest.mark.slow
def test_sampling_times_by_the_loss_keeps_the_mean_and_lowers_the_variance(key):
    x0 = np.sqrt(S2) * np.random.default_rng(1).normal(size=(20000, 2)).astype(np.float32)
    values, aux = run(VLB(TABLE, times.Integers(20.0), half, exact, 0.0), ORACLE, key, x0)
    distribution = jax.jit(lambda distribution, t, loss: distribution.update(t, loss))(
        times.LossSecondMoment.create(20, 100), aux["t"], aux["vlb"]
    )
    assert float(distribution.probabilities().max()) > 1.5 / 20
    again, seen = run(VLB(TABLE, distribution, half, exact, 0.0), ORACLE, jax.random.key(2), x0)
    weight = jax.jit(lambda distribution, t: distribution.weight(t))(distribution, seen["t"])
    np.testing.assert_allclose(again, seen["vlb"] * weight, rtol=1e-6)
    error = np.hypot(float(values.std()), float(again.std())) / np.sqrt(20000)
    assert abs(float(values.mean() - again.mean())) < 4 * error
    assert float(again.std()) < 0.8 * float(values.std())
    simple, _ = run(
        DSM(TABLE, distribution, half, exact), ORACLE, key, x0
    )  # every loss with a distribution takes its weights
    t = np.arange(1.0, 21.0, dtype=np.float32)
    snr = TABLE.alpha(t) ** 2 / TABLE.sigma(t) ** 2  # which is DSM's weight
    assert abs(float(simple.mean() - (snr * left(TABLE, t, S2)).mean())) < 4 * float(simple.std()) / np.sqrt(20000)

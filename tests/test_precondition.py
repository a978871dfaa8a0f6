"""Denoisers from networks that output the exact target give the exact posterior mean."""

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
    x = jax.random.normal(key, (6, 2))
    t = jnp.linspace(0.1, 0.9, 6) * sde.T
    x0 = ideal(sde, x, t)
    target = x0 if name == "x0" else getattr(gaussian, f"{name}_from_x0")(sde, x, t, x0)
    seen = []

    def network(x, c_noise, cond=None):
        seen.append(c_noise)
        return target

    options = {"scaled": False} if name == "score" else {}
    denoise = getattr(precondition, f"from_{name}")(sde, network, precondition.scaled_time, **options)
    np.testing.assert_allclose(denoise(x, t), x0, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(seen[0], 999 * np.asarray(t) / sde.T)
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

    def flops(*verbs):
        f = lambda x: [verb(x, t) for verb in verbs]  # noqa: E731
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
    np.testing.assert_allclose(moved(x, t), dj.gaussian.rescale(own, vp, cosine)(x, t), rtol=1e-6)
    assert precondition.clock(vp)(cosine, 1.0) == precondition.scaled_time(vp, 1.0)  # sigma/alpha infinite: told T
    np.testing.assert_allclose(precondition.scaled_by(20.0)(dj.EDM(T=4.0), jnp.array([1.0, 4.0])), [5, 20])

"""The denoising loss at the exact optimum against its known minimum, for each weighting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times
from diffjax.losses import DSM, weightings
from diffjax.sde import gaussian

N = 20000
run = jax.jit(lambda loss, params, key, batch: loss(params, key, batch))


def exact(sde, network):
    """The `precondition` of an oracle: N(0, S2) data's posterior mean, whatever the network says."""

    def denoise(x, t, cond=None):
        alpha, sigma = gaussian.curves(sde, t, x)
        return alpha * S2 * x / (alpha**2 * S2 + sigma**2)

    return denoise


S2 = 0.25


def network(params, x, c_noise, cond=None, *, train, rngs):
    return jnp.zeros_like(x)


def minimum(sde, law, weight, key):
    """The mean loss at the optimum, and its standard error."""
    x0 = np.sqrt(S2) * np.random.default_rng(9).normal(size=(N, 4)).astype(np.float32)
    values = np.asarray(run(DSM(sde, law, network, exact, weight), {}, key, x0)[0])
    assert values.shape == (N,)
    return values.mean(), values.std() / np.sqrt(N)


def posterior_variance(sde, t):
    return S2 * sde.sigma(t) ** 2 / (sde.alpha(t) ** 2 * S2 + sde.sigma(t) ** 2)


def test_simple_loss_at_one_noise_level_is_the_dsm_minimum(key):
    """E (score + z/std)^2 = 1/q - 1/(s2 + q) for noise of variance q; the simple loss multiplies it by q."""
    sde, t = dj.VE(), 0.4
    q = float(sde.sigma(t)) ** 2
    mean, error = minimum(sde, times.Uniform(t, t), weightings.simple, key)
    assert abs(mean - q * (1 / q - 1 / (S2 + q))) < 4 * error


@pytest.mark.parametrize(
    "weight", [weightings.simple, weightings.v, weightings.x0, weightings.likelihood, weightings.edm]
)
def test_every_weighting_has_its_minimum(key, weight):
    sde, law = dj.VP(), times.LowDiscrepancy(0.05, 1.0)
    mean, error = minimum(sde, law, weight, key)
    t = np.linspace(0.05, 1, 20001, dtype=np.float32)
    expected = np.trapezoid(jax.jit(lambda t: weight(sde, t) * posterior_variance(sde, t))(t), t) / 0.95
    assert abs(mean - float(expected)) < 4 * error


def test_weights_turn_the_x0_error_into_the_named_error(key):
    sde, t = dj.SubVP(), jnp.array([0.2, 0.7])
    x, a, b = jax.random.normal(key, (3, 2, 5))
    run = jax.jit(lambda f, *args: f(sde, *args), static_argnums=0)
    for name in ("eps", "v", "velocity"):
        convert = getattr(gaussian, f"{name}_from_x0")
        error = (run(convert, x, t, a) - run(convert, x, t, b)) ** 2
        weight = {"eps": weightings.simple, "v": weightings.v, "velocity": weightings.velocity}[name]
        np.testing.assert_allclose(error, run(weight, t)[:, None] * (a - b) ** 2, rtol=2e-4)


def test_importance_sampling_estimates_the_likelihood_weighted_loss_with_less_noise(key):
    sde, lo = dj.VP(), 1e-3
    law = times.UniformLogSNR(sde, lo)
    direct, direct_error = minimum(sde, times.Uniform(lo, 1.0), weightings.likelihood, key)
    sampled, error = minimum(sde, law, weightings.simple, key)
    scale = float(law.z()) / (1 - lo)
    assert abs(direct - scale * sampled) < 4 * np.hypot(direct_error, scale * error)
    assert scale * error < direct_error / 2


def test_edm_loss_of_the_zero_network_is_one_at_every_noise_level(key):
    sde = dj.EDM()
    x0 = 0.5 * jax.random.normal(jax.random.key(1), (N, 4))
    loss = DSM(
        sde, times.LogNormal(sde), network, functools.partial(dj.precondition.edm, sigma_data=0.5), weightings.edm
    )
    values, t = (np.asarray(x) for x in jax.tree.leaves(run(loss, {}, key, x0)))
    for part in (t > 0, t < 0.2, t > 0.6):  # all; low and high noise by themselves
        v = values[part]
        assert abs(v.mean() - 1) < 4 * v.std() / np.sqrt(len(v))


def test_batches_conditions_and_dropout_reach_the_network(key):
    seen = {}

    def spy(params, x, c_noise, cond=None, *, train, rngs):
        seen.update(params=params, cond=cond, train=train, rngs=rngs)
        return jnp.zeros_like(x)

    batch = {"image": jnp.zeros((3, 2)), "cond": {"label": jnp.arange(3)}, "label": jnp.arange(3)}
    loss = DSM(dj.VP(), times.Uniform(), spy, dj.precondition.from_v, train=False)
    keys = jax.random.split(key, 3)
    values, _ = loss({"w": 1}, keys, batch)
    assert seen["params"] == {"w": 1} and seen["cond"]["label"].shape == (3,) and seen["train"] is False
    assert seen["rngs"]["dropout"].shape == ()
    # with one key each, an example's loss is its own
    np.testing.assert_allclose(loss({}, keys[1:2], {"image": jnp.zeros((1, 2))})[0], values[1:2], rtol=1e-6)

"""Losses of latent autoencoders: each term against NumPy, whose gradient is whose, the adversarial term's weight."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import losses, nn, times, train
from diffjax.losses import distillation as adversarial
from diffjax.typing import Context

RNG = np.random.default_rng(3)
X = RNG.uniform(-1, 1, (3, 8, 4, 3)).astype(np.float32)
X16 = RNG.uniform(-1, 1, (3, 16, 8, 3)).astype(np.float32)
TINY = dict(channels=(4, 6), layers=1, groups=2, latent=2, attention=False)
KL, VQ = nn.KLAutoencoder(**TINY), nn.VQAutoencoder(**TINY, codes=5)


@pytest.fixture(scope="module")
def params():
    return {net: jax.jit(net.init)(jax.random.key(1), X) for net in (KL, VQ)}


def features(x):
    return (x[:, ::2] ** 2, [jnp.sin(3 * x)])


def unit(a):
    return a / np.sqrt((a**2).sum(-1, keepdims=True))


@pytest.mark.slow
def test_the_kl_loss_is_its_terms(params, key):
    run, keys = jax.jit(losses.Autoencoding(KL, Partial(features), 0.3, 0.01)), dj.arrays.example_keys(key, 3)
    value, aux = run(params[KL], keys, {"image": X})
    code, found = losses.autoencoding.reconstruct(KL, params[KL], dj.arrays.fold(keys, 3), jnp.asarray(X))
    np.testing.assert_allclose(aux["l1"], np.abs(found - X).mean((1, 2, 3)), rtol=1e-5)
    kl = 0.5 * (code.mean**2 + np.exp(code.logvar) - 1 - code.logvar).sum((1, 2, 3))
    np.testing.assert_allclose(aux["kl"], kl, rtol=1e-5)
    far = [
        ((unit(f(np.asarray(found))) - unit(f(X))) ** 2).sum(-1).mean((1, 2))
        for f in (lambda x: x[:, ::2] ** 2, lambda x: np.sin(3 * x))
    ]
    np.testing.assert_allclose(aux["perceptual"], sum(far), rtol=1e-4)
    np.testing.assert_allclose(value, aux["l1"] + 0.3 * aux["perceptual"] + 0.01 * kl / X[0].size, rtol=1e-5)
    assert value.shape == (3,) and np.std(value) > 0
    np.testing.assert_allclose(run(params[KL], keys[1:2], {"image": X[1:2]})[0], value[1:2], rtol=1e-5)


@pytest.mark.slow
def test_the_vq_loss_moves_codebook_and_encoder_each_by_its_own_term(params, key):
    p, encode = params[VQ], lambda p: VQ.apply(p, X, method="encode")
    (value, aux), code = jax.jit(losses.Autoencoding(VQ, commitment=0.5))(p, key, X), jax.jit(encode)(p)
    np.testing.assert_allclose(value, aux["l1"] + code.codebook + 0.5 * code.commitment, rtol=1e-5)
    grad = jax.jit(jax.grad(lambda p: encode(p).codebook.sum()))(p)["params"]
    assert jnp.abs(grad.pop("codebook")).max() > 0 and all(not jnp.any(g) for g in jax.tree.leaves(grad))
    grad = jax.jit(jax.grad(lambda p: encode(p).commitment.sum()))(p)["params"]
    assert not jnp.any(grad.pop("codebook")) and jnp.abs(grad["encoder"]["conv_out"]["kernel"]).max() > 0


def test_a_perfect_reconstruction_costs_nothing(params, key):
    distance = losses.autoencoding.feature_distance(features, jnp.asarray(X), jnp.asarray(X))
    np.testing.assert_array_equal(distance, np.zeros(3))
    grad = jax.grad(lambda y: losses.autoencoding.feature_distance(features, jnp.asarray(X), y).sum())(0.5 * X)
    np.testing.assert_array_equal(grad, np.zeros_like(X))  # the second argument is data


def power(n, gain, params, key, batch):
    return gain * (batch * params["last"] ** n).sum(-1), {}


def test_the_balance_is_a_ratio_of_gradients_times_the_weight(key):
    """At p = 2 the slopes of the means are m and 3 m 4, for batch sums of mean m."""
    batch, p = jnp.array([[1.0], [2.0]]), {"last": jnp.array([2.0])}
    for gain in (1.0, 50.0):
        loss = losses.Balanced((Partial(power, 1, 1.0), Partial(power, 3, gain)), lambda p: p["last"], weights=(0.25,))
        value, aux = loss(p, key, batch)
        balance = 1.5 / (gain * 18 + 1e-4)
        np.testing.assert_allclose(aux["balance1"], [balance] * 2, rtol=1e-5)
        np.testing.assert_allclose(value, batch[:, 0] * 2 + 0.25 * balance * gain * batch[:, 0] * 8, rtol=1e-5)
    with pytest.raises(ValueError, match="2 losses take 1 weights, got 2"):
        losses.Balanced((Partial(power, 1, 1.0), Partial(power, 3, 1.0)), lambda p: p["last"], weights=(1.0, 2.0))


def test_a_delayed_loss_begins_at_its_step(key):
    loss, batch, p = losses.Delayed(Partial(power, 1, 1.0), 3), jnp.ones((2, 1)), {"last": jnp.array([2.0])}
    found = [loss(p, key, batch, Context(step=jnp.asarray(step)))[0] for step in range(5)]
    np.testing.assert_array_equal(found, [[0, 0]] * 3 + [[2, 2]] * 2)
    with pytest.raises(ValueError, match="needs the step of training"):
        loss(p, key, batch)


@pytest.mark.slow
def test_discriminator_and_autoencoder_train_in_turns(params, key):
    """The critic learns to tell reconstructions from images; before its start it does not move the autoencoder."""
    critic, coded = nn.PatchDiscriminator(width=4, layers=1), losses.Autoencoded(KL)
    judge = adversarial.Discriminator(critic.apply)
    term = adversarial.GeneratorLoss(coded, (adversarial.AdversarialTerm(judge),), (1.0,))
    last = lambda p: p["params"]["decoder"]["conv_out"]["kernel"]  # noqa: E731
    tx_d, tx = optax.adam(1e-2), optax.sgd(1e-2)

    @jax.jit
    def train_both(start, weight, state, batches):
        loss = losses.Balanced((losses.Autoencoding(KL), losses.Delayed(term, start)), last, weights=(weight,))
        turns = (
            partial(train.adversarial_steps, adversarial.DiscriminatorLoss(coded, judge), tx_d, ()),
            partial(train.adversarial_steps, loss, tx, ()),
        )
        return train.alternating_steps(*turns, state, batches)

    begin = train.AdversarialState(
        train.TrainState.create(key, jax.jit(critic.init)(key, X16), tx_d),
        train.TrainState.create(key, params[KL], tx),
    )
    batches = {"image": np.stack([X16] * 8)}
    (never, metrics), (off, _), (now, _) = (train_both(*how, begin, batches) for how in ((100, 1), (0, 0), (0, 1)))
    assert metrics["d_loss"][-1] < metrics["d_loss"][0]
    gap = lambda a, b: max(jnp.abs(x - y).max() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))  # noqa: E731
    assert gap(never.generator.params, off.generator.params) < 1e-6
    assert gap(never.generator.params, now.generator.params) > 1e-4


def test_patches_are_judged_by_themselves(key):
    net = nn.PatchDiscriminator(width=4, layers=2)
    x = jax.random.normal(key, (2, 32, 24, 3))
    p = net.init(key, x)
    logits = net.apply(p, x)
    assert logits.shape == (2, 6, 4) and logits.dtype == jnp.float32
    np.testing.assert_allclose(net.apply(p, x[1:]), logits[1:], atol=1e-5)


def test_labels_that_hold_together_have_a_loss_each(key):
    logits, labels = RNG.normal(size=(3, 4)).astype(np.float32), RNG.integers(0, 2, (3, 4))
    loss = losses.BinaryCrossEntropy(dj.VP(), times.Fixed(0.0), lambda p, x, c: p)
    value, aux = loss(jnp.asarray(logits), key, {"image": X, "labels": labels})
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(value, -np.where(labels > 0, np.log(p), np.log(1 - p)).mean(-1), rtol=1e-5)
    np.testing.assert_allclose(aux["hit"], ((logits > 0) == (labels > 0)).mean(-1))
    with pytest.raises(ValueError, match=r"must be \[B, K\]"):
        loss(jnp.asarray(logits), key, {"image": X, "labels": labels[:, 0]})
    with pytest.raises(ValueError, match='a field "labels"'):
        loss(jnp.asarray(logits), key, X)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: losses.Autoencoding(nn.MLP()), TypeError, "`encode` and `decode`"),
        (lambda: losses.Autoencoded(KL.apply), TypeError, "`encode` and `decode`"),
        (lambda: losses.Autoencoding(KL, kl=-1.0), ValueError, "the weight kl"),
        (lambda: losses.Delayed(Partial(power, 1, 1.0), -1), ValueError, "start"),
        (lambda: nn.PatchDiscriminator(layers=0), ValueError, "layers"),
        (lambda: nn.PatchDiscriminator().init(jax.random.key(0), X), ValueError, r"no patch .* 8 x 4 .* fewer layers"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call()

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import losses, nn, train


@pytest.fixture(scope="module")
def net():
    return nn.Autoencoder(channels=3, latent=2, width=4)


@pytest.fixture(scope="module")
def params(net):
    return jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 8, 12, 3)))


def test_the_halves_make_the_whole(net, params):
    x = np.random.default_rng(1).normal(size=(5, 8, 12, 3)).astype(np.float32)

    @jax.jit
    def run(params, x):
        z = net.apply(params, x, method="encode")
        return z, net.apply(params, z, method="decode"), net.apply(params, x)

    z, y, whole = run(params, x)
    assert z.shape == (5, 2, 3, 2) and (np.abs(z) < 1).all()
    assert y.shape == x.shape
    np.testing.assert_array_equal(y, whole)


def test_sides_are_multiples_of_four(net, params):
    with pytest.raises(ValueError, match=r"multiples of 4, got \(1, 8, 6, 3\)"):
        net.apply(params, jnp.zeros((1, 8, 6, 3)))


def test_the_loss_is_the_mean_square_of_each_image_and_falls(net, params):
    loss = losses.Reconstruction(net.apply)
    x = np.tanh(np.random.default_rng(1).normal(size=(4, 8, 12, 3))).astype(np.float32)
    values, _ = jax.jit(loss)(params, jax.random.key(2), {"image": x})
    out = np.asarray(jax.jit(net.apply)(params, x))
    np.testing.assert_allclose(values, ((out - x) ** 2).mean((1, 2, 3)), rtol=1e-5)
    tx = optax.adam(1e-2)
    steps = train.jit_train_steps(loss, tx, ())
    state = train.TrainState.create(jax.random.key(3), params, tx)
    state, metrics = steps(state, {"image": np.broadcast_to(x, (30, *x.shape))})
    assert metrics["loss"][-1] < 0.8 * metrics["loss"][0]

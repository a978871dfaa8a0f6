"""The autoencoders: posterior and codebook against their formulas, shapes, refusals. Numbers: tests/pretrained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn import KLAutoencoder, TinyAutoencoder, VQAutoencoder
from diffjax.nn.kl_autoencoder import Gaussian

RNG = np.random.default_rng(0)
SMALL = dict(channels=(8, 8), layers=1, groups=4)


def test_the_posterior_s_divergence_and_draws(key):
    mean, logvar = RNG.normal(size=(2, 3, 5)), RNG.normal(size=(2, 3, 5))
    q = Gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(logvar, jnp.float32))
    expected = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum((1, 2))
    np.testing.assert_allclose(q.kl(), expected, rtol=1e-5)
    assert Gaussian(jnp.zeros((2, 3)), jnp.zeros((2, 3))).kl().tolist() == [0, 0]
    assert q.mode() is q.mean
    many = jax.vmap(q.sample)(jax.random.split(key, 20_000))
    np.testing.assert_allclose(many.mean(0), mean, atol=5 * np.exp(logvar / 2).max() / 20_000**0.5)
    np.testing.assert_allclose(many.var(0), np.exp(logvar), rtol=0.06)
    keys = jax.random.split(key, 2)  # a key for each example
    assert (q.sample(keys)[1] == jax.tree.map(lambda x: x[1:], q).sample(keys[1:])[0]).all()


def test_log_variances_are_clipped(key):
    net = KLAutoencoder(**SMALL)
    x = jnp.zeros((1, 4, 4, 3))
    params = jax.tree.map(lambda like: jnp.zeros(like.shape), jax.eval_shape(net.init, key, x))
    params["params"]["quant_conv"]["bias"] = jnp.array([0.0, 0, 0, 0, 50, -50, 1, 20])
    q = net.apply(params, x, method="encode")
    np.testing.assert_array_equal(q.logvar[0, 0, 0], [20, -30, 1, 20])


@pytest.mark.parametrize("fields", [
    dict(channels=(32, 64, 64), layers=1, groups=8), dict(channels=(8,), latent=2, image_channels=1, groups=None),
    dict(channels=(8, 8, 8), quant_convs=False, attention=False, groups=4),
])  # fmt: skip
def test_shapes_of_any_number_of_levels(fields):
    net = KLAutoencoder(**fields)
    x = jax.ShapeDtypeStruct((2, 32, 16, net.image_channels), jnp.float32)

    def both(key, x):
        params = net.init(key, x)
        q = net.apply(params, x, method="encode")
        return q.mean, net.apply(params, q.sample(key), method="decode"), net.apply(params, x)

    z, y, through = jax.eval_shape(both, jax.random.key(0), x)
    f = 2 ** (len(net.channels) - 1)
    assert net.factor == f and z.shape == (2, 32 // f, 16 // f, net.latent) and y.shape == through.shape == x.shape


@pytest.mark.parametrize("kind", [KLAutoencoder, VQAutoencoder])
def test_images_and_latents_that_do_not_fit_are_refused(key, kind):
    net = kind(**SMALL)
    for shape in ((1, 5, 4, 3), (1, 4, 4, 1)):
        with pytest.raises(ValueError, match="images of 3 channels and multiples of 2 pixels"):
            jax.eval_shape(net.init, key, jnp.zeros(shape))
    with pytest.raises(ValueError, match="latents of 4 channels"):
        net.apply({"params": {"codebook": jnp.zeros((8192, 4))}}, jnp.zeros((1, 2, 2, 3)), method="decode")
    with pytest.raises(ValueError, match="one level or more"):
        kind(channels=())
    tiny = TinyAutoencoder(width=8)
    with pytest.raises(ValueError, match="multiples of 8 pixels"):
        jax.eval_shape(tiny.init, key, jnp.zeros((1, 12, 8, 3)))
    with pytest.raises(ValueError, match="as many stages down as up"):
        TinyAutoencoder(encoder_blocks=(1, 2))


@pytest.fixture(scope="module")
def vq():
    net = VQAutoencoder(**SMALL, codes=7)
    params = net.init(jax.random.key(0), jnp.zeros((1, 4, 4, 3)))
    params["params"]["codebook"] = jax.random.normal(jax.random.key(1), (7, 4))
    return net, params, jax.random.normal(jax.random.key(2), (2, 3, 5, 4))


@pytest.mark.slow
def test_codes_are_the_nearest_and_stay_themselves(vq):
    net, params, z = vq
    quantise = lambda z: net.apply(params, z, method="quantise")  # noqa: E731
    out, table = quantise(z), params["params"]["codebook"]
    far = ((np.asarray(z)[..., None, :] - np.asarray(table)) ** 2).sum(-1)
    np.testing.assert_array_equal(out.index, far.argmin(-1))
    np.testing.assert_array_equal(out.z, table[out.index])
    np.testing.assert_allclose(out.codebook, far.min(-1).mean((1, 2)) / 4, rtol=1e-5)
    np.testing.assert_array_equal(out.codebook, out.commitment)
    again = quantise(out.z)
    np.testing.assert_array_equal(again.z, out.z)
    np.testing.assert_array_equal(again.index, out.index)
    assert again.codebook.tolist() == [0, 0]


def test_gradients_pass_through_the_choice_of_a_code(vq):
    net, params, z = vq
    weight = jnp.arange(z.size).reshape(z.shape) / 10

    def through(params, z, what):
        out = net.apply(params, z, method="quantise")
        return {"z": (weight * out.z).sum(), "codebook": out.codebook.sum(), "commitment": out.commitment.sum()}[what]

    grad = lambda what: jax.grad(through, (0, 1))(params, z, what)  # noqa: E731
    book = lambda g: jnp.abs(g["params"]["codebook"]).max()  # noqa: E731
    of_params, of_z = grad("z")
    np.testing.assert_array_equal(of_z, weight)
    assert book(of_params) == 0
    of_params, of_z = grad("codebook")
    assert book(of_params) > 0 and (of_z == 0).all()
    of_params, of_z = grad("commitment")
    out = net.apply(params, z, method="quantise")
    np.testing.assert_allclose(of_z, 2 * (z - out.z) / z[0].size, rtol=1e-5)
    assert book(of_params) == 0


def test_a_vq_autoencoder_shares_the_halves_of_the_kl_one(vq):
    net, params, _ = vq
    x = jnp.ones((1, 4, 4, 3))
    out = net.apply(params, x, method="encode")
    assert out.index.shape == (1, 2, 2) and net.apply(params, x).shape == x.shape
    kl = jax.eval_shape(KLAutoencoder(**SMALL).init, jax.random.key(0), x)["params"]
    assert jax.tree.structure(kl["decoder"]) == jax.tree.structure(params["params"]["decoder"])
    assert params["params"]["encoder"]["conv_out"]["bias"].shape == (4,)

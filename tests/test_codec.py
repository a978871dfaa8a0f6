"""The codec, and the latent model: pictures in and out, everything else on latents in the units of the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import nn, precondition
from diffjax.codec import tiled

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (9, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def codec():
    net = nn.Autoencoder(3, 2, 4)
    return dj.Codec.measured(net, jax.jit(net.init)(jax.random.key(1), jnp.zeros((1, 8, 8, 3))), IMAGES, batch_size=4)


@pytest.fixture(scope="module")
def model(codec):
    net = nn.UNet(nn.embed.Sinusoidal(8), 8, (1,), 1, ())
    made = dj.Model.init(jax.random.key(2), net, dj.VP(), precondition.from_v, jnp.zeros((1, 2, 2, 2)), codec=codec)
    noise = lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape)  # noqa: E731
    return made.replace(params=jax.tree.map(noise, made.params))


def test_latents_have_unit_variance_and_decode_to_the_network_s_pictures(codec):
    z = codec.encode(IMAGES)
    assert z.shape == (9, *codec.latent_shape) == (9, 2, 2, 2)
    np.testing.assert_allclose(np.std(z), 1, rtol=1e-5)
    raw = codec.network.apply(codec.params, IMAGES, method="encode")
    np.testing.assert_allclose(z, codec.scale * raw, rtol=1e-6)
    np.testing.assert_allclose(codec.decode(z), codec.network.apply(codec.params, IMAGES), atol=1e-6)
    moved = codec.replace(shift=jnp.array([0.3, -0.1]), scale=jnp.array([2.0, 5.0]))
    np.testing.assert_allclose(moved.decode(moved.encode(IMAGES)), codec.decode(z), atol=1e-6)
    np.testing.assert_allclose(codec.encode(IMAGES, batch_size=2), z, atol=1e-6)
    np.testing.assert_allclose(codec.decode(z, batch_size=4), codec.decode(z), atol=1e-6)


@pytest.mark.slow
def test_a_large_picture_goes_through_in_tiles(codec):
    """A pointwise map is the same in tiles to rounding; a convolution where no tile's border is near."""
    x = jnp.asarray(RNG.normal(size=(2, 40, 24, 3)).astype(np.float32))
    for tile, overlap in ((16, 0.25), (16, 0.5), (17, 0.3), (24, 0.0), (64, 0.25)):
        np.testing.assert_allclose(tiled(jnp.sin, x, tile, overlap), jnp.sin(x), atol=1e-6)
    halved = lambda x: nn.resample.down(x, (1, 1))  # noqa: E731
    doubled = lambda x: nn.resample.up(x, (1, 1))  # noqa: E731
    for fn in (halved, doubled):
        np.testing.assert_allclose(tiled(fn, x, 16), fn(x), atol=1e-6)
    large = jnp.asarray(RNG.uniform(-1, 1, (1, 64, 32, 3)).astype(np.float32))
    whole, parts = codec.encode(large), codec.encode(large, tile=32)
    assert parts.shape == whole.shape == (1, 16, 8, 2)
    np.testing.assert_allclose(parts[:, :4], whole[:, :4], atol=1e-5)
    assert codec.decode(whole, tile=8).shape == large.shape
    with pytest.raises(ValueError, match="do not divide into whole pixels"):
        tiled(halved, x, 15)


def test_a_latent_model_samples_pictures_through_its_codec(model, codec, key):
    z = model.replace(codec=None).sample(key, 3, dj.DDIM(), steps=2)
    np.testing.assert_allclose(model.sample(key, 3, dj.DDIM(), steps=2), codec.decode(z), atol=1e-5)
    np.testing.assert_allclose(model.sample(key, 3, dj.DDIM(), steps=2, batch_size=2), codec.decode(z), atol=1e-5)
    assert model.sample(key, 0).shape == (0, 8, 8, 3)


@pytest.mark.slow
def test_pictures_are_encoded_where_a_latent_model_takes_them(model, codec, key):
    x, z = IMAGES[:2], codec.encode(IMAGES[:2])
    np.testing.assert_allclose(model.invert(x, steps=3), model.invert(z, steps=3), atol=1e-5)
    np.testing.assert_allclose(model.log_likelihood(key, x), model.log_likelihood(key, z), rtol=1e-3)
    for wrong in (jnp.zeros((2, 4, 4, 3)), jnp.zeros((2, 8))):
        with pytest.raises(ValueError, match=r"pictures \[B, 8, 8, 3\] or latents \[B, 2, 2, 2\]"):
            model.invert(wrong)


def test_a_model_and_its_codec_have_the_same_latents(model, codec, key):
    large = codec.replace(shape=(16, 16, 3))
    for changes in ({"codec": large}, {"shape": (4, 4, 2)}):
        with pytest.raises(ValueError, match=r"shape is .* its codec makes latents .* change both"):
            model.replace(**changes)
    assert model.replace(codec=large, shape=(4, 4, 2)).sample(key, 1, dj.DDIM(), steps=1).shape == (1, 16, 16, 3)
    with pytest.raises(ValueError, match="start holds NaN"):
        model.sample(key, 1, start=jnp.full((1, 2, 2, 2), jnp.nan))


def test_pictures_in_other_units_are_refused_before_they_are_latents(model, key):
    for wrong, says in ((127.5 * (IMAGES + 1), "levels 0"), (np.nan * IMAGES, "NaN")):
        for call in (model.invert, lambda x: model.log_likelihood(key, x)):
            with pytest.raises(ValueError, match=says):
                call(wrong)


@pytest.mark.slow
def test_editing_goes_from_the_picture_to_a_sample(model, codec, key):
    """Strength 0 is what the codec leaves; at 1 nothing of the picture is left but alpha(T) of it, 0.007."""
    edit = lambda x, strength: model.sdedit(key, x, strength, steps=4)  # noqa: E731
    np.testing.assert_allclose(edit(IMAGES, 0.0), codec.decode(codec.encode(IMAGES)), atol=1e-5)
    whole = edit(IMAGES, 1.0)
    np.testing.assert_allclose(edit(codec.encode(IMAGES), 1.0), whole, atol=1e-5)
    apart = lambda strength: float(jnp.abs(edit(IMAGES, strength) - edit(-IMAGES, strength)).mean())  # noqa: E731
    assert apart(1.0) < 0.05 * apart(0.0) and apart(0.0) > apart(0.5) > apart(1.0)
    ts = dj.times.tail(dj.times.uniform_logsnr(model.sde, 4), 0.5)
    direct = dj.sdedit(key, model.denoise, model.sde, model.sampler, ts, codec.encode(IMAGES))
    np.testing.assert_allclose(edit(IMAGES, 0.5), codec.decode(direct), atol=1e-5)
    keys = dj.arrays.example_keys(key, 9)
    np.testing.assert_allclose(model.sdedit(keys[4:6], IMAGES[4:6], 1.0, steps=4), whole[4:6], atol=1e-5)
    with pytest.raises(ValueError, match="strength"):
        edit(IMAGES, 1.5)
    with pytest.raises(ValueError, match=r"a strength of 0\.1 leaves none of 4 steps"):
        edit(IMAGES, 0.1)
    with pytest.raises(TypeError, match="one number, known before"):
        jax.jit(lambda strength: edit(IMAGES, strength))(0.5)


def test_posterior_samples_of_a_latent_model_fit_a_measurement_of_pictures(model, codec, key):
    m = dj.measure(key, dj.operators.average_pool((8, 8, 3), 4), model.sample(jax.random.key(5), 2), noise_std=0.05)
    x = model.sample_posterior(key, 2, dj.posterior.dps(m, 0.3), steps=4)
    decoded = dj.Measurement(dj.operators.Decoded(m.operator, codec.decode), m.y, m.noise_std)
    z = dj.prior_sample(jax.random.split(key)[0], model.sde, (2, 2, 2, 2))
    z = dj.posterior.dps(decoded, 0.3).sample(jax.random.split(key)[1], model.denoise, model.sde, z, steps=4)
    np.testing.assert_allclose(x, codec.decode(z), atol=1e-4)
    with pytest.raises(AttributeError, match="a measurement of decoded latents is not linear"):
        model.sample_posterior(key, 2, dj.posterior.ddrm(m), steps=4)


def test_a_latent_model_s_file_holds_its_codec(model, key, tmp_path):
    path = dj.save(tmp_path / "latent", model)
    found = dj.load(path)
    assert jax.tree.structure(found) == jax.tree.structure(model)
    x = model.sample(key, 2, dj.DDIM(), steps=2)
    np.testing.assert_allclose(found.sample(key, 2, dj.DDIM(), steps=2), x, atol=1e-6)
    np.testing.assert_allclose(dj.load(path, like=model).sample(key, 2, dj.DDIM(), steps=2), x, atol=1e-6)
    assert found.codec.scale == pytest.approx(model.codec.scale, rel=1e-12)
    with pytest.raises(ValueError, match=r"another model than `like`|codec"):
        dj.load(path, like=model.replace(codec=None))


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda c: c.encode(jnp.zeros((1, 8, 8, 1))), ValueError, r"\[B, H, W, 3\]"),
        (lambda c: c.encode(np.zeros((1, 8, 8, 3), np.uint8)), TypeError, "to_float"),
        (lambda c: c.decode(jnp.zeros((2, 2, 2))), ValueError, r"latents are \[B, h, w, c\]"),
        (lambda c: c.decode(jnp.zeros((1, 2, 2, 2)), tile=0), ValueError, "tile"),
        (lambda c: c.encode(IMAGES, jax.random.key(0), batch_size=2), ValueError, "whole batch"),
        (lambda c: c.replace(scale=0.0), ValueError, "must be positive"),
        (lambda c: c.replace(scale="1"), TypeError, "scale must be a number"),
        (lambda c: c.replace(shift=jnp.nan), ValueError, "shift must be a finite number"),
        (lambda c: c.replace(shape=(8, 8)), TypeError, "shape"),
        (lambda c: c.replace(scale=jnp.ones(3)).encode(IMAGES), ValueError, "one for each of 2 channels, got .3."),
        (lambda c: c.encode(IMAGES, 0), ValueError, "key must be made by"),
        (lambda c: c.decode(jnp.full((1, 2, 2, 2), jnp.nan)), ValueError, "NaN"),
        (lambda c: c.encode(IMAGES, tile=4), ValueError, "take multiples of 4"),
        (lambda c: c.decode(jnp.zeros((1, 2, 2, 2), int)), TypeError, "latents are floats"),
        (lambda c: dj.Codec.measured(c.network, c.params, IMAGES, 0), ValueError, "batch_size must be at least 1"),
        (lambda c: c.replace(network=nn.MLP()), TypeError, "`encode` and `decode`"),
        (lambda c: dj.Codec.measured(c.network, jax.tree.map(jnp.zeros_like, c.params), IMAGES), ValueError, "trained"),
    ],
)
def test_what_is_no_codec_s_is_refused(codec, call, error, says):
    with pytest.raises(error, match=says):
        call(codec)


@pytest.mark.slow
def test_a_codebook_s_codec_decodes_the_nearest_vectors():
    net = nn.VQAutoencoder(channels=(4, 4), layers=1, groups=2, latent=2, attention=False, codes=7)
    codec = dj.Codec.measured(net, jax.jit(net.init)(jax.random.key(1), IMAGES), IMAGES)
    z = codec.encode(IMAGES[:2])
    table = codec.scale * codec.params["params"]["codebook"]
    far = jnp.square(z[..., None, :] - table).sum(-1).min(-1)
    np.testing.assert_allclose(far, np.zeros_like(far), atol=1e-10)  # every latent is one of them
    gap = jnp.sqrt(jnp.square(table[:, None] - table + 9 * jnp.eye(7)[..., None]).sum(-1).min())
    np.testing.assert_allclose(codec.decode(z + 0.2 * gap), codec.decode(z), atol=1e-5)
    one = codec.params["params"] | {"codebook": jnp.full((7, 2), 100.0).at[3].set(jnp.array([0.5, -1.0]))}
    with pytest.raises(ValueError, match="collapsed if one of its vectors"):
        dj.Codec.measured(net, {"params": one}, IMAGES)

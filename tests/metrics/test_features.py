import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data import fashion_mnist, to_float
from diffjax.formats import load_params
from diffjax.metrics import batched, fashion_features, features, report
from diffjax.metrics.features import FASHION_WEIGHTS, SmallClassifier

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (11, 28, 28, 1)).astype(np.float32)


@pytest.fixture(scope="module")
def fn():
    return fashion_features(batch_size=4)


def test_shape_and_determinism(fn):
    z = fn(IMAGES)
    assert z.shape == (11, 64) and z.dtype == np.float32 and np.isfinite(z).all()
    np.testing.assert_array_equal(z, fn(IMAGES))
    np.testing.assert_array_equal(z, fashion_features(batch_size=4)(jnp.asarray(IMAGES)))


def test_independent_of_neighbours_and_of_the_chunks(fn):
    np.testing.assert_array_equal(fn(IMAGES)[:4], fn(IMAGES[:4]))
    np.testing.assert_allclose(fn(IMAGES), fashion_features(batch_size=16)(IMAGES), atol=1e-4)
    np.testing.assert_allclose(fn(IMAGES[5:6]), fn(IMAGES)[5:6], atol=1e-4)


def test_committed_weights_are_small_float16():
    assert FASHION_WEIGHTS.stat().st_size < 1e6
    stored = load_params(FASHION_WEIGHTS, dtype="stored")
    assert {x.dtype for x in jax.tree.leaves(stored)} == {np.dtype(np.float16)}
    assert sum(x.size for x in jax.tree.leaves(stored)) < 500_000


def test_weights_of_another_network_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(features, "SmallClassifier", lambda: SmallClassifier(d=32))
    with pytest.raises(ValueError, match="but the network needs"):
        fashion_features()
    monkeypatch.setattr(features, "FASHION_WEIGHTS", tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        fashion_features()


def test_any_function_in_chunks_of_one_shape():
    shapes = []

    def flatten(x):
        shapes.append(x.shape)
        return x.reshape(len(x), -1)

    x = RNG.normal(size=(7, 2, 2, 1)).astype(np.float32)
    np.testing.assert_array_equal(batched(flatten, (2, 2, 1), 3)(x), x.reshape(7, 4))
    assert shapes == [(3, 2, 2, 1)] * 3


def test_bad_images(fn):
    with pytest.raises(ValueError, match=r"expected images of shape \[B, 28, 28, 1\], got \(11, 28, 28\)"):
        fn(IMAGES[..., 0])
    with pytest.raises(ValueError, match="expected images"):
        fn(IMAGES[:0])
    with pytest.raises(ValueError, match="NaN"):
        fn(np.where(IMAGES > 0.9, np.nan, IMAGES))


def test_real_images_are_far_from_noisy_ones():
    folder = fashion_mnist.DEBIAN
    if not folder.is_dir():
        pytest.skip("Fashion-MNIST is not installed (apt-get install dataset-fashion-mnist)")
    images, labels = fashion_mnist.read_split(folder, "test")
    x = to_float(images[:1500, ..., None])
    params = load_params(FASHION_WEIGHTS)
    logits = jax.jit(SmallClassifier().apply)(params, x[:500])[0]
    assert (np.argmax(logits, -1) == labels[:500]).mean() > 0.87  # 0.916 on the whole test set; 4 sigma of 500 are 0.05
    fn = fashion_features()
    real = fn(x)
    clean = report(real[:1000], real[1000:])
    noisy = report(real[:1000], fn(x[1000:] + 0.3 * RNG.normal(size=x[1000:].shape)))
    assert clean.count == noisy.count == 500
    assert clean.fd < 2 * clean.fd_floor and noisy.fd > 2 * noisy.fd_floor

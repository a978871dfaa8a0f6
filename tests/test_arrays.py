import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import arrays


def test_bcast_and_reductions(key):
    x = jax.random.normal(key, (3, 4, 5))
    assert arrays.bcast(2.0, x).shape == ()
    assert arrays.bcast(jnp.arange(3.0), x).shape == (3, 1, 1)
    np.testing.assert_allclose(arrays.flat_norm(x), [np.linalg.norm(row) for row in np.asarray(x)], rtol=1e-6)
    np.testing.assert_allclose(arrays.flat_mean(x), np.asarray(x).reshape(3, -1).mean(1), rtol=1e-5)


def test_noise_belongs_to_the_example_not_to_the_batch(key):
    x = jnp.zeros((64, 7))
    noise = arrays.normal(key, x)
    keys = arrays.example_keys(key, 64)
    assert jnp.array_equal(arrays.normal(key, x[:5]), noise[:5])
    assert jnp.array_equal(arrays.normal(keys[3:4], x[:1])[0], noise[3])
    assert jnp.array_equal(arrays.example_keys(key, 4, start=8), keys[8:12])


def test_split_and_fold_work_for_one_key_and_many(key):
    keys = arrays.example_keys(key, 3)
    a, b = arrays.split(keys)
    assert a.shape == b.shape == (3,)
    assert jnp.array_equal(jnp.stack([a[1], b[1]]), jax.random.split(keys[1]))
    assert jnp.array_equal(arrays.fold(keys, 5)[2], jax.random.fold_in(keys[2], 5))


def test_wrong_number_of_keys(key):
    with pytest.raises(ValueError, match="one key or 4 keys"):
        arrays.example_keys(jax.random.split(key, 3), 4)

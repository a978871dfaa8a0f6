import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.nn import MLP


def test_contract(key):
    net, x = MLP(width=16, num_classes=2), jax.random.normal(key, (3, 2))
    out, params = jax.jit(net.init_with_output)(key, x, 0.0)
    assert not np.any(out)  # it starts at zero
    params, apply = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.1), params), jax.jit(net.apply)
    out = apply(params, x, jnp.array([1.0, 500.0, 1.0]), {"label": jnp.array([0, 1, 2])})
    assert (out.shape, out.dtype) == (x.shape, jnp.float32)
    np.testing.assert_allclose(apply(params, x[1:2], 500.0, {"label": jnp.array([1])}), out[1:2], rtol=1e-5)
    np.testing.assert_allclose(apply(params, x[2:], 1.0), out[2:], rtol=1e-5)  # no label: the null label
    low = jax.eval_shape(MLP(width=16, num_classes=2, dtype=jnp.bfloat16).apply, params, x, 1.0)
    assert low.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"\[B, D\]"):
        net.apply(params, jnp.zeros((2, 4, 4, 1)), 0.0)

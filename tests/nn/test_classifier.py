"""The noise-conditional classifier: shapes, its input of the noise level, batch independence."""

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import nn


def test_classifier(key):
    net = nn.Classifier(7, width=8, multipliers=(1,))
    x = jax.random.normal(key, (3, 12, 12, 1))
    params = jax.jit(net.init)(key, x, jnp.zeros(3))
    params = jax.tree.map(lambda p: np.asarray(p) + np.float32(0.02), params)  # no layer is 0
    apply = jax.jit(net.apply)
    logits = apply(params, x, jnp.array([0.0, 10.0, 500.0]))
    assert logits.shape == (3, 7) and logits.dtype == jnp.float32
    np.testing.assert_allclose(apply(params, x, jnp.array([0.0, 10.0, 0.0]))[:2], logits[:2], atol=1e-6)
    assert jnp.abs(apply(params, x, jnp.zeros(3))[2] - logits[2]).max() > 1e-4  # it uses the noise level

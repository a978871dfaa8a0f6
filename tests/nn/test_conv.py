"""The convolution's own derivative rule against JAX's, forwards, backwards and twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from diffjax.nn.conv import conv


def reference(x, w, stride, padding, dilation):
    return lax.conv_general_dilated(
        x, w, (stride, stride), padding, rhs_dilation=(dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"),
    [(1, "SAME", 1), (2, "SAME", 1), (2, "VALID", 1), (1, ((1, 0), (0, 2)), 1), (1, "SAME", 2), (2, "SAME", 4)],
)
def test_values_and_derivatives(x64, stride, padding, dilation):
    keys = jax.random.split(jax.random.key(0), 4)
    x, dx = (jax.random.normal(k, (2, 7, 6, 3), jnp.float64) for k in keys[:2])
    w, dw = (jax.random.normal(k, (3, 3, 3, 5), jnp.float64) for k in keys[2:])
    how = (stride, padding, dilation)
    ours, theirs = (lambda x, w: conv(x, w, *how)), (lambda x, w: reference(x, w, *how))
    np.testing.assert_allclose(ours(x, w), theirs(x, w), rtol=1e-12)
    forward = [jax.jvp(h, (x, w), (dx, dw))[1] for h in (ours, theirs)]
    np.testing.assert_allclose(*forward, rtol=1e-10, atol=1e-12)
    energy = [lambda x, w, h=h: (h(x, w) ** 3).sum() for h in (ours, theirs)]
    for a, b in zip(*[jax.grad(e, (0, 1))(x, w) for e in energy], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    twice = [jax.grad(lambda x, w, e=e: (jax.grad(e)(x, w) * dx).sum(), 1)(x, w) for e in energy]
    np.testing.assert_allclose(*twice, rtol=1e-9, atol=1e-9)
    mapped = [jax.vmap(h, (0, None))(jnp.stack([x, dx]), w) for h in (ours, theirs)]
    np.testing.assert_allclose(*mapped, rtol=1e-12)

"""The convolution's own derivative rule against JAX's, forwards, backwards and twice."""

from functools import partial

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
    rng = np.random.default_rng(0)
    (x, dx), (w, dw) = rng.normal(size=(2, 2, 7, 6, 3)), rng.normal(size=(2, 3, 3, 3, 5))

    @partial(jax.jit, static_argnums=0)
    def everything(convolve):
        h = lambda x, w: convolve(x, w, stride, padding, dilation)  # noqa: E731
        energy = lambda x, w: (h(x, w) ** 3).sum()  # noqa: E731
        twice = jax.grad(lambda w: (jax.grad(energy)(x, w) * dx).sum())(w)
        mapped = jax.vmap(h, (0, None))(jnp.stack([x, dx]), w)
        return h(x, w), jax.jvp(h, (x, w), (dx, dw))[1], jax.grad(energy, (0, 1))(x, w), twice, mapped

    (value, forward, (by_x, by_w), twice, mapped), theirs = everything(conv), everything(reference)
    np.testing.assert_allclose(value, theirs[0], rtol=1e-12)
    np.testing.assert_allclose(forward, theirs[1], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(by_x, theirs[2][0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(by_w, theirs[2][1], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(twice, theirs[3], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mapped, theirs[4], rtol=1e-12)

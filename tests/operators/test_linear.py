"""Every linear operator: its decomposition, adjoint and pseudo-inverse against its own forward map."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import operators

SHAPE = (8, 12, 3)
KERNEL = np.outer([1, 2, 1, 0, 0], [1, 3, 1]) / 20  # neither symmetric nor centred


@pytest.fixture(scope="module")
def built():
    """All operators on images of SHAPE."""
    key = jax.random.key(1)
    mask = jax.random.bernoulli(key, 0.5, (8, 12, 1))
    return {
        "Mask": operators.Mask(mask.astype(float)),
        "average_pool": operators.average_pool(SHAPE, 4),
        "bicubic": operators.bicubic(SHAPE, 2),
        "gaussian_blur": operators.gaussian_blur(SHAPE, 1.5),
        "circular_blur": operators.circular_blur(SHAPE, KERNEL),
        "circular_blur, truncated": operators.circular_blur(SHAPE, KERNEL, least=0.3),
        "grey": operators.grey(),
        "channels": operators.channels([[1.0, 0.5], [0.2, 0.1], [0.0, -1.0]]),
        "random_projection": operators.random_projection(key, SHAPE, 40),
        "compressed_sensing": operators.compressed_sensing(key, SHAPE, 0.3),
    }


NAMES = (
    "Mask",
    "average_pool",
    "bicubic",
    "gaussian_blur",
    "circular_blur",
    "circular_blur, truncated",
    "grey",
    "channels",
    "random_projection",
    "compressed_sensing",
)


@pytest.mark.parametrize("name", NAMES)
def test_decomposition(built, name, key):
    A = built[name]

    @jax.jit
    def everything(x, u):
        y = A(x)
        return {
            "y": y,
            "USV'x": A.U(A.s * A.Vt(x)),
            "VV'x": A.V(A.Vt(x)),
            "A A+ y": A(operators.pinv(A, y)),
            "A' u": operators.adjoint(A, u),
            "seen": jnp.sum(jnp.abs(A.Vt(x)) ** 2),
        }

    x = jax.random.normal(key, (2, *SHAPE))
    u = jax.random.normal(jax.random.key(2), A(x).shape)
    out = everything(x, u)
    np.testing.assert_allclose(out["USV'x"], out["y"], atol=2e-5)
    np.testing.assert_allclose(out["VV'x"], x, atol=2e-5)
    np.testing.assert_allclose(out["A A+ y"], out["y"], atol=5e-5)
    np.testing.assert_allclose(
        jnp.vdot(out["y"], u), jnp.vdot(x, out["A' u"]), rtol=1e-4, atol=1e-4
    )  # <Ax, u> = <x, A'u>
    np.testing.assert_allclose(out["seen"], jnp.sum(x**2), rtol=1e-5)  # V is orthonormal


def test_forward_maps_are_what_their_names_say(built, key):
    x = jax.random.normal(key, (2, *SHAPE))
    pooled = np.asarray(x).reshape(2, 2, 4, 3, 4, 3).mean((2, 4))
    np.testing.assert_allclose(built["average_pool"](x), pooled, atol=1e-6)
    np.testing.assert_allclose(built["grey"](x)[..., 0], np.asarray(x).mean(-1), atol=1e-6)
    cubic = jax.image.resize(x, (2, 4, 6, 3), "cubic", antialias=True)
    np.testing.assert_allclose(built["bicubic"](x), cubic, atol=1e-5)
    blurred = np.zeros((2, *SHAPE))
    for i in range(5):
        for j in range(3):  # the kernel's centre is (2, 1)
            blurred += KERNEL[i, j] * np.roll(np.asarray(x), (i - 2, j - 1), axis=(1, 2))
    np.testing.assert_allclose(built["circular_blur"](x), blurred, atol=1e-5)
    np.testing.assert_allclose(built["gaussian_blur"](jnp.ones_like(x)), 1, atol=0.05)  # but for the truncated values


def test_every_operator_is_a_pytree_argument(built, key):
    x = jnp.ones((1, *SHAPE))
    traces = []

    @jax.jit
    def run(A, x):
        traces.append(1)
        return A(x)

    for _ in range(2):
        run(built["circular_blur"], x), run(built["average_pool"], x)
    assert len(traces) == 2


def test_errors():
    with pytest.raises(ValueError, match="1 where a pixel is known and 0 elsewhere"):
        operators.Mask(jnp.array([0.0, 0.5]))
    with pytest.raises(ValueError, match="a factor of 5 does not divide"):
        operators.average_pool(SHAPE, 5)
    with pytest.raises(ValueError, match="odd sides"):
        operators.circular_blur(SHAPE, np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"standard deviation, in pixels, must be a finite number in \(0"):
        operators.gaussian_blur(SHAPE, 0.0)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        operators.compressed_sensing(jax.random.key(0), SHAPE, 0.0)
    with pytest.raises(ValueError, match=r"takes \[B, 8, 12, C\]"):
        operators.average_pool(SHAPE, 4)(jnp.ones((1, 4, 4, 3)))
    with pytest.raises(ValueError, match="M <= D"):
        operators.matrix(np.ones((5, 3)))

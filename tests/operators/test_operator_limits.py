"""Operators where a singular value, a spectrum or an image is 0: pseudo-inverses against NumPy, finite gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import corrections, operators
from diffjax.operators import perceptual

RNG = np.random.default_rng(0)


def deficient(m, d, rank):
    """A matrix [m, d] of lower rank, of unequal rows, that float32 rounds."""
    return (RNG.normal(size=(m, rank)) * np.geomspace(1, 30, rank)) @ RNG.normal(size=(rank, d))


@jax.jit
def solve(A, y, x):
    """A^+ y, A^+ A x, and the gradient of the projection's square."""
    projected = lambda x: operators.pinv(A, A(x))  # noqa: E731
    return operators.pinv(A, y), projected(x), jax.grad(lambda x: (projected(x) ** 2).sum())(x)


@pytest.mark.parametrize(("m", "d", "rank"), [(2, 3, 1), (7, 7, 4), (12, 50, 11), (30, 40, 30)])
def test_the_pseudo_inverse_of_a_deficient_matrix_is_numpys(m, d, rank):
    A, x = deficient(m, d, rank).astype(np.float32), 3 + RNG.normal(size=(4, d)) * np.geomspace(0.1, 2, d)
    y = x @ A.T + 0.01 * RNG.normal(size=(4, m))
    inverse = np.linalg.pinv(A.astype(np.float64), rcond=1e-6)
    got, projected, slope = solve(operators.matrix(A), jnp.asarray(y, jnp.float32), jnp.asarray(x, jnp.float32))
    s = np.linalg.svd(A, compute_uv=False)
    lost = 1e-6 * s[0] / s[rank - 1]  # of float32's digits, by the condition of what is not 0
    np.testing.assert_allclose(got, y @ inverse.T, atol=lost * np.abs(y @ inverse.T).max())
    np.testing.assert_allclose(projected, x @ (inverse @ A).T, atol=lost * np.abs(x).max())
    assert jnp.isfinite(slope).all()


def test_matrices_at_their_limits():
    zero = operators.matrix(np.zeros((2, 3)))
    assert not zero.s.any() and (operators.pinv(zero, jnp.ones((1, 2))) == 0).all()
    one = operators.matrix([[1.0, 1.0], [1.0, 1.0 + 1e-9]])  # float32 cannot tell the rows apart
    assert (one.s > 0).sum() == 1
    assert (operators.matrix(np.diag([1.0, 1e-4])).s > 0).all()  # a small value is no zero ...
    assert (operators.matrix(np.diag([1.0, 1e-4]), least=1e-3).s > 0).sum() == 1  # unless it is said to be
    mixture = operators.channels([[1.0, 2.0], [1.0, 2.0], [0.5, 1.0]])  # dependent columns
    y = jnp.array([[[[1.0, 2.01]]]])
    expected = np.asarray(y[0, 0, 0]) @ np.linalg.pinv([[1.0, 2.0], [1.0, 2.0], [0.5, 1.0]])
    np.testing.assert_allclose(operators.pinv(mixture, y)[0, 0, 0], expected, atol=1e-5)
    flat = operators.separable(np.full((3, 5), 0.2), np.eye(4))
    np.testing.assert_allclose(operators.pinv(flat, jnp.ones((1, 3, 4, 1))), 1, atol=1e-5)


@pytest.mark.parametrize("side", [5, 8, 12])
def test_a_blur_with_zeros_in_its_spectrum(side):
    """A box of 3 on a side divided by 3 loses whole frequencies, which rounding leaves at 1e-17; NumPy's are 0."""
    kernel = np.full((1, 3), 1 / 3) if side != 8 else np.array([[0.5, 0.0, 0.5]])
    x = (2 + RNG.normal(size=(2, side, side, 1)) * np.geomspace(0.1, 3, side)).astype(np.float32)
    blurred = sum(tap * np.roll(x.astype(np.float64), j - 1, 2) for j, tap in enumerate(kernel[0]))
    A = operators.circular_blur((side, side), kernel)
    lost = int((A.s == 0).sum())
    assert lost == {5: 0, 8: 2 * 8, 12: 2 * 12}[side]
    shift = sum(tap * np.roll(np.eye(side), j - 1, 1) for j, tap in enumerate(kernel[0]))  # rows of pixels, as a matrix
    y = blurred + 0.01 * RNG.normal(size=x.shape)
    expected = np.einsum("ij,bhjc->bhic", np.linalg.pinv(shift.T, rcond=1e-6), y)
    got, _, slope = solve(A, jnp.asarray(y, jnp.float32), jnp.asarray(x))
    np.testing.assert_allclose(got, expected, atol=2e-4)
    assert jnp.isfinite(slope).all()
    none = operators.circular_blur((side, side), np.zeros((3, 3)))
    assert all(jnp.isfinite(a).all() and not a.any() for a in solve(none, jnp.ones((1, side, side, 1)), jnp.asarray(x)))


def test_products_of_small_singular_values_count_as_0():
    steep = operators.separable(np.diag([1.0, 1e-4]), np.diag([1.0, 1e-4]))
    np.testing.assert_array_equal(np.asarray(steep.s[..., 0]) > 0, [[True, True], [True, False]])


def test_a_mask_ignores_what_it_hides():
    mask = jnp.zeros((4, 4, 1)).at[1].set(1)
    x = jnp.where(mask > 0, 0.5, jnp.nan) * jnp.ones((2, 1, 1, 1))
    m = operators.measure(jax.random.key(0), operators.Mask(mask), x, 0.1)
    assert jnp.isfinite(m.y).all() and jnp.isfinite(corrections.Project(m)(jnp.zeros_like(x), 0.5)).all()
    nothing = operators.Measurement(operators.Mask(jnp.zeros((4, 4, 1))), jnp.zeros((2, 4, 4, 1)), 0.1)
    z = jnp.ones((2, 4, 4, 1))
    np.testing.assert_array_equal(corrections.Project(nothing)(z, 0.5), z)
    assert operators.relative_residual(nothing, z) == 0
    for shape in ((4, 4), (2, 4, 4), (3, 4, 1), (1, 1, 4, 4, 1)):
        with pytest.raises(ValueError, match="does not fit x"):
            operators.Mask(jnp.ones(shape))(z)


FLAT = {"black": -1.0, "grey": 0.0, "white": 1.0, "beyond": 3.0}
BLUR = operators.gaussian_blur((8, 8), 1.0)
NONLINEAR = {
    "phase retrieval": operators.PhaseRetrieval(2), "HDR": operators.HDR(2.0), "quantised": operators.Quantise(2),
    "nonlinear blur": operators.NonlinearBlur(BLUR), "dark curve": operators.NonlinearBlur(BLUR, 0.5),
    "Gram": operators.Gram(lambda x: x + 1), "direction": operators.UnitNorm(lambda x: x.reshape(len(x), -1)),
    "views": operators.Views(lambda x: x.reshape(len(x), -1)),
}  # fmt: skip


@pytest.mark.parametrize("name", NONLINEAR)
def test_flat_images_have_finite_values_and_gradients(name):
    A = NONLINEAR[name]
    x = jnp.stack([jnp.full((8, 8, 1), level) for level in FLAT.values()])

    @jax.jit
    def run(x):
        misfit = operators.Misfit(operators.Measurement(A, A(x)))
        return A(x), jax.grad(lambda x: (A(x) ** 2).sum())(x), jax.grad(lambda x: misfit(x).sum())(x)

    y, slope, at_rest = run(x)
    assert jnp.isfinite(y).all() and jnp.isfinite(slope).all() and (at_rest == 0).all()
    if name in ("nonlinear blur", "dark curve"):  # a constant image stays, down to the least level it tells from black
        expected = 2 * np.clip((np.array([*FLAT.values()]) + 1) / 2, 1e-3, 1) - 1
        np.testing.assert_allclose(y, np.broadcast_to(expected[:, None, None, None], y.shape), atol=2e-2)


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e25])
def test_directions_of_any_length(size):
    v = np.array([[3.0, -4.0, 0.0]])
    directions = jax.jit(perceptual.directions)
    np.testing.assert_allclose(directions(np.float32(size * v)), v / 5, rtol=1e-6)
    np.testing.assert_array_equal(directions(np.zeros((1, 3), np.float32)), 0)
    slope = jax.jit(jax.grad(lambda y: perceptual.directions(y)[0, 0]))(np.float32(v))
    np.testing.assert_allclose(slope, [[16 / 125, 12 / 125, 0]], rtol=1e-5)  # (I - u u^T) / |v|


LINEAR = {
    "mask": operators.Mask(jnp.ones((8, 8, 1))), "pool": operators.average_pool((8, 8, 1), 2),
    "blur": operators.circular_blur((8, 8), np.ones((3, 3)) / 9), "grey": operators.channels(np.ones((1, 1))),
    "projection": operators.random_projection(jax.random.key(0), (8, 8, 1), 9),
    "sensing": operators.compressed_sensing(jax.random.key(0), (8, 8, 1), 0.5), "HDR": operators.HDR(),
    "phase": operators.PhaseRetrieval(), "quantised": operators.Quantise(),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_dtypes(name):
    """NumPy's float64 and bfloat16 are measured in float32 (a Fourier transform has no less); levels are refused."""
    A, x = LINEAR[name], np.linspace(-1, 1, 64).reshape(1, 8, 8, 1)
    y = A(x)
    assert y.dtype == A(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.float32
    np.testing.assert_allclose(A(jnp.asarray(x, jnp.bfloat16)), y, atol=0.35 if name == "quantised" else 0.03)
    with pytest.raises(TypeError, match="operators take floats"):
        A(np.zeros((1, 8, 8, 1), np.uint8))


Y = jnp.zeros((1, 4, 4, 1))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: operators.average_pool(8, 4), ValueError, r"the shape of an image is \(H, W, C\)"),
        (lambda: operators.average_pool((4, 8, 8, 1), 4), ValueError, "without the batch"),
        (lambda: operators.average_pool((8, 8), 0), ValueError, "factor must be at least 1"),
        (lambda: operators.bicubic((8, 8), 2.5), TypeError, "factor must be an integer"),
        (lambda: operators.gaussian_blur((8, 8), np.nan), ValueError, "standard deviation"),
        (lambda: operators.circular_blur((8, 8), np.full((3, 3), np.nan)), ValueError, "kernel holds NaN"),
        (lambda: operators.matrix(np.full((1, 2), np.nan)), ValueError, "2 of 2 entries of the matrix"),
        (lambda: operators.matrix(np.eye(2), least=2.0), ValueError, "least must be"),
        (lambda: operators.random_projection(jax.random.key(0), (2, 2, 1), 5), ValueError, "m must be from 1 to 4"),
        (lambda: operators.compressed_sensing(jax.random.key(0), (8, 8, 1), np.nan), ValueError, "ratio"),
        (lambda: operators.HDR(0.0), ValueError, "HDR's factor"),
        (lambda: operators.Quantise(1), ValueError, "levels must be at least 2"),
        (lambda: operators.NonlinearBlur(operators.HDR(), 0.0), ValueError, "gamma"),
        (lambda: operators.PhaseRetrieval(-1), ValueError, "pad must be at least 0"),
        (lambda: operators.Views(len, np.zeros((1, 4))), ValueError, "magnification must be positive"),
        (lambda: operators.Gram(lambda x: x[..., 0])(Y), ValueError, r"feature maps are \[B, h, w, D\]"),
        (lambda: operators.Measurement(operators.HDR, Y), TypeError, r"did you mean HDR\(\)"),
        (lambda: operators.Measurement(Y, Y), TypeError, "expected an operator"),
        (lambda: operators.Measurement(operators.HDR(), Y.astype(jnp.uint8)), TypeError, "array of floats"),
        (lambda: operators.Measurement(operators.HDR(), Y, "0.1"), TypeError, "noise_std"),
        (lambda: operators.Measurement(operators.HDR(), Y, jnp.ones(1)).residual(Y), ValueError, "one number for all"),
        (lambda: operators.measure(0, operators.HDR(), Y), ValueError, "key must be made by"),
        (lambda: operators.Misfit(Y), TypeError, "expected a measurement"),
        (lambda: corrections.Clip(1.0, -1.0), ValueError, "from low = 1.0 to high = -1.0 is empty"),
        (lambda: corrections.DynamicThreshold(2.0), ValueError, "p must be a finite number in .* it is a fraction"),
        (lambda: corrections.Window(corrections.Clip(), 0.8, 0.2), ValueError, "the window from"),
        (lambda: corrections.Window("clip", 0.2, 0.8), TypeError, "expected a correction"),
        (lambda: corrections.Gradient("loss"), TypeError, "expected a guiding loss"),
        (lambda: corrections.Gradient(len, -1.0), ValueError, "a step up the loss is one down its negative"),
        (lambda: corrections.Gradient(len, "1"), TypeError, "the scale must be a number"),
        (lambda: corrections.Project(operators.HDR()), TypeError, "projection to get a measurement"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()

"""Measurements, their misfit, and the operators that are only differentiable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import operators


def test_measure_adds_noise_only_where_something_is_measured(key):
    x, mask = jax.random.normal(key, (500, 4, 4, 1)), jnp.zeros((4, 4, 1)).at[0].set(1)
    m = operators.measure(key, operators.Mask(mask), x, 0.1)
    assert jnp.all(m.y[:, 1:] == 0)
    noise = np.asarray(m.y[:, 0] - x[:, 0])
    assert abs(noise.std() - 0.1) < 4 * 0.1 / np.sqrt(2 * noise.size)  # 4 sigma
    alone = operators.measure(jax.random.fold_in(key, 0)[None], operators.Mask(mask), x[:1], 0.1)
    np.testing.assert_array_equal(alone.y, m.y[:1])


@jax.jit
def residuals(operator, key, x):
    """The relative residual of the truth, and of something else."""
    m = operators.measure(key, operator, x, 0.1)
    return operators.relative_residual(m, x), operators.relative_residual(m, x + 1)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3)])
def test_the_truth_has_a_relative_residual_of_one(key, shape):
    """Over what was measured alone: within 4 sigma of 1, sigma = 1 / sqrt(2 n) for n numbers in all."""
    x = jax.random.normal(key, (50, *shape))
    size = 64 * shape[-1]
    for operator, n in (
        (operators.Mask(jnp.zeros((8, 8, 1)).at[:2].set(1.0)), size / 4),
        (operators.average_pool(shape, 2), size / 4),
        (operators.compressed_sensing(key, shape, 0.5), size / 2),
        (operators.random_projection(key, shape, 20), 20),
        (operators.HDR(2.0), size),
        (operators.channels(np.full((shape[-1], 1), 1 / shape[-1])), 64),
    ):
        relative, wrong = residuals(operator, key, x)
        assert abs(float(relative) - 1) < 4 / np.sqrt(2 * n * len(x)), operator
        assert wrong > 2
    with pytest.raises(ValueError, match="a relative residual divides by the measurement's noise"):
        jax.eval_shape(lambda x: operators.relative_residual(operators.measure(key, operators.HDR(), x), x), x)


def test_misfit_and_its_slope(key):
    A, x = operators.average_pool((4, 4, 1), 2), jax.random.normal(key, (3, 4, 4, 1))
    m = operators.Measurement(A, jnp.zeros((3, 2, 2, 1)), 0.1)

    @jax.jit
    def run(x):
        slope = jax.grad(lambda x: operators.Misfit(m)(x).sum())(jnp.zeros_like(x))
        return A(x), operators.Misfit(m)(x), operators.Misfit(m, squared=True)(x), slope

    y, misfit, squared, slope = run(x)
    expected = np.linalg.norm(np.asarray(y).reshape(3, -1), axis=1)
    np.testing.assert_allclose(misfit, expected, rtol=1e-5)
    np.testing.assert_allclose(squared, expected**2, rtol=1e-5)
    assert jnp.all(slope == 0)  # where the misfit is 0, not NaN


def test_nonlinear_operators(key):
    x = np.asarray(jax.random.uniform(key, (2, 8, 8, 1), minval=-1.0))
    blur = operators.NonlinearBlur(operators.circular_blur((8, 8), np.ones((3, 3)) / 9))

    @jax.jit
    def run(x):
        images = [A(x) for A in (operators.PhaseRetrieval(2), operators.HDR(3.0), operators.Quantise(4))]
        slope = jax.grad(lambda x: operators.Quantise(4)(x).sum())(x)
        smooth = operators.PhaseRetrieval(2), blur, operators.HDR()
        at_0 = [jax.grad(lambda x, A=A: (A(x) ** 2).sum())(jnp.zeros_like(x)) for A in smooth]
        return images, slope, blur(jnp.full_like(x, 0.3)), blur(x), at_0

    (phaseless, clipped, four), slope, constant, blurred, at_0 = jax.tree.map(np.asarray, run(x))
    spectrum = np.abs(np.fft.fft2(np.pad(x / 2 + 0.5, [(0, 0), (2, 2), (2, 2), (0, 0)]), axes=(1, 2))) / 12
    np.testing.assert_allclose(phaseless, spectrum, atol=1e-5)
    np.testing.assert_allclose(clipped, np.clip(3 * x, -1, 1), atol=1e-6)
    steps = 1.5 * (four + 1)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-5)  # -1, -1/3, 1/3, 1
    assert np.abs(four - x).max() <= 1 / 3 + 1e-6
    np.testing.assert_array_equal(slope, np.ones_like(x))
    np.testing.assert_allclose(constant, 0.3, atol=1e-5)  # a constant image stays
    assert blurred.mean() > x.mean()  # light, not grey levels, is averaged
    assert all(np.isfinite(grad).all() for grad in at_0)


def test_errors():
    A = operators.average_pool((4, 4, 1), 2)
    with pytest.warns(UserWarning, match="levels 0 ... 255"):
        operators.Measurement(A, jnp.full((1, 2, 2, 1), 77.0))
    with pytest.raises(ValueError, match="noise_std, the noise's standard deviation, must be"):
        operators.Measurement(A, jnp.zeros((1, 2, 2, 1)), -0.1)
    with pytest.raises(ValueError, match=r"maps x \(2, 4, 4, 1\) to \(2, 2, 2, 1\), but the measurement has shape"):
        operators.Measurement(A, jnp.zeros((1, 2, 2, 1))).residual(jnp.zeros((2, 4, 4, 1)))

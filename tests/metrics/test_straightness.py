"""The straightness of paths known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import times
from diffjax.metrics import straightness


def test_it_is_zero_for_a_line_and_the_known_value_for_a_parabola(x64, key):
    ts, a, b = jnp.linspace(5.0, 1.0, 401), *jax.random.normal(key, (2, 3, 2, 2))
    u = ((5 - ts) / 4).reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(straightness(ts, a + u * b), 0, atol=1e-12)
    # Z = b u^2: int |b - 2 b u|^2 du = |b|^2 / 3, and 1 - 1/n^2 of it on n equal steps
    np.testing.assert_allclose(straightness(ts, a + u**2 * b), (b**2).sum((1, 2)) / 3 * (1 - 1 / 400**2), rtol=1e-9)


def test_the_flow_of_a_gaussian(x64):
    """x_t = sqrt(V) eps with V = (1 - t)^2 s^2 + t^2, integrated in NumPy and through a sampler's trajectory."""
    s, sde = 0.3, dj.Flow()
    t = np.linspace(0, 1, 20001)
    V = (1 - t) ** 2 * s**2 + t**2
    exact = np.trapezoid((1 - s - (t - (1 - t) * s**2) / np.sqrt(V)) ** 2, t)
    gaussian = dj.GaussianMixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full((1, 1, 1), s**2))
    ts = times.uniform(sde, 400)
    xs = dj.sample(
        jax.random.key(0), gaussian.denoiser(sde), sde, dj.Heun(), ts, jnp.array([[1.0], [-2.0]]), trajectory=True
    )
    np.testing.assert_allclose(straightness(ts, xs), exact * np.array([1, 4]), rtol=2e-3)
    assert exact > 0.05


@pytest.mark.parametrize(("ts", "xs"), [((3,), (4, 2)), ((1,), (1, 2)), ((3,), (3,))])
def test_paths_that_do_not_fit_the_grid(ts, xs):
    with pytest.raises(ValueError, match="expected ts"):
        straightness(jnp.zeros(ts), jnp.zeros(xs))

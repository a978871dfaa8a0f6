"""The terrain model: a stand-in of the same inputs and outputs, and the real network where the package is there."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx_files
import pytest

import diffjax as dj
from diffjax.data import packages
from diffjax.pretrained import TERRAIN, load_terrain, terrain_heights, terrain_values

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return onnx_files.terrain(tmp_path_factory.mktemp("terrain") / "stand-in.onnx")


def test_a_sample_is_one_step_from_the_largest_level(path):
    model, key = dj.pipelines.load_terrain(path), jax.random.key(0)
    assert (model.sde, model.shape) == (dj.EDM(), (128, 128, 1))
    d = jnp.array([0.2, 0.8])
    x = model.sample(key, 2, cond={"difficulty": d})
    noise = dj.prior_sample(dj.arrays.split(key)[0], dj.EDM(), (2, 128, 128, 1))
    expected = jnp.clip(noise / (1 + 80.0**2) + d[:, None, None, None] / 2, -1, 1)
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-6)
    several = model.sample(key, 2, steps=jnp.array([80.0, 40.0, 0.002]), cond={"difficulty": 0.5})
    assert several.shape == x.shape and not np.array_equal(several, model.sample(key, 2, cond={"difficulty": 0.5}))


def test_conditions_are_checked(path):
    model, key = dj.pipelines.load_terrain(path), jax.random.key(0)
    for cond in (None, {"label": 3}, {"difficulty": 0.5, "label": 3}):
        with pytest.raises(ValueError, match=r'takes cond = \{"difficulty"'):
            model.sample(key, 2, cond=cond)
    for d, message in ((-0.01, r"level 1 \.\.\. 100 is"), (1.01, "100 is"), (50, "100 is"), (np.nan, "holds NaN")):
        with pytest.raises(ValueError, match=message):
            model.sample(key, 2, cond={"difficulty": d})
    with pytest.raises(ValueError, match="condition"):
        model.sample(key, 2, cond={"difficulty": jnp.zeros(3)})
    with pytest.raises(ValueError, match=r"one for each of 2 examples"):
        model.denoise(jnp.zeros((2, 128, 128, 1)), 1.0, {"difficulty": jnp.zeros((2, 1))})
    with pytest.raises(ValueError, match="noisy must be of shape"):
        model.denoise(jnp.zeros((2, 64, 64, 1)), 1.0, {"difficulty": 0.5})


def test_another_network_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds another network than that of terrain"):
        load_terrain(onnx_files.terrain(tmp_path / "x.onnx", side=64))


def test_heights_in_metres():
    h = np.array([0, 0.05, 1, 22.16864])
    x = terrain_values(h)
    assert x[0] == -1 and abs(float(x[-1]) - 1) < 1e-5 and np.all(np.diff(x) > 0)
    np.testing.assert_allclose(terrain_heights(x), h, rtol=1e-5, atol=1e-6)
    assert abs(float(terrain_heights(0.0)) - 0.1 * np.sinh(np.arcsinh(221.6864) / 2)) < 1e-5
    for wrong in (-0.1, 23.0, np.nan):
        with pytest.raises(ValueError, match="a height"):
            terrain_values(wrong)


@pytest.mark.slow
def test_the_published_network():
    try:
        net = load_terrain(packages.find(*TERRAIN))
    except FileNotFoundError:
        pytest.skip("the package adaptive-terrain-diffusion is not there: make data")
    i, j = np.mgrid[:128, :128].astype(np.float64)
    x = np.stack([80 * np.sin(i * j + i), np.cos(i / 9) + np.sin(i * j)])[..., None].astype(np.float32)
    y = jax.jit(net)(x, jnp.array([80.0, 1.0]), {"difficulty": jnp.array([0.25, 1.0])})
    # by ONNX Runtime 1.32 of the same file
    np.testing.assert_allclose(y[0, ::40, 0, 0], [-0.06340277, -0.04209911, 0.0498844, -0.13089077], atol=2e-5)
    np.testing.assert_allclose(y[1, 40, ::40, 0], [-0.29009655, -0.39366549, -0.4204239, -0.46312958], atol=2e-5)
    np.testing.assert_allclose(y.mean((1, 2, 3)), [-0.00421436, 0.03286222], atol=1e-5)
    np.testing.assert_allclose(y.std((1, 2, 3)), [0.08038349, 0.62156194], atol=1e-5)

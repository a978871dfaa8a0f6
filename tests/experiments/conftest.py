"""What the tests of the experiments share: loading one by its name, and a network that compiles at once."""

import importlib.util
import sys
from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


class Pixelwise(nn.Module):
    """One linear map of each pixel, or of each point of the plane, and the noise level: the networks have own tests."""

    channels: int = 1

    @nn.compact
    def __call__(self, x, c_noise, cond=None, *, train=False):
        c = jnp.reshape(jnp.asarray(c_noise, x.dtype), (-1, *[1] * (x.ndim - 1)))
        c = jnp.broadcast_to(c, (*x.shape[:-1], 1))
        return nn.Dense(self.channels, kernel_init=nn.initializers.zeros)(jnp.concatenate([x, jnp.sin(c)], axis=-1))


@pytest.fixture(scope="session")
def load():
    """The module of an experiment, by its name."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def pixelwise():
    return Pixelwise

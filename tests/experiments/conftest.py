"""What the tests of the experiments share: loading one by its name, and a network that compiles at once."""

import importlib.util
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import nn as networks
from diffjax import train

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


class Pixelwise(nn.Module):
    """A linear map of each pixel, or of each point of the plane, and the noise level: the networks have own tests.

    The label, and the guidance scale by the matrix that a student of guidance has, are added to every pixel.
    """

    channels: int = 1
    num_classes: int = 0

    @nn.compact
    def __call__(self, x, c_noise, cond=None, *, train=False):
        cond, over = cond or {}, (-1, *[1] * (x.ndim - 1))
        level = jnp.asarray(sum(jax.tree.leaves(c_noise)), x.dtype)  # of a flow map two
        c = jnp.broadcast_to(jnp.reshape(level, over), (*x.shape[:-1], 1))
        zeros = nn.initializers.zeros
        y = nn.Dense(self.channels, kernel_init=zeros)(jnp.concatenate([x, jnp.sin(c)], axis=-1))
        if self.num_classes:
            rows = nn.Embed(self.num_classes + 1, self.channels, embedding_init=zeros)
            y = y + rows(jnp.reshape(jnp.asarray(cond.get("label", self.num_classes)), over[:-1]))
        if "scale" in cond:
            y = y + nn.Dense(self.channels, False, kernel_init=zeros, name="guidance")(jnp.reshape(cond["scale"], over))
        return y


@pytest.fixture(scope="session")
def pixelwise():
    """The class, in the place of a network of the package: a model card can name it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pixelwise, "__module__", "diffjax.nn")
        patch.setattr(networks, "Pixelwise", Pixelwise, raising=False)
        yield Pixelwise


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
def points():
    def points(steps_per_call, *names):
        """Four batches of four points, or of points and their noise."""
        x = np.random.default_rng(0).standard_normal((2, 4, steps_per_call, 4, 2)).astype(np.float32)
        return dict(zip(names, x, strict=False))

    return points


@pytest.fixture(scope="session")
def halves():
    def halves(steps, start, batches, folder):
        """The state after four batches, to the last bit that after two, a checkpoint and two; and the metrics."""
        like, states, seen = jax.eval_shape(lambda: start), [start], []
        for n in range(4):
            if n == 2:
                with train.Checkpoints(folder) as saved:
                    saved.save(states[0])
                    states.append(saved.restore(like))
            ends = [steps(state, jax.tree.map(lambda x, n=n: x[n], batches)) for state in states]
            states = [state for state, _ in ends]
            seen.append(ends[0][1])
        data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
        whole, parts = (jax.tree.map(data, state) for state in states)
        jax.tree.map(np.testing.assert_array_equal, whole, parts)
        return whole, seen

    return halves

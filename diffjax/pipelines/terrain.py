"""The pretrained terrain network as a model: `model.sample(key, 4, cond={"difficulty": 0.5})`."""

from __future__ import annotations

from pathlib import Path

from jax.tree_util import Partial

from diffjax import precondition
from diffjax.data import packages
from diffjax.model import Model
from diffjax.pretrained.terrain import TERRAIN
from diffjax.pretrained.terrain import load_terrain as load_network
from diffjax.samplers import Renoise
from diffjax.sde import EDM


def load_terrain(path: str | Path | None = None) -> Model:
    """Height maps [B, 128, 128, 1] in [-1, 1] of a difficulty in [0, 1]; `pretrained.terrain_heights` gives metres.

    The process is `EDM()`, and a sample is one step from sigma = 80, which is what the network was distilled for. More
    steps of the same sampler are multistep consistency sampling (Song et al. 2023), at the times that are given:
    `model.sample(key, 4, steps=jnp.array([80.0, 40.0, 0.002]), cond=...)`. For what goes to lower levels, other
    solvers and posterior samplers, take `guidance.calibrate(...)` in the place of `model.denoise`.

    Args:
      path: the file; by default that of the package which `make data` fetches.

    Raises:
      ImportError, FileNotFoundError, ValueError: as `pretrained.load_terrain`; or the package is not there.
    """
    net = load_network(packages.find(*TERRAIN) if path is None else path)
    prediction = Partial(precondition.from_x0, c_noise=Partial(precondition.time))
    network, (params,) = net.func.__self__, net.args
    return Model(network, params, EDM(), prediction, (128, 128, 1), sampler=Renoise(1.0), steps=1)

"""Terrain: a U-Net of 10.5 million parameters that draws height maps of 128 x 128 pixels of a given difficulty.

    net = load_terrain(packages.find(*TERRAIN))
    x_0 = net(x, sigma, {"difficulty": d})          # x = x_0 + sigma eps, sigma in [0.002, 80]

It is a consistency model (Song et al. 2023) in form, with the preconditioning of `precondition.consistency` for
sigma_data = 0.5 inside; at sigma = 0.002 it is the identity, and its results are clipped to [-1, 1]. **It was distilled
at its endpoint alone** ("endpoint-distillation" in the file, of a teacher of 20 steps), and made for one step from
sigma = 80: at lower levels it leaves much of the noise in, where `guidance.calibrate` helps.

Values are heights in metres h, 0 to 22.17 above the lowest point of the map, on a scale that is finest near 0:

    x = 2 asinh(h / 0.1) / asinh(22.17 / 0.1) - 1                                                  (1)

The difficulty d in [0, 1] is the package's level 1 ... 100 as (level - 1) / 99; its own horizontal scale is 0.1 m a
pixel. Source: PyPI's adaptive-terrain-diffusion 0.4.2 (MIT, © 2024 Youwei Yu; its network is that of OpenAI's
consistency models, MIT), terrain_diffusion/generator.py.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.checks import check_number, known
from diffjax.pretrained.onnx_graph import Graph, Tensor, read_onnx
from diffjax.typing import Cond, PyTree

TERRAIN = ("terrain_diffusion", "weights/terrain_consistency_unet_difficulty100.onnx")  # package, file
HIGHEST, SCALE = 22.16864013671875, 0.1  # metres


@dataclasses.dataclass(frozen=True)
class TerrainNetwork:
    """`apply(params, x, sigma, cond) -> x_0`."""

    graph: Graph
    cond_keys: ClassVar[tuple[str, ...]] = ("difficulty",)

    def apply(
        self, params: PyTree, x: Array, sigma: Array, cond: Cond = None, *, train: bool = False, rngs: Any = None
    ) -> Array:
        """x [B, 128, 128, 1] at noise levels sigma [B], {"difficulty": [] or [B]} -> x_0 [B, 128, 128, 1].

        Raises:
          ValueError: another shape; or the condition is none, has other entries, or a difficulty outside [0, 1].
        """
        difficulty = self._difficulty(x, cond)
        given = {"noisy": x.transpose(0, 3, 1, 2), "sigma": sigma, "difficulty": difficulty}
        given = {name: value.astype(self.graph.inputs[name].dtype) for name, value in given.items()}
        return self.graph(params, **given)["denoised"].transpose(0, 2, 3, 1)

    def check_cond(self, x: Array, t: Any, cond: Cond) -> None:
        """Look at a condition whose values are known, before they are traced."""
        self._difficulty(x, cond)

    def _difficulty(self, x: Array, cond: Cond) -> Array:
        if not isinstance(cond, dict) or set(cond) != {"difficulty"}:
            raise ValueError(f'the terrain network takes cond = {{"difficulty": 0 to 1, [] or [B]}}, got {cond}')
        d = cond["difficulty"]
        if known(d):
            check_number("difficulty", d, 0, 1, why="the package's level 1 ... 100 is (level - 1) / 99")
        d = jnp.asarray(d, jnp.float32)
        if d.shape not in ((), x.shape[:1]):
            raise ValueError(f"difficulty must be one number, or one for each of {len(x)} examples, got {d.shape}")
        return jnp.broadcast_to(d, x.shape[:1])


def load_terrain(path: str | Path) -> Partial:
    """The network as `Partial(apply, params)`: (x [B, 128, 128, 1], sigma [B], {"difficulty": d}) -> x_0.

    `pipelines.load_terrain` makes a `dj.Model` of it; `terrain_heights` gives metres.

    Raises:
      ImportError: the package `onnx`, which reads the file, is not installed.
      FileNotFoundError: there is no such file.
      ValueError: it is truncated, or holds another network (the difference is named).
    """
    graph, params = read_onnx(path)
    image, number = Tensor(("batch", 1, 128, 128), np.dtype(np.float32)), Tensor(("batch",), np.dtype(np.float32))
    inputs, outputs = {"noisy": image, "sigma": number, "difficulty": number}, {"denoised": image}
    if graph.inputs != inputs or graph.outputs != outputs:
        raise ValueError(f"{path} holds another network than that of terrain: {graph.inputs} -> {graph.outputs}")
    return Partial(TerrainNetwork(graph).apply, params)


def terrain_heights(x: Any) -> Array:
    """Heights in metres, 0 to 22.17, of the network's values x, which are clipped to [-1, 1]: eq. (1)."""
    unit = (jnp.clip(jnp.asarray(x), -1, 1) + 1) / 2
    return SCALE * jnp.sinh(unit * np.arcsinh(HIGHEST / SCALE))


def terrain_values(heights: Any) -> Array:
    """The network's values in [-1, 1] of heights in metres, by eq. (1).

    Raises:
      ValueError: a height lies outside of 0 ... 22.17 m: they are above the lowest point of the map.
    """
    check_number("a height", heights, 0, HIGHEST, why="in metres above the lowest point of the map")
    return 2 * jnp.arcsinh(jnp.asarray(heights) / SCALE) / np.arcsinh(HIGHEST / SCALE) - 1

"""A Flax NNX module as a network of this package: a pure function, and its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax import Array

from diffjax.parameters import flatten, unflatten
from diffjax.typing import Cond, PyTree


def from_nnx(module: nnx.Module) -> tuple[Callable, PyTree]:
    """`(network, params)` of an NNX module that is called as `module(x, c_noise)`, or `module(x, c_noise, cond)`.

    The network is `(params, x, c_noise, cond, *, train, rngs) -> F`. With `train` the module runs in training mode
    (`nnx.Module.train`), its random streams, such as dropout's, seeded from `rngs`. The parameters are a nested dict of
    arrays. What is neither a parameter nor a random stream is a constant: batch statistics do not fit.

    Raises:
      ValueError: the module holds batch statistics.
    """
    graph, state, statistics, rest = nnx.split(module, nnx.Param, nnx.BatchStat, ...)
    if jax.tree.leaves(statistics):
        raise ValueError("the module holds batch statistics, which a pure function cannot update: use a group norm")
    streams = {node.tag for _, node in nnx.iter_graph(module) if isinstance(node, nnx.RngStream)}
    arrays = {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}
    structure = jax.tree.structure(state)

    def network(
        params: PyTree, x: Array, c_noise: Any, cond: Cond = None, *, train: bool = False, rngs: Any = None
    ) -> Array:
        flat = flatten(params)
        own = jax.tree.unflatten(structure, [flat[name] for name in arrays])
        model = nnx.merge(graph, own, statistics, rest, copy=True)
        model.train() if train else model.eval()
        if rngs:
            nnx.reseed(model, **{name: rngs.get(name, next(iter(rngs.values()))) for name in streams})
        return model(x, c_noise) if cond is None else model(x, c_noise, cond)  # pyright: ignore[reportCallIssue]

    return network, unflatten(arrays)

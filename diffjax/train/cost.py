"""What a step would cost, from shapes alone: nothing is allocated, nothing is run.

state = jax.eval_shape(lambda key: TrainState.create(key, net.init(key, x), tx, decays), jax.random.key(0))
step_cost(partial(train_step, loss, tx, decays), state, {"image": jax.ShapeDtypeStruct((128, 32, 32, 3), jnp.float32)})
"""

import math
from collections.abc import Callable

import jax

from diffjax.train.state import TrainState
from diffjax.typing import PyTree


def step_cost(step: Callable, state: TrainState, *args: PyTree, compile: bool = False) -> dict[str, float]:
    """The size and the cost of `step(state, *args)`, all arguments given as `jax.ShapeDtypeStruct`s.

    Args:
      step: one step. Of several steps in a loop XLA counts only one, so use `train_step` and not `train_steps`.
      compile: also compile, for the memory; that takes minutes for a large network.

    Returns:
      `parameters`, `state_bytes` (parameters, optimiser and averages), `flops` of one step as lowered, and with
      `compile` the `memory_bytes` of one step: the state, its other arguments and all intermediate values.
    """
    lowered = jax.jit(step, donate_argnums=0).lower(state, *args)
    cost = {
        "parameters": count(state.params),
        "state_bytes": sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state)),
        "flops": float((lowered.cost_analysis() or {}).get("flops", math.nan)),
    }
    memory = lowered.compile().memory_analysis() if compile else None
    if memory is not None:
        used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
        cost["memory_bytes"] = used - memory.alias_size_in_bytes
    return cost


def count(params: PyTree) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))

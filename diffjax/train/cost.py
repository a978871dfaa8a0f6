"""What a step would cost, from shapes alone: nothing is allocated, nothing is run.

state = jax.eval_shape(lambda key: TrainState.create(key, net.init(key, x), tx, decays), jax.random.key(0))
step_cost(partial(train_step, loss, tx, decays), state, {"image": jax.ShapeDtypeStruct((128, 32, 32, 3), jnp.float32)})
"""

import math
from collections.abc import Callable
from typing import Any

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


def products(fn: Callable, *args: PyTree) -> float:
    """Multiplications in the matrix products and convolutions of `fn(*args)`, counted in each turn of a `lax.scan`.

    Of several branches the costliest counts, and of a `while_loop`, whose length is not known, one turn. Nothing is
    run; args may be `jax.ShapeDtypeStruct`s.
    """
    return _products(jax.make_jaxpr(fn)(*args).jaxpr)


def _products(jaxpr: Any) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            total += eqn.outvars[0].aval.size * math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel, spec = eqn.invars[1].aval.shape, eqn.params["dimension_numbers"].rhs_spec
            reads = math.prod(kernel[i] for i in spec[1:])  # all but the output's channels
            total += eqn.outvars[0].aval.size * reads / math.prod(eqn.params["lhs_dilation"])  # zeros are put between
        else:
            parts = jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "eqns"))
            inner = [_products(getattr(part, "jaxpr", part)) for part in parts if hasattr(part, "eqns")]
            turns = eqn.params["length"] if name == "scan" else 1
            total += max(inner) if name == "cond" else turns * sum(inner)
    return total


def count(params: PyTree) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))

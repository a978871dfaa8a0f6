"""What one call of Stable Diffusion's U-Net at full size costs, with random weights: time and memory.

    python experiments/benchmarks/full_size.py                   # version 1.5, a latent of 64 x 64 (512 pixels)
    python experiments/benchmarks/full_size.py --preset sd2 --side 96 --dtype bfloat16

Weights are drawn in NumPy, of the variance of a network that keeps its input's, so that no time is spent on compiling
their initialisation. Compiling and running are timed apart, and the memory is the process' largest resident set.

Two CPU cores with other work on them, jax 0.10.2, 2026-11-30, version 1.5 in float32: tracing 1.8 s, compiling 6.1 s, a
call 9.4 to 10.2 s, and 4.5 GiB in all, 3.2 of them weights.
"""

from __future__ import annotations

import dataclasses
import math
import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from diffjax.nn import presets
from diffjax.parameters import unflatten
from diffjax.pretrained.stable_diffusion.layout import example, parameter_shapes
from diffjax.runs.experiment import wrapped


@dataclasses.dataclass(frozen=True)
class Config:
    preset: str = "sd1"
    """Of `diffjax.nn.presets`: sd1, sd2, sdxl, sdxl_refiner or sd_upscaler."""
    side: int = 64
    """Of the latent."""
    tokens: int = 77
    batch: int = 1
    dtype: str = "float32"
    runs: int = 3


def weights(net: Any, dtype: Any) -> dict[str, Any]:
    """Random parameters; norms are the identity, biases 0."""
    rng, flat = np.random.default_rng(0), {}
    for path, x in parameter_shapes(net).items():
        if len(x.shape) == 1:
            value = np.ones(x.shape, np.float32) if path.endswith("scale") else np.zeros(x.shape, np.float32)
        else:
            value = rng.standard_normal(x.shape, np.float32)
            value *= np.float32(math.prod(x.shape[:-1]) ** -0.5)
        flat[path] = jnp.asarray(value, dtype)
    return {"params": unflatten(flat)}


def inputs(net: Any, config: Config) -> tuple[Any, ...]:
    """x, t and a condition of random numbers."""
    rng, B = np.random.default_rng(1), config.batch
    x, _, cond = example(net)
    shapes = {"context": (B, config.tokens, net.context_width)}
    numbers = {
        name: jnp.asarray(rng.standard_normal(shapes.get(name, (B, *like.shape[1:]))), jnp.float32)
        for name, like in cond.items()
        if jnp.issubdtype(like.dtype, jnp.floating)
    }
    labels = {name: jnp.zeros(B, jnp.int32) for name in cond if name not in numbers}
    x = jnp.asarray(rng.standard_normal((B, config.side, config.side, x.shape[-1])), jnp.float32)
    return x, jnp.full(B, 500.0), numbers | labels


def peak() -> float:
    """The largest resident set until now, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(config: Config) -> None:
    dtype = jnp.dtype(config.dtype)
    net = getattr(presets, config.preset)(dtype=dtype, param_dtype=dtype)
    start = time.perf_counter()
    params = weights(net, dtype)
    count = sum(x.size for x in jax.tree.leaves(params))
    print(f"{config.preset}: {count:,} parameters, {config.dtype}, made in {time.perf_counter() - start:.1f} s")
    print(f"memory with the weights: {peak():.2f} GiB")
    arguments = inputs(net, config)
    start = time.perf_counter()
    lowered = jax.jit(net.apply).lower(params, *arguments)
    traced, start = time.perf_counter() - start, time.perf_counter()
    call = lowered.compile()
    print(f"tracing {traced:.1f} s, compiling {time.perf_counter() - start:.1f} s, memory {peak():.2f} GiB")
    seconds = []
    for _ in range(config.runs):
        start = time.perf_counter()
        F = jax.block_until_ready(call(params, *arguments))
        seconds.append(time.perf_counter() - start)
    print(f"a call {' '.join(f'{s:.1f}' for s in seconds)} s, memory {peak():.2f} GiB")
    print(f"F {list(F.shape)}: finite {bool(jnp.isfinite(F).all())}, standard deviation {float(F.std()):.3f}")


if __name__ == "__main__":
    main(tyro.cli(Config, description=wrapped(__doc__)))

"""What few steps save: students against their teacher's 50 DDIM steps, by the clock and by network calls.

    python experiments/benchmarks/few_steps.py             # two minutes on two idle CPU cores
    python experiments/benchmarks/few_steps.py 64 9        # batch, rounds

All are one jitted call of `sample` with the small U-Net of Fashion-MNIST; a student runs in turn with the teacher, in
one process. `speed-up` is the median over the rounds of the ratio of their times, `calls` that of their network calls.

Two idle CPU cores, jax 0.10.2, 2026-11-25; kinds of students do not differ:

    steps           1      2      4
    ms an image  0.73   1.41   2.79
    speed-up     47.3   24.4   12.2
    calls          50     25   12.5
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from jax.tree_util import Partial
from tyro.conf import Positional

import diffjax as dj
from diffjax import flow_maps, precondition, times
from diffjax.nn import presets
from diffjax.runs.experiment import wrapped

SDE, TEACHER = dj.Cosine(), 50


def students() -> dict[str, tuple[Any, Any]]:
    """A model and its sampler; networks with random weights cost what trained ones do."""
    net = presets.small()
    key = jax.random.key(0)
    x = jnp.zeros((1, 28, 28, 1))
    level = jnp.zeros(1)
    one, two = (jax.jit(net.init)(key, x, c_noise) for c_noise in (level, (level, level)))
    denoise = precondition.from_v(SDE, Partial(net.apply, one))
    return {
        "DDIM": (denoise, dj.DDIM()),
        "consistency": (denoise, dj.Renoise(1.0)),
        "flow map": (flow_maps.ctm(SDE, Partial(net.apply, two), precondition.from_v), dj.Jump()),
    }


def seconds(fn: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(fn())
    return time.perf_counter() - start


def main(batch: Positional[int] = 64, rounds: Positional[int] = 5) -> dict[str, float]:
    x, found = dj.prior_sample(jax.random.key(1), SDE, (batch, 28, 28, 1)), {}

    def draw(kind: str, n: int) -> Any:
        model, sampler = kinds[kind]
        return dj.sample(jax.random.key(2), model, SDE, sampler, times.uniform(SDE, n, 0.0), x)

    kinds = students()
    print(f"{'student':<16}steps  ms an image  speed-up  calls")
    for name in kinds:
        for n in (1, 2, 4):
            pair = partial(draw, name, n), partial(draw, "DDIM", TEACHER)
            for fn in pair:  # compile
                seconds(fn)
            took = [[seconds(fn) for fn in pair] for _ in range(rounds)]
            own = statistics.median(a for a, _ in took)
            ratio = statistics.median(b / a for a, b in took)
            found[f"{name}, {n}"] = ratio
            print(f"{name:<16}{n:>5}{1000 * own / batch:>13.2f}{ratio:>10.1f}{TEACHER / n:>7g}", flush=True)
    return found


if __name__ == "__main__":
    tyro.cli(main, description=wrapped(__doc__))

"""What `sample` costs beyond the network: overhead, compile time, and the second call.

    python experiments/benchmarks/sampling.py

Overhead: 50 DDIM steps of the small U-Net (batch 16) by `dj.sample`, against 50 calls of the jitted network alone, in
turn. Compile time: the first call of `sample` for 10 and for 1000 steps. Second call: the same shapes again, with a
denoiser that costs nothing.

Two CPU cores, jax 0.10.2, 2026-11-24: overhead 1.008 (median of 7; 0.949 to 1.047), compile time 2.0 to 2.4 s for 10
and for 1000 steps, second call 2.3 ms.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import tyro
from jax.tree_util import Partial

import diffjax as dj
from diffjax import precondition, times
from diffjax.nn import presets
from diffjax.runs.experiment import wrapped


def seconds(fn: Callable[[], jax.Array]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(fn())
    return time.perf_counter() - start


def overhead(n: int = 50, batch: int = 16, rounds: int = 7) -> list[float]:
    """Ratios sample / bare network calls, round by round."""
    sde, net, key = dj.VP(), presets.small(), jax.random.key(0)
    x = dj.prior_sample(key, sde, (batch, 28, 28, 1))
    params = jax.jit(net.init)(key, x, 0.0)
    denoise = precondition.from_v(sde, Partial(net.apply, params))
    ts = times.uniform(sde, n)
    levels, apply = [jnp.float32(999 * t) for t in ts[:-1]], jax.jit(net.apply)

    def bare():
        for level in levels:
            out = apply(params, x, level)
        return out

    def whole():
        return dj.sample(key, denoise, sde, dj.DDIM(), ts, x)

    for fn in (bare, whole):  # compile
        seconds(fn)
    return [seconds(whole) / seconds(bare) for _ in range(rounds)]


def compile_time(n: int) -> float:
    """Seconds of the first call of n steps, nothing of it compiled before, less those of the second."""
    sde, net, key = dj.VP(), presets.small(width=16), jax.random.key(0)
    x = jnp.ones((1, 28, 28, 1))
    denoise = precondition.from_v(sde, Partial(net.apply, jax.jit(net.init)(key, x, 0.0)))
    ts = times.uniform(sde, n)

    def call():
        return dj.sample(key, denoise, sde, dj.DDIM(), ts, x)

    return seconds(call) - seconds(call)


def second_call(rounds: int = 20) -> float:
    """Median milliseconds of 50 steps of a denoiser that costs nothing."""
    sde, x = dj.VP(), jnp.ones((4, 2))
    denoise, ts = Partial(lambda x, t, cond: 0.5 * x), times.uniform(sde, 50)

    def call():
        return dj.sample(jax.random.key(0), denoise, sde, dj.DDIM(), ts, x)

    seconds(call)
    return 1e3 * statistics.median(seconds(call) for _ in range(rounds))


def main() -> None:
    ratios = overhead()
    low, median, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"sample / network calls alone: {low:.3f} {median:.3f} {high:.3f} (min, median, max)")
    for n in (10, 1000, 10, 1000):
        jax.clear_caches()
        print(f"compile time of sample, {n:>4} steps: {compile_time(n):.2f} s")
    print(f"second call, 50 steps of an empty denoiser: {second_call():.2f} ms")


if __name__ == "__main__":
    tyro.cli(main, description=wrapped(__doc__))

"""What guidance and constraints cost beyond the network calls that they cannot do without.

    python experiments/benchmarks/guidance_overhead.py             # two minutes on two idle CPU cores
    python experiments/benchmarks/guidance_overhead.py 4 10 9      # batch, steps, rounds

For each method `sample` with the small U-Net of Fashion-MNIST runs in turn with the bare, jitted calls that its steps
need (columns: forward passes, forward and backward passes of the network, gradients of a classifier), in one process.
`wall` and `CPU` are the medians over the rounds of the ratio of the two times, of the clock's and of the process's own;
where other work shares the cores the latter says more. At most 1.10 is good.

Two idle CPU cores, jax 0.10.2, 2026-11-25, wall / CPU; below 1 where two calls became one of twice the batch:

    no guidance     1.01 / 1.01     PiGDM       1.00 / 1.00     DDRM         1.00 / 1.01
    CFG             0.86 / 0.95     DPS         0.99 / 0.99     inpaint      1.01 / 1.03
    classifier      0.90 / 0.95     MPGD        1.00 / 1.01     inpaint, PC  1.01 / 1.03
    reconstruction  0.98 / 0.98     MPGD + CFG  0.88 / 0.93
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from jax import Array
from jax.tree_util import Partial
from tyro.conf import Positional

import diffjax as dj
from diffjax import corrections, guidance, nn, operators, precondition, times
from diffjax.nn import presets
from diffjax.runs.experiment import wrapped

SDE = dj.VP()


class Case(NamedTuple):
    """A guided denoiser and a sampler, and what a step of theirs takes at least."""

    denoise: Any
    sampler: Any
    forward: int = 1
    backward: int = 0  # each with its forward pass
    classifier: int = 0


class Parts(NamedTuple):
    """Networks with random parameters, which cost what trained ones do, and their inputs."""

    forward: Callable  # jitted (x, c_noise) -> F
    backward: Callable  # jitted (x, c_noise) -> F and a pull-back
    classifier: Callable  # jitted (x, c_noise) -> a gradient
    denoise: Any
    logits: Any
    x: Array  # [B, 28, 28, 1]
    labels: dict[str, Array]


def make_parts(batch: int) -> Parts:
    net = presets.small(num_classes=10)
    classes = nn.Classifier(10)
    key = jax.random.key(0)
    x = dj.prior_sample(key, SDE, (batch, 28, 28, 1))
    labels = {"label": jnp.arange(batch) % 10}
    params = jax.jit(net.init)(key, x, 0.0, labels)
    class_params = jax.jit(classes.init)(key, x, 0.0)

    def forward(params, x, c):
        return net.apply(params, x, c, labels)

    def backward(params, x, c):
        out, pull_back = jax.vjp(lambda x: forward(params, x, c), x)
        return out, pull_back(x)

    def log_prob(class_params, x, c):
        logits: Any = classes.apply(class_params, x, c)
        return jax.nn.log_softmax(logits)[:, 0].sum()

    def logits(class_params, x, t):
        return classes.apply(class_params, x, precondition.scaled_time(SDE, t))

    calls = Partial(jax.jit(forward), params), Partial(jax.jit(backward), params)
    gradient = Partial(jax.jit(jax.grad(log_prob, 1)), class_params)
    denoise = precondition.from_v(SDE, Partial(net.apply, params))
    return Parts(*calls, gradient, denoise, Partial(Partial(logits), class_params), x, labels)


def cases(parts: Parts) -> dict[str, Case]:
    m = operators.measure(jax.random.key(1), operators.average_pool((28, 28, 1), 4), parts.x, 0.05)
    mask = jnp.ones((28, 28, 1)).at[14:].set(0.0)
    misfit = operators.Misfit(m, squared=True)
    step = corrections.Gradient(misfit, 0.1)

    def keep(sampler):
        return dj.inpaint(sampler, parts.x, mask)

    noisy = guidance.label_log_prob(parts.logits)
    return {
        "no guidance": Case(parts.denoise, dj.DDIM()),
        "CFG": Case(guidance.cfg(parts.denoise, 2.0), dj.DDIM(), forward=2),
        "classifier": Case(guidance.classifier(parts.denoise, SDE, noisy, 2.0), dj.DDIM(), classifier=1),
        "reconstruction": Case(guidance.reconstruction(parts.denoise, SDE, misfit), dj.DDIM(), 0, 1),
        "PiGDM": Case(guidance.pigdm(parts.denoise, SDE, m), dj.DDIM(), 0, 1),
        "DPS": Case(parts.denoise, dj.DPS(dj.Ancestral(), misfit), 0, 1),
        "MPGD": Case(parts.denoise, dj.KeepEps(dj.DDIM(0.5), step)),
        "MPGD + CFG": Case(guidance.cfg(parts.denoise, 2.0), dj.KeepEps(dj.DDIM(0.5), step), forward=2),
        "DDRM": Case(parts.denoise, dj.DDRM(m)),
        "inpaint": Case(parts.denoise, keep(dj.Ancestral())),
        "inpaint, PC": Case(parts.denoise, dj.PC(keep(dj.Ancestral()), keep(dj.Langevin(0.16))), forward=2),
    }


def seconds(fn: Callable[[], Any]) -> tuple[float, float]:
    """By the clock, and of this process on all cores."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(fn())
    return time.perf_counter() - wall, time.process_time() - cpu


def ratios(parts: Parts, case: Case, n: int, rounds: int) -> tuple[float, float]:
    """Medians over the rounds of sample / bare calls."""
    ts = times.uniform(SDE, n)
    levels = [jnp.float32(999 * t) for t in ts[:-1]]
    calls = [parts.forward] * case.forward + [parts.backward] * case.backward + [parts.classifier] * case.classifier

    def bare():
        return [[call(parts.x, level) for call in calls] for level in levels][-1]

    def whole():
        return dj.sample(jax.random.key(2), case.denoise, SDE, case.sampler, ts, parts.x, parts.labels)

    for fn in (bare, whole):  # compile
        seconds(fn)
    pairs = [(seconds(whole), seconds(bare)) for _ in range(rounds)]
    wall, cpu = (statistics.median(a[i] / b[i] for a, b in pairs) for i in range(2))
    return wall, cpu


def main(
    batch: Positional[int] = 16, steps: Positional[int] = 20, rounds: Positional[int] = 5
) -> dict[str, tuple[float, float]]:
    parts, found = make_parts(batch), {}
    print(f"{'method':<16}forward  backward  classifier   wall    CPU")
    for name, case in cases(parts).items():
        wall, cpu = found[name] = ratios(parts, case, steps, rounds)
        calls = f"{case.forward:>7}  {case.backward:>8}  {case.classifier:>10}"
        print(f"{name:<16}{calls}  {wall:5.2f}  {cpu:5.2f}", flush=True)
    return found


if __name__ == "__main__":
    tyro.cli(main, description=wrapped(__doc__))

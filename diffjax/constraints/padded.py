"""Grids of different lengths under one compiled program: steps of length 0 at the end, which evaluate nothing.

    ts = pad_grid(times.uniform(sde, 20), 64)              # 64 steps, of which the last 44 go nowhere
    x = dj.sample(key, denoise, sde, Padded(dj.DDIM()), ts, x)

`sample` compiles a program for each length of a grid; so any number of steps up to 64 is one program, at the cost of as
many evaluations as there are real steps.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.checks import check_count
from diffjax.samplers.arguments import check_sampler
from diffjax.typing import Sampler, pytree


@pytree
class Padded:
    """`sampler`, which leaves out steps of length 0.

    Raises:
      TypeError: `sampler` is no sampler.
    """

    sampler: Sampler

    def __post_init__(self):
        check_sampler(self.sampler)

    def init(self, x: Any) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        def go(state):
            stepped = self.sampler.step(key, denoise, sde, state, t, s, cond)
            return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), stepped, state)

        return jax.lax.cond(t == s, lambda state: state, go, state)


def pad_grid(ts: Any, n: int) -> np.ndarray:
    """A grid [m + 1] as one of n steps [n + 1]: its last time again and again.

    Raises:
      ValueError: it has more than n steps.
    """
    ts = np.asarray(ts)
    check_count("the number of steps of the grid", len(ts) - 1, 1, n, why="that is the length to which it is padded")
    return np.concatenate([ts, np.full(n + 1 - len(ts), ts[-1], ts.dtype)])

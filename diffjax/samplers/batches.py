"""Many samples, a batch at a time: one compiled program, and example i is the same for every number and batch size."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import example_keys
from diffjax.conditions import check_cond, map_examples
from diffjax.samplers.drive import sample
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Key, Sampler


def generate(
    key: Key | tuple[Key, Key],
    denoise: Denoiser,
    sde: SDE,
    sampler: Sampler,
    ts: Array,
    shape: tuple[int, ...],
    cond: Cond = None,
    batch_size: int = 128,
) -> np.ndarray:
    """Samples [n, ...] of the given shape from the prior, `batch_size` at a time.

    Args:
      key: one key, or a pair of keys: for the noise at T, and for that of the steps. Each example has its own of both.
      cond: the condition of all n examples, split with them; entries without a batch axis serve every batch.

    Raises:
      ValueError: as `sample`, or the condition is not of n examples.
    """
    chunks = [np.asarray(x) for _, x in _draws(key, denoise, sde, sampler, ts, shape, cond, batch_size)]
    return np.concatenate(chunks)[: shape[0]]


def reflow_pairs(
    key: Key | tuple[Key, Key],
    denoise: Denoiser,
    sde: SDE,
    sampler: Sampler,
    ts: Array,
    shape: tuple[int, ...],
    cond: Cond = None,
    batch_size: int = 128,
) -> dict[str, np.ndarray]:
    """Samples and where they came from: {"noise", "image"}, each of the given shape; a batch for `losses.DSM`.

    The noise is eps = x_T / sigma(T). Flow matching on such pairs of a deterministic sampler is a reflow: its ODE has
    the same ends and straighter paths (Liu et al. 2023). The images are those of `generate`.
    """
    draws = _draws(key, denoise, sde, sampler, ts, shape, cond, batch_size)
    pairs = [(np.asarray(x / sde.sigma(sde.T)), np.asarray(x0)) for x, x0 in draws]
    noise, image = (np.concatenate(chunks)[: shape[0]] for chunks in zip(*pairs, strict=True))
    return {"noise": noise, "image": image}


def _draws(key, denoise, sde, sampler, ts, shape, cond, batch_size) -> Iterator[tuple[Array, Array]]:
    """Batches (x at T, x at the end), all of one size, until there are shape[0] examples at least."""
    n = shape[0]
    check_cond(cond, n)
    batch_size = min(batch_size, n)
    whole = -(-n // batch_size) * batch_size  # one compiled shape serves all batches
    k_prior, k_steps = (example_keys(k, whole) for k in (key if isinstance(key, tuple) else jax.random.split(key)))
    for i in range(0, n, batch_size):
        part = slice(i, i + batch_size)
        rows = np.minimum(np.arange(i, i + batch_size), n - 1)  # the last batch is filled up with the last example
        x = gaussian.prior_sample(k_prior[part], sde, (batch_size, *shape[1:]))
        here = map_examples(lambda entry, rows=rows: jnp.asarray(entry)[rows], cond)
        yield x, sample(k_steps[part], denoise, sde, sampler, ts, x, here)

"""Many samples, a batch at a time: one compiled program, and example i is the same for every number and batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import example_keys, split
from diffjax.checks import check_count
from diffjax.conditions import as_cond, check_cond, map_examples
from diffjax.samplers.drive import sample
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Key, Sampler, parts


def generate(
    key: Key | tuple[Key, Key],
    denoise: Denoiser,
    sde: SDE,
    sampler: Sampler,
    ts: Array,
    shape: tuple[int, ...] | Array,
    cond: Cond = None,
    batch_size: int = 128,
) -> np.ndarray:
    """Samples [n, ...] of the given shape from the prior, `batch_size` at a time.

    Args:
      key: one key, or one for each example [n]; or a pair of such: for the noise at T, and for that of the steps.
      shape: (n, ...); or the states at ts[0] themselves, [n, ...], in place of noise.
      cond: the condition of all n examples, split with them; entries without a batch axis serve every batch.

    Raises:
      ValueError: as `sample`; the condition is not of n examples; or the sampler or a guide holds values of each
        example, such as images to be filled in, which are not split.
      TypeError: `batch_size` is no integer.
    """
    chunks = [np.asarray(x) for _, x in _draws(key, denoise, sde, sampler, ts, shape, cond, batch_size)]
    n, *rest = shape if isinstance(shape, tuple) else shape.shape
    return np.concatenate(chunks)[:n] if n else np.zeros((0, *rest), np.float32)


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
    the same ends and straighter paths (Liu et al. 2023). The images are those of `generate`, which raises the same.
    """
    check_count("n", shape[0])
    draws = _draws(key, denoise, sde, sampler, ts, shape, cond, batch_size)
    pairs = [(np.asarray(x / sde.sigma(sde.T)), np.asarray(x0)) for x, x0 in draws]
    noise, image = (np.concatenate(chunks)[: shape[0]] for chunks in zip(*pairs, strict=True))
    return {"noise": noise, "image": image}


def _draws(key, denoise, sde, sampler, ts, shape, cond, batch_size) -> Iterator[tuple[Array, Array]]:
    """Batches (x at ts[0], x at the end), all of one size, until there are n examples at least."""
    check_count("batch_size", batch_size)
    start = None if isinstance(shape, tuple) else jnp.asarray(shape)
    n, *rest = shape if start is None else start.shape
    cond = as_cond(cond)
    check_cond(cond, n)
    batch_size = min(batch_size, max(n, 1))
    k_prior, k_steps = (example_keys(k, n) for k in (key if isinstance(key, tuple) else split(key)))
    _check_split(denoise, sde, sampler, ts, cond, (n, *rest), batch_size)
    for i in range(0, n, batch_size):
        rows = np.minimum(np.arange(i, i + batch_size), n - 1)  # one compiled shape: the last batch is filled up
        noise = start is None
        x = gaussian.prior_sample(k_prior[rows], sde, (batch_size, *rest)) if noise else start[rows]
        yield x, sample(k_steps[rows], denoise, sde, sampler, ts, x, _rows(cond, rows))


def _rows(cond: Cond, rows: np.ndarray) -> Cond:
    return map_examples(lambda entry: jnp.asarray(entry)[rows], cond)


def _check_split(denoise, sde, sampler, ts, cond, shape, batch_size) -> None:
    """Raise a ValueError where the sampler or a guide holds values of each example: they fit n, or a batch, not both.

    Only where an array in them has one of these lengths is a run of each traced, without compiling it.
    """
    n, *rest = shape
    if batch_size >= n or not {n, batch_size} & set(_lengths((denoise, sampler))):
        return
    errors = {}
    for size in (n, batch_size):
        keys = jax.eval_shape(lambda size=size: example_keys(jax.random.key(0), size))
        here = _rows(cond, np.zeros(size, int))
        x = jax.ShapeDtypeStruct((size, *rest), jnp.float32)
        try:
            jax.eval_shape(lambda k, x, c: sample(k, denoise, sde, sampler, ts, x, c), keys, x, here)
        except (TypeError, ValueError) as error:
            errors[size] = error
    if len(errors) == 1:
        (size, error), other = *errors.items(), batch_size if n in errors else n
        raise ValueError(
            f"the sampler or a guide holds values of each of {other} examples, which are not split into batches of "
            f"{batch_size} as the condition is: give those of one batch at a time, without batch_size (with {size} "
            f"examples: {error})"
        ) from error


def _lengths(value: Any) -> Iterator[int]:
    """The first axes of the arrays that samplers and guides hold; the parameters of networks are left out."""
    if isinstance(value, jax.Array | np.ndarray) and value.ndim:
        yield len(value)
    for part in parts(value):
        yield from _lengths(part)

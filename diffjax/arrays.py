"""Small array helpers: broadcasting over examples, per-example reductions, per-example randomness.

Every reduction is per example, and every example has a key of its own: a result never depends on its neighbours in the
batch, nor on the batch's size.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.typing import Key, Time


def bcast(t: Time, x: Array) -> Array:
    """Shape t, [] or [B], to broadcast against x [B, ...].

    Raises:
      ValueError: t holds values for another number of examples.
    """
    t, shape = jnp.asarray(t), jnp.shape(x)
    if any(n != m and 1 not in (n, m) for n, m in zip(t.shape, shape, strict=False)) or t.ndim > len(shape):
        raise ValueError(f"values of shape {t.shape} do not fit x {shape}: give one number, or one for each example")
    return t if t.ndim == 0 else t.reshape(t.shape + (1,) * (len(shape) - t.ndim))


def as_time(t: Time) -> Array:
    """t as an array of floats of 32 bits or more: in bfloat16 neighbouring times would coincide."""
    return jnp.asarray(t, jnp.promote_types(jnp.result_type(float, t), jnp.float32))


def scheduled(c: Any, t: Time) -> Any:
    """c(t) where a hyper-parameter c, such as a guidance scale, is a function of time, else c: [] or [B]."""
    return c(t) if callable(c) else c


def safe_sqrt(x: Array) -> Array:
    """sqrt, with the slope 0 at 0 in place of infinity: gradients stay finite where there is no noise, or no misfit.

    The slope of |v| at v = 0 may be anything from -1 to 1; 0 is the one in the middle, and that of a schedule at rest.
    """
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0 * x)


def safe_log(x: Array) -> Array:
    """log, with the slope 0 at 0, where it is -inf."""
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), jnp.where(x == 0, -jnp.inf, jnp.nan))


def like(x: Array, F: Array, who: str = "network") -> Array:
    """What a network or a denoiser has made of x, in the dtype of x.

    Raises:
      TypeError: it is no array of real numbers: a tuple, say.
      ValueError: it has not the shape of x.
    """
    if not hasattr(F, "shape") or not hasattr(F, "dtype"):
        raise TypeError(f"the {who} must return one array shaped like x {x.shape}, got {type(F).__name__}")
    if jnp.issubdtype(F.dtype, jnp.complexfloating):
        raise TypeError(f"the {who} must return real numbers, got {F.dtype}")
    if F.shape != x.shape:
        raise ValueError(f"the {who} maps x of shape {x.shape} to {F.shape}; it must keep the shape")
    return F.astype(x.dtype)


def flat_sum(x: Array) -> Array:
    """Sum over all axes but the first: [B, ...] -> [B]."""
    return x.sum(axis=tuple(range(1, x.ndim)))


def flat_mean(x: Array) -> Array:
    """Mean over all axes but the first: [B, ...] -> [B]."""
    return x.mean(axis=tuple(range(1, x.ndim)))


def flat_norm(x: Array) -> Array:
    """Euclidean norm of each example: [B, ...] -> [B]; of slope 0 at 0."""
    return safe_sqrt(flat_sum(x * x))


def example_keys(key: Key, n: int, start: int | Array = 0) -> Key:
    """One key per example, [n]: `key` itself if it holds n keys, else `key` folded with start, start + 1, ...

    Raises:
      ValueError: `key` is a batch of keys of another length.
    """
    if key.ndim == 0:
        return jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(n))
    if key.shape != (n,):
        raise ValueError(f"expected one key or {n} keys (one per example), got keys of shape {key.shape}")
    return key


def fold(key: Key, data: int | Array) -> Key:
    """`jax.random.fold_in` for one key or for [B] keys."""
    return jax.random.fold_in(key, data) if key.ndim == 0 else jax.vmap(jax.random.fold_in, (0, None))(key, data)


def split(key: Key, n: int = 2) -> tuple[Key, ...]:
    """`jax.random.split` for one key or for [B] keys: n keys of the same shape."""
    return (
        tuple(jax.random.split(key, n))
        if key.ndim == 0
        else tuple(jax.vmap(lambda k: jax.random.split(k, n), out_axes=1)(key))
    )


def normal(key: Key, x: Array) -> Array:
    """Standard normal noise shaped like x [B, ...], each example's from its own key."""
    keys = example_keys(key, x.shape[0])
    return jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], x.dtype))(keys)

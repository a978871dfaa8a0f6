"""Checks of the arguments of `sample`, `invert` and `sample_ode`, with messages that say what to do.

Values are looked at where they are concrete: what JAX traces passes, so that a sweep compiles once.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.checks import check_has, check_pytree, known
from diffjax.conditions import check_cond, check_values
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.times.grids import check_times
from diffjax.typing import SDE, Cond


def check_sampler(sampler: Any, what: str = "a sampler, such as dj.DDIM(),") -> None:
    """Raise a TypeError unless `sampler` is an object with `init` and `step` that JAX takes for a pytree."""
    check_has(sampler, what, "init", "step")
    check_pytree(sampler, "the sampler")


def held(sampler: Any) -> list:
    """The samplers that one sampler holds in its fields."""
    return [part for part in vars(sampler).values() if hasattr(part, "init") and hasattr(part, "step")]


def draws(eta: Any) -> bool:
    """Whether a sampler with the noise eta is stochastic; one whose eta is traced counts as deterministic."""
    return known(eta) and bool(np.any(np.asarray(eta) != 0))


def check_scalars(sampler: Any, *names: str) -> None:
    """Raise a ValueError unless the numbers under these names are single ones. For `init`, where `vmap` has acted."""
    for name in names:
        shape = jnp.shape(getattr(sampler, name))
        if shape:
            raise ValueError(
                f"{name} of {type(sampler).__name__} must be one number, got shape {shape}: "
                "`jax.vmap` over the sampler runs several"
            )


def check_sizes(sampler: Any, x: Array, *names: str) -> None:
    """Raise a ValueError unless the numbers under these names are single ones or one for each example of x."""
    for name in names:
        shape = jnp.shape(getattr(sampler, name))
        if shape not in ((), (x.shape[0],)):
            raise ValueError(
                f"{name} of {type(sampler).__name__} must be one number, or one for each of {x.shape[0]} examples, "
                f"got shape {shape}"
            )


def check_model(denoise: Any, sde: Any, cond: Cond, x: Array) -> None:
    """Raise unless `sde` is a process, `denoise` a function made for it, and `cond` a condition that fits both.

    It fits if it is one of as many examples as x [B, ...] has, with labels that the network has (`check_values`).
    """
    check_has(sde, "an SDE, such as dj.VP(),", "alpha", "sigma", "T")
    if not callable(denoise):
        raise TypeError(f"expected a denoiser, a function (x, t, cond) -> x_0, got {denoise!r}")
    if isinstance(denoise, type):
        raise TypeError(f"expected a denoiser, a function (x, t, cond) -> x_0, got the class {denoise.__name__}")
    check_pytree(sde, "the SDE")
    gaussian.check_rises(sde)
    check_process(denoise, sde)
    check_cond(cond, x.shape[0])
    check_values(denoise, x, sde.T, cond)


def as_state(x: Any) -> Array:
    """x as a float array [B, ...], in the precision of the steps' arithmetic, never below float32.

    Raises:
      ValueError: it is no array of floats, or has no batch axis.
    """
    if isinstance(x, tuple) and all(isinstance(size, int) for size in x):
        raise ValueError(f"x must be a float array [B, ...], got {x}: dj.prior_sample(key, sde, shape) draws it")
    if x is None or isinstance(x, dict | str):
        raise ValueError(f"x must be a float array [B, ...], got {type(x).__name__}")
    x = jnp.asarray(x)
    if x.ndim < 1 or not jnp.issubdtype(x.dtype, jnp.floating):
        why = ": scale pictures of integers to [-1, 1]" if jnp.issubdtype(x.dtype, jnp.integer) and x.ndim > 2 else ""
        raise ValueError(f"x must be a float array [B, ...], got {x.dtype} of shape {x.shape}{why}")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def as_grid(ts: Any, sde: SDE, climbs: bool = False) -> Any:
    """ts as an array of floats, never below float32, once it is found to be a grid for the SDE.

    A grid that `climbs` may rise on its way, but not as a whole.

    Raises:
      ValueError: it is no list of two times or more that fall within [0, sde.T].
    """
    if not isinstance(ts, jax.Array):
        array = np.asarray(ts) if not _ragged(ts) else np.asarray(None)
        if array.dtype.kind not in "fiu" and not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"ts must be times [n + 1], such as dj.times.uniform(sde, n), got {ts!r}")
        ts = array
    check_grid(ts, sde, climbs)
    dtype = ts.dtype if jnp.issubdtype(ts.dtype, jnp.floating) else jnp.float32
    return ts.astype(jnp.promote_types(dtype, jnp.float32))


def check_grid(ts: Any, sde: SDE, climbs: bool = False) -> None:
    """Raise a ValueError unless ts is a grid for the SDE. What is traced cannot be looked at, and passes.

    A grid that `climbs` may rise on its way, but not as a whole.
    """
    if np.ndim(ts) != 1 or len(ts) < 2:
        raise ValueError(
            f"ts must be [n + 1] times for n >= 1 steps, such as dj.times.uniform(sde, n), got shape {np.shape(ts)}"
        )
    if not isinstance(ts, Tracer):
        nodes = np.asarray(ts)
        if not np.all(np.diff(nodes[[0, -1]] if climbs else nodes) <= 0):
            raise ValueError(
                "ts must fall from noise (ts[0]) to data (ts[-1]); reverse the grid if it rises. "
                "Only TimeTravel(sampler), outside of all other constraints, goes up and down"
            )
    check_times(ts, sde)


def _ragged(ts: Any) -> bool:
    return isinstance(ts, list | tuple) and any(np.ndim(t) for t in ts)

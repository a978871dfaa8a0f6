"""The grid of times that each solver takes by default, as its class says: `grid(sde, n) -> ts`."""

from typing import Any

from jax import Array

from diffjax.samplers.arguments import held
from diffjax.times.grids import uniform
from diffjax.typing import SDE, Sampler


def default_grid(sampler: Sampler, sde: SDE, n: int) -> Array:
    """The grid [n + 1] from sde.T to the data on which `sampler` does best with n steps, or does safely.

    It is `sampler.grid(sde, n)`; a sampler that wraps others has the grid of the first of them, and one that says
    nothing `times.uniform(sde, n)`.

    Raises:
      ValueError: n is no count of steps.
    """
    owner = _owner(sampler)
    return uniform(sde, n) if owner is None else owner.grid(sde, n)


def _owner(sampler: Any) -> Any:
    """The sampler itself, or the first of those that it holds, which has a grid; None if none has."""
    if hasattr(sampler, "grid"):
        return sampler
    return next((found for found in map(_owner, held(sampler)) if found is not None), None)

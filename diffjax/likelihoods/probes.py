"""Probes of a trace: vectors e with E[e e^T] = I, so that E[e^T J e] = tr J (Hutchinson 1990).

    (1) Rademacher entries +-1:  Var e^T J e = sum_{i != j} J_ij (J_ij + J_ji), none for a diagonal J
    (2) standard normal entries: Var e^T J e = |J|^2 + tr J^2
    (3) the unit vectors: sum_i e_i^T J e_i = tr J, exactly

The divergence of the likelihood and the trace of score matching are taken with them.
"""

import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.checks import check_count, check_has
from diffjax.typing import Key, pytree, static


class Probes(Protocol):
    """How a trace is taken: vectors e for one example, and the estimate from their products e^T J e."""

    def draw(self, key: Key, x: Array) -> Array: ...  # [P, *x.shape]

    def trace(self, products: Array) -> tuple[Array, Array]: ...  # the trace and its standard error, of products [P]


@pytree
class Rademacher:
    """n probes with entries +1 and -1 (Eq. 1). Raises unless n is a count from 1 on."""

    n: int = static(default=1)

    def __post_init__(self):
        check_count("the number of probes", self.n)

    def draw(self, key: Key, x: Array) -> Array:
        return jax.random.rademacher(key, (self.n, *x.shape), x.dtype)

    def trace(self, products: Array) -> tuple[Array, Array]:
        return _mean(products)


@pytree
class Gaussian:
    """n standard normal probes (Eq. 2). Raises unless n is a count from 1 on."""

    n: int = static(default=1)

    def __post_init__(self):
        check_count("the number of probes", self.n)

    def draw(self, key: Key, x: Array) -> Array:
        return jax.random.normal(key, (self.n, *x.shape), x.dtype)

    def trace(self, products: Array) -> tuple[Array, Array]:
        return _mean(products)


@pytree
class Exact:
    """The unit vectors (Eq. 3): the trace itself, at the cost of one derivative for each of the D entries."""

    def draw(self, key: Key, x: Array) -> Array:
        return jnp.eye(x.size, dtype=x.dtype).reshape(x.size, *x.shape)

    def trace(self, products: Array) -> tuple[Array, Array]:
        return products.sum(), jnp.zeros((), products.dtype)


def check_probes(probes: Any) -> None:
    """Raise a TypeError unless these are probes."""
    check_has(probes, "probes, such as Rademacher(5),", "draw", "trace")


def _mean(products: Array) -> tuple[Array, Array]:
    """The mean and its standard error, which is NaN for one probe: its spread is unknown."""
    return products.mean(), products.std(ddof=1) / math.sqrt(len(products))

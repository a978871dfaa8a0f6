"""The loss of an autoencoder."""

from collections.abc import Callable
from typing import Any

from jax import Array

from diffjax.arrays import flat_mean, like
from diffjax.losses.draws import read
from diffjax.losses.networks import bind, check_functions
from diffjax.typing import NO_CONTEXT, Context, Key, PyTree, pytree, static


@pytree
class Reconstruction:
    """|network(params, x) - x|^2, its mean over an example's entries; `loss(params, key, batch) -> ([B], {})`."""

    network: Callable = static()  # (params, x) -> x

    def __post_init__(self):
        check_functions(self, network="(params, x) -> x")

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Any]]:
        x = read(key, batch, (), context).x0
        return flat_mean((like(x, bind(self.network, params, True, {})(x), "autoencoder") - x) ** 2), {}

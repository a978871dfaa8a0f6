"""The loss of an autoencoder."""

from collections.abc import Callable
from typing import Any

from jax import Array

from diffjax.arrays import flat_mean
from diffjax.typing import Key, PyTree, pytree, static


@pytree
class Reconstruction:
    """|network(params, x) - x|^2, its mean over an example's entries; `loss(params, key, batch) -> ([B], {})`."""

    network: Callable = static()  # (params, x) -> x

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Any]]:
        x = batch["image"]
        return flat_mean((self.network(params, x) - x) ** 2), {}

"""Cross-entropy of noisy images: a classifier p_t(c | x_t) for guidance (Song et al. 2021, Section 5)."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from diffjax.arrays import fold, normal
from diffjax.precondition import scaled_time
from diffjax.sde import gaussian
from diffjax.typing import SDE, Key, PyTree, pytree, static


@pytree
class CrossEntropy:
    """-log p(label | x_t, t) in nats, x_t = alpha x_0 + sigma eps; `loss(params, key, batch) -> ([B], {"hit": [B]})`.

    A batch is {"image": [B, ...], "label": [B]}. "hit" is 1 where the most likely class is the right one.
    """

    sde: SDE
    law: Callable  # (key, n) -> t [n], see `times`; `times.Fixed(0.0)` trains an ordinary classifier
    network: Callable = static()  # (params, x, c_noise, *, train, rngs) -> logits [B, K]
    c_noise: Callable = static(default=scaled_time)
    train: bool = static(default=True)

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        label = batch["label"]
        t, logits = of_noisy(self, params, key, batch["image"])
        values = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return values, {"t": t, "hit": jnp.asarray(logits.argmax(-1) == label, logits.dtype)}


def of_noisy(loss: Any, params: PyTree, key: Key, x0: Array, *args: Any) -> tuple[Array, Any]:
    """Times [B] by the loss's law, and what its network says of x_t, c_noise and `args`."""
    k_time, k_noise, k_dropout = (fold(key, i) for i in range(3))
    t = loss.law(k_time, len(x0))
    x = gaussian.perturb(loss.sde, x0, t, normal(k_noise, x0))
    rngs = {"dropout": k_dropout if k_dropout.ndim == 0 else k_dropout[0]}
    return t, loss.network(params, x, loss.c_noise(loss.sde, t), *args, train=loss.train, rngs=rngs)

"""Cross-entropy of noisy images: a classifier p_t(c | x_t) for guidance (Song et al. 2021, Section 5)."""

from collections.abc import Callable

import jax
import optax
from jax import Array
from jax.tree_util import Partial

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
        k_time, k_noise, k_dropout = (fold(key, i) for i in range(3))
        x0, label = batch["image"], batch["label"]
        t = self.law(k_time, len(x0))
        x = gaussian.perturb(self.sde, x0, t, normal(k_noise, x0))
        rngs = {"dropout": k_dropout if k_dropout.ndim == 0 else k_dropout[0]}
        logits = Partial(self.network, params, train=self.train, rngs=rngs)(x, self.c_noise(self.sde, t))
        values = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return values, {"t": t, "hit": jax.numpy.asarray(logits.argmax(-1) == label, logits.dtype)}

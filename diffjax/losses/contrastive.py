"""InfoNCE, symmetric: which text belongs to this image, and which image to this text (Radford et al. 2021)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import fold, normal
from diffjax.precondition import scaled_time
from diffjax.sde import gaussian
from diffjax.typing import SDE, Key, PyTree, pytree, static


@pytree
class InfoNCE:
    """Cross-entropies along the rows and the columns of all cosines in a batch, times the scale; half their sum.

    A batch is {"image": [B, ...], "text": [B, E], "label": [B]}; images and texts of one label belong together, so that
    two pictures of one caption are not pushed apart. The images are noised as by `sde` and `law`: a guide that has seen
    noise has smoother gradients. Unlike all other losses here an example's value depends on its batch.
    "hit" is 1 where the nearest text has the image's label.
    """

    sde: SDE
    law: Callable  # (key, n) -> t [n]; `times.Fixed(0.0)` for clean images
    network: Callable = static()  # (params, x, c_noise, text, *, train, rngs) -> (image [B, D], text [B, D], scale [])
    c_noise: Callable = static(default=scaled_time)
    train: bool = static(default=True)

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        k_time, k_noise, k_dropout = (fold(key, i) for i in range(3))
        x0, label = batch["image"], batch["label"]
        t = self.law(k_time, len(x0))
        x = gaussian.perturb(self.sde, x0, t, normal(k_noise, x0))
        rngs = {"dropout": k_dropout if k_dropout.ndim == 0 else k_dropout[0]}
        network = Partial(self.network, params, train=self.train, rngs=rngs)
        image, text, scale = network(x, self.c_noise(self.sde, t), batch["text"])
        cosines, same = image @ text.T, label[:, None] == label[None]
        value = contrast(scale * cosines, same)
        nearest = label[jax.lax.stop_gradient(cosines).argmax(-1)]
        return value, {"t": t, "hit": jnp.asarray(nearest == label, cosines.dtype)}


def contrast(logits: Array, same: Array) -> Array:
    """Logits [B, B] of image i and text j, and which belong together -> the loss of each pair, [B]."""
    targets = same / same.sum(-1, keepdims=True)  # symmetric, as `same` is
    rows, columns = (optax.softmax_cross_entropy(z, targets) for z in (logits, logits.T))
    return (rows + columns) / 2

"""InfoNCE, symmetric: which text belongs to this image, and which image to this text (Radford et al. 2021)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from diffjax.losses.classification import of_noisy
from diffjax.precondition import scaled_time
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
        label = batch["label"]
        t, (image, text, scale) = of_noisy(self, params, key, batch["image"], batch["text"])
        cosines, same = image @ text.T, label[:, None] == label[None]
        value = contrast(scale * cosines, same)
        nearest = label[jax.lax.stop_gradient(cosines).argmax(-1)]
        return value, {"t": t, "hit": jnp.asarray(nearest == label, cosines.dtype)}


def contrast(logits: Array, same: Array) -> Array:
    """Logits [B, B] of image i and text j, and which belong together -> the loss of each pair, [B]."""
    targets = same / same.sum(-1, keepdims=True)  # symmetric, as `same` is
    rows, columns = (optax.softmax_cross_entropy(z, targets) for z in (logits, logits.T))
    return (rows + columns) / 2

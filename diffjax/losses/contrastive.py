"""InfoNCE, symmetric: which text belongs to this image, and which image to this text (Radford et al. 2021)."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax import Array

from diffjax.losses.classification import check_noisy, entry, of_noisy
from diffjax.losses.draws import read
from diffjax.losses.evaluate import gather, own_share
from diffjax.precondition import scaled_time
from diffjax.typing import NO_CONTEXT, SDE, Context, Key, PyTree, pytree, static


@pytree
class InfoNCE:
    """Cross-entropies along the rows and the columns of all cosines in a batch, times the scale; half their sum.

    A batch is {"image": [B, ...], "text": [B, E], "label": [B]}; images and texts of one label belong together, so that
    two pictures of one caption are not pushed apart. The images are noised by `sde` and `time_distribution`: a guide
    trained on noise has smoother gradients. An example's value depends on the whole batch, also where devices share it.
    "hit" is 1 where the nearest text has the image's label.
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n]; `times.Fixed(0.0)` for clean images
    network: Callable = static()  # (params, x, c_noise, text, *, train, rngs) -> (image [B, D], text [B, D], scale [])
    c_noise: Callable = static(default=scaled_time)
    train: bool = static(default=True)

    def __post_init__(self):
        check_noisy(self)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        label, draw = jnp.asarray(entry(batch, "label")), read(key, batch, (), context)
        if label.shape != draw.x0.shape[:1] or not jnp.issubdtype(label.dtype, jnp.integer):
            raise ValueError(f"labels are integers [{len(draw.x0)}], got {label.dtype}{list(label.shape)}")
        _, t, (image, text, scale) = of_noisy(self, params, draw, jnp.asarray(entry(batch, "text")))
        image, text, labels = gather((image, text, label), context)
        dtype = jnp.promote_types(image.dtype, jnp.float32)
        cosines = jnp.matmul(image, text.T, preferred_element_type=dtype)
        value = contrast(scale * cosines, labels[:, None] == labels[None])
        nearest = labels[cosines.argmax(-1)]
        value, hit = own_share((value, jnp.asarray(nearest == labels, dtype)), len(label), context)
        return value, {"t": t, "hit": hit}


def contrast(logits: Array, same: Array) -> Array:
    """Logits [B, B] of image i and text j, and which belong together -> the loss of each pair, [B]."""
    targets = same / same.sum(-1, keepdims=True)  # symmetric, as `same` is
    rows, columns = (optax.softmax_cross_entropy(z, targets) for z in (logits, logits.T))
    return (rows + columns) / 2

"""Cross-entropy of noisy images: a classifier p_t(c | x_t) for guidance (Song et al. 2021, Section 5).

`CrossEntropy` is for one label of an image, `BinaryCrossEntropy` for many that may hold together, `PixelCrossEntropy`
for one of each pixel.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from jax import Array

from diffjax.conditions import check_labels
from diffjax.losses.draws import Draw, bound, read, time
from diffjax.losses.networks import check_functions
from diffjax.precondition import scaled_time
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Context, Key, PyTree, pytree, static


@pytree
class CrossEntropy:
    """-log p(label | x_t, t) in nats, x_t = alpha x_0 + sigma eps; `loss(params, key, batch) -> ([B], {"hit": [B]})`.

    A batch is {"image": [B, ...], "label": [B]}. "hit" is 1 where the most likely class is the right one.
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n]; `times.Fixed(0.0)` trains an ordinary classifier
    network: Callable = static()  # (params, x, c_noise, *, train, rngs) -> logits [B, K]
    c_noise: Callable = static(default=scaled_time)
    train: bool = static(default=True)

    def __post_init__(self):
        check_noisy(self)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        given = entry(batch, "label")
        draw, t, logits = of_noisy(self, params, read(key, batch, (), context))
        if logits.ndim != 2:
            raise ValueError(f"a classifier gives logits [B, K], got the shape {logits.shape}")
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        label = check_labels(given, len(draw.x0), logits.shape[-1])
        values = optax.softmax_cross_entropy_with_integer_labels(logits, label)  # NaN for traced labels out of range
        return values, {"t": t, "hit": jnp.asarray(logits.argmax(-1) == label, logits.dtype)}


@pytree
class BinaryCrossEntropy:
    """The mean over K of -log p(label_k | x_t, t) in nats, for labels that are there or not, independently.

    A batch is {"image": [B, ...], "labels": [B, K]} with entries 0 and 1. The aux figure "hit" is the share of the K
    that the sign of the logits tells rightly.
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n]; `times.Fixed(0.0)` trains an ordinary classifier
    network: Callable = static()  # (params, x, c_noise, *, train, rngs) -> logits [B, K]
    c_noise: Callable = static(default=scaled_time)
    train: bool = static(default=True)

    def __post_init__(self):
        check_noisy(self)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        labels = jnp.asarray(entry(batch, "labels"))
        _, t, logits = of_noisy(self, params, read(key, batch, (), context))
        if logits.shape != labels.shape or labels.ndim != 2:
            raise ValueError(f"labels and logits must be [B, K], got {labels.shape} and {logits.shape}")
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        values = optax.sigmoid_binary_cross_entropy(logits, labels.astype(logits.dtype)).mean(-1)
        return values, {"t": t, "hit": jnp.mean((logits > 0) == (labels > 0), axis=-1, dtype=logits.dtype)}


@pytree
class PixelCrossEntropy:
    """The mean over the pixels of -log p(label | x_t, t) in nats: a network that segments.

    A batch is {"image": [B, H, W, C], "map": integers [B, H, W]}. The aux figure "hit" is the share of pixels whose
    most likely class is the right one. Labels out of range give NaN.
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n]; `times.Fixed(0.0)` trains an ordinary segmenter
    network: Callable = static()  # (params, x, c_noise, *, train, rngs) -> logits [B, H, W, K]
    c_noise: Callable = static(default=scaled_time)
    train: bool = static(default=True)

    def __post_init__(self):
        check_noisy(self)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        given = jnp.asarray(entry(batch, "map"))
        if not jnp.issubdtype(given.dtype, jnp.integer):
            raise TypeError(f"a map of classes holds integers, got {given.dtype}{list(given.shape)}")
        _, t, logits = of_noisy(self, params, read(key, batch, (), context))
        if logits.ndim != 4 or logits.shape[:3] != given.shape:
            raise ValueError(f"a map is [B, H, W] and logits [B, H, W, K], got {given.shape} and {logits.shape}")
        logits, last = logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), logits.shape[-1] - 1
        label = given.astype(jnp.int32)
        values = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        values = jnp.where((label >= 0) & (label <= last), values, jnp.nan).mean((1, 2))
        return values, {"t": t, "hit": jnp.mean(logits.argmax(-1) == label, axis=(1, 2), dtype=logits.dtype)}


def entry(batch: PyTree, name: str) -> Any:
    """The field of a batch. Raises a ValueError where it has none."""
    if not isinstance(batch, dict) or name not in batch:
        got = sorted(batch) if isinstance(batch, dict) else type(batch).__name__
        raise ValueError(f'this loss needs a batch with a field "{name}", got {got}')
    return batch[name]


def check_noisy(loss: Any) -> None:
    """Check the fields of a loss of noisy images."""
    check_distribution(loss.time_distribution, loss.sde)
    check_functions(loss, network="(params, x, c_noise) -> output", c_noise="(sde, t) -> c_noise")


def of_noisy(loss: Any, params: PyTree, draw: Draw, *args: Any) -> tuple[Draw, Array, Any]:
    """The draw, times [B] by the loss's distribution, and the output of its network at x_t, c_noise and `args`."""
    t, _ = time(loss.time_distribution, loss.sde, draw, learns=False)
    x = gaussian.perturb(loss.sde, draw.x0, t, draw.eps)
    return draw, t, bound(loss, params, draw)(x, loss.c_noise(loss.sde, t), *args)

"""Classifier guidance: the score of p_t(x | c) from that of p_t(x) and a classifier of noisy images.

    (1) grad log p_t(x | c) = grad log p_t(x) + scale grad log p_t(c | x)          Song et al. 2021, Eq. 14: scale = 1
    (2) x_0 <- x_0 + scale (sigma^2 / alpha) grad_x log p_t(c | x)                 the same by Tweedie's formula

Dhariwal & Nichol (2021) scale the gradient (1 to 10) and apply it to the mean of DDPM's step (Algorithm 1), which
agrees with (2) up to second order in the step, or to eps (Algorithm 2), which is (2).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import bcast, scheduled
from diffjax.corrections.gradient import per_example
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_child, as_partial


def classifier(denoise: Denoiser, sde: SDE, log_prob: Callable, scale: Any = 1.0) -> Denoiser:
    """A denoiser of p(x | c), as the predictor and the corrector need it.

    Args:
      log_prob: `(x, t, cond) -> [B]`, log p_t(c | x_t) of noisy images, up to a constant; `label_log_prob` makes it of
        a network's logits.
      scale: a number, [B], or a function of t; 0 is the unconditional denoiser.
    """
    return Partial(_guided, as_partial(denoise), sde, as_partial(log_prob), as_child(scale))


def label_log_prob(logits: Callable) -> Callable:
    """`(x, t, cond) -> log p(cond["label"] | x, t)` of a network `(x, t) -> logits [B, K]`."""
    return Partial(_label_log_prob, as_partial(logits))


def _guided(denoise, sde, log_prob, scale, x: Array, t: Time, cond: Cond = None) -> Array:
    grad = jax.grad(lambda x: per_example(log_prob(x, t, cond), x).sum())(x)
    alpha, sigma = gaussian.curves(sde, t, x)
    c = bcast(scheduled(scale, t), x)
    return denoise(x, t, cond) + c * sigma**2 / alpha * grad


def _label_log_prob(logits, x: Array, t: Time, cond: Cond) -> Array:
    if not isinstance(cond, dict) or "label" not in cond:
        raise ValueError('classifier guidance by a label needs cond = {"label": [B]}')
    label = jnp.broadcast_to(jnp.asarray(cond["label"]), x.shape[:1])
    return jnp.take_along_axis(jax.nn.log_softmax(logits(x, t)), label[:, None], axis=1)[:, 0]

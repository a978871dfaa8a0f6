"""Classifier guidance: the score of p_t(x | c) from that of p_t(x) and a classifier of noisy images.

    (1) grad log p_t(x | c) = grad log p_t(x) + scale grad log p_t(c | x)          Song et al. 2021, Eq. 14: scale = 1
    (2) x_0 <- x_0 + scale (sigma^2 / alpha) grad_x log p_t(c | x)                 the same by Tweedie's formula

Dhariwal & Nichol (2021) scale the gradient (1 to 10) and apply it to the mean of DDPM's step (Algorithm 1), which
agrees with (2) up to second order in the step, or to eps (Algorithm 2), which is (2).

Where alpha = 0, at T of some processes, x_t holds nothing of x_0, so that the exact gradient is 0 and the product in
(2) is 0 / 0: its limit, sigma^2/alpha grad -> E[x_0 | c] - E[x_0], cannot be had from the gradient there. The guide
then leaves x_0 as it is, for that one step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import bcast, scheduled
from diffjax.checks import check_has, check_schedule, known
from diffjax.corrections.gradient import per_example
from diffjax.operators.linear import divide
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_child, as_partial, check_takes, pytree


def classifier(denoise: Denoiser, sde: SDE, log_prob: Callable, scale: Any = 1.0) -> Denoiser:
    """A denoiser of p(x | c), as the predictor and the corrector need it.

    Args:
      log_prob: `(x, t, cond) -> [B]`, log p_t(c | x_t) of noisy images, up to a constant; `label_log_prob` makes it of
        a network's logits.
      scale: a number, [B], or a function of t; 0 is the unconditional denoiser.

    Raises:
      TypeError: `log_prob` is no function of (x, t, cond), the scale no number, `sde` no process.
      ValueError: `denoise` was made for another process.
    """
    check_has(sde, "a process, such as dj.VP(),", "alpha", "sigma", "T")
    check_process(denoise, sde)
    check_schedule("the guidance scale", scale)
    check_takes(log_prob, "the classifier's log_prob", "x", "t", "cond")
    return Partial(_guided, as_partial(denoise), sde, as_partial(log_prob), as_child(scale))


def label_log_prob(logits: Callable) -> Callable:
    """`(x, t, cond) -> log p(cond["label"] | x, t)` of a network `(x, t) -> logits [B, K]`.

    Raises (when it is evaluated, or by `sample` before that):
      ValueError: there are no labels, they are no integers [B], or lie outside 0 ... K - 1; the logits are not [B, K].
    """
    check_takes(as_partial(logits), "a classifier's logits", "x", "t")
    return LabelLogProb(as_partial(logits))


@pytree
class LabelLogProb:
    """What `label_log_prob` makes of a classifier. Labels out of range that are traced give NaN."""

    logits: Callable  # (x, t) -> [B, K]

    def __call__(self, x: Array, t: Time, cond: Cond) -> Array:
        label, values = _labels(x, cond), self.logits(x, t)
        if values.ndim != 2 or len(values) != len(x):
            raise ValueError(f"a classifier's logits are [{len(x)}, classes], got shape {values.shape}")
        _check_range(label, values.shape[1])
        label = jnp.where(label >= 0, label, values.shape[1])  # -1 is no last class
        label = jnp.broadcast_to(label, x.shape[:1])
        return jnp.take_along_axis(jax.nn.log_softmax(values), label[:, None], axis=1, mode="fill")[:, 0]

    def check_cond(self, x: Array, t: Time, cond: Cond) -> None:
        """Look at labels whose values are known, before they are traced."""
        if known(label := _labels(x, cond)):
            _check_range(label, jax.eval_shape(_call, self.logits, x, t).shape[1])


_call = jax.jit(lambda fn, *args: fn(*args))  # traced once for each kind of arguments


def _labels(x: Array, cond: Cond) -> Array:
    if not isinstance(cond, dict) or "label" not in cond:
        raise ValueError('classifier guidance by a label needs cond = {"label": [B]}')
    label = jnp.asarray(cond["label"])
    if not jnp.issubdtype(label.dtype, jnp.integer) or label.shape not in ((), x.shape[:1]):
        raise ValueError(f"labels are integers [{len(x)}], got {label.dtype} of shape {label.shape}")
    return label


def _check_range(label: Array, n: int) -> None:
    if known(label) and not np.all((np.asarray(label) >= 0) & (np.asarray(label) < n)):
        raise ValueError(f"labels of {n} classes lie in 0 ... {n - 1}, got {np.asarray(label)}")


def _guided(denoise, sde, log_prob, scale, x: Array, t: Time, cond: Cond = None) -> Array:
    grad = jax.grad(lambda x: per_example(log_prob(x, t, cond), x).sum())(x)
    alpha, sigma = gaussian.curves(sde, t, x)
    c = bcast(scheduled(scale, t), x)
    x0 = denoise(x, t, cond)
    return (x0 + c * divide(sigma**2, alpha) * grad).astype(x0.dtype)

"""Manifold-preserving guidance (MPGD, He et al. 2024): a step down a loss of the clean estimate.

    (1) x_0 <- x_0 - c_t grad_{x_0} L(x_0)                        Algorithm 1, "shortcut": no gradient of the denoiser
    (2) x_0 <- x_0 - c_t grad_{x_0} L(D(E(x_0)))                  MPGD-AE, with an autoencoder (E, D) of the data
    (3) z = E(x_0),  x_0 <- x_0 + D(z - c_t grad_z L(D(z))) - D(z)  MPGD-Z; what the autoencoder cannot express stays
    (4) z_0 <- z_0 - c_t grad_{z_0} L(D(z_0))                     the latent form, of a model whose x_0 is a latent z_0

If data lie on a linear manifold and D E projects on it, (2) and (3) move along the manifold. A loss is any pytree
function `(x_0, cond) -> [B]`; every example has the step of its own loss.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import bcast, flat_mean, safe_sqrt, scheduled
from diffjax.checks import check_has, check_schedule
from diffjax.typing import Cond, Time, check_takes, pytree, static

LOSS = "a guiding loss, a function (x_0, cond) -> [B],"


@pytree
class Gradient:
    """Eq. 1: `scale` is c_t, a number, [B], or a function of t.

    `normalised`: the gradient is divided by the root mean square of its entries, so that `scale` is in units of x_0
    (the FaceID and CLIP guidance of the MPGD code); a gradient of 0 has no direction, and x_0 stays.

    Raises:
      TypeError: the loss is no function, the scale no number.
      ValueError: the scale is negative (a step up: negate the loss).
    """

    loss: Callable  # (x_0, cond) -> [B]
    scale: Any = 1.0
    normalised: bool = static(default=False)

    def __post_init__(self):
        check_has(self.loss, LOSS, "__call__")
        check_schedule("the scale", self.scale, 0, why="a step up the loss is one down its negative")

    def __call__(self, x0: Array, t: Time, cond: Cond = None) -> Array:
        return x0 - step(self.loss, self.scale, self.normalised, x0, t, cond)


@pytree
class Decoded:
    """The loss of what a latent looks like: `Gradient(Decoded(loss, decode), scale)` is the latent form (Eq. 4)."""

    loss: Callable
    decode: Callable

    def __call__(self, z0: Array, cond: Cond = None) -> Array:
        return self.loss(self.decode(z0), cond)


@pytree
class Through:
    """The loss of an autoencoder's rendering: `Gradient(Through(loss, encode, decode), scale)` is MPGD-AE (Eq. 2)."""

    loss: Callable
    encode: Callable
    decode: Callable

    def __call__(self, x0: Array, cond: Cond = None) -> Array:
        return self.loss(self.decode(self.encode(x0)), cond)


@pytree
class LatentGradient:
    """MPGD-Z (Eq. 3); errors as `Gradient`."""

    loss: Callable
    encode: Callable
    decode: Callable
    scale: Any = 1.0
    normalised: bool = static(default=False)

    def __post_init__(self):
        for fn in (self.encode, self.decode):
            check_has(fn, "the encoder and the decoder, functions of arrays,", "__call__")
        check_has(self.loss, LOSS, "__call__")
        check_schedule("the scale", self.scale, 0, why="a step up the loss is one down its negative")

    def __call__(self, x0: Array, t: Time, cond: Cond = None) -> Array:
        z = self.encode(x0)
        moved = z - step(Decoded(self.loss, self.decode), self.scale, self.normalised, z, t, cond)
        return x0 + self.decode(moved) - self.decode(z)


def step(loss: Callable, scale: Any, normalised: bool, x: Array, t: Time, cond: Cond) -> Array:
    """c_t grad L(x), shaped like x.

    Raises:
      ValueError: the loss does not return one value per example.
    """
    check_takes(loss, "a guiding loss", "x0", "cond")
    grad = jax.grad(lambda x: per_example(loss(x, cond), x).sum())(x)
    if normalised:
        size = bcast(safe_sqrt(flat_mean(grad**2)), x)
        grad = grad / jnp.where(size > 0, size, 1)
    return (bcast(scheduled(scale, t), x) * grad).astype(grad.dtype)


def per_example(values: Array, x: Array) -> Array:
    """The values, once they are found to be [B]."""
    if jnp.shape(values) != x.shape[:1]:
        raise ValueError(
            f"a guiding loss returns one value per example, [{x.shape[0]}], but got shape {jnp.shape(values)}: "
            "reduce over the other axes only, so that an example's step does not depend on its neighbours"
        )
    return values

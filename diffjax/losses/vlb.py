"""The variational bound as a training loss, one random term at a time (Ho et al. 2020; Nichol & Dhariwal 2021).

    (1) L_vlb = T E_t[L_t(x_t)],   t uniform on 1, ..., T,   L_1 = -log p(x_0 | x_1),  L_t = KL(q || p) for t > 1
    (2) L_hybrid = L_simple + lambda L_vlb, with the mean of p detached in L_vlb            (N & D Eq. 16)
    (3) L_simple = E |eps - eps_hat|^2, the mean over an example's entries                  (Ho et al. Eq. 14)

L_t is that of `likelihoods.elbo`, in bits per dimension. The value of `VLB` is T L_t: its expectation is the bound
without the constant L_T. lambda multiplies that sum, so the paper's 0.001 is a weight of T/1000 on a single term. Times
are integers with s = t - 1, as on a `BetaTable`; under a distribution that is not uniform, such as
`times.LossSecondMoment`, each term is multiplied by its `weight(t)`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import flat_mean
from diffjax.checks import check_number
from diffjax.conditions import cond_keys
from diffjax.likelihoods.elbo import decoder_log_std, discretised_gaussian, step_kl
from diffjax.losses import weightings
from diffjax.losses.draws import Draw, bound, read, time
from diffjax.losses.networks import check_functions
from diffjax.precondition import halves
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Context, Key, PyTree, pytree, static


@pytree
class VLB:
    """L_vlb in bits per dimension (Eq. 1); `loss(params, key, batch) -> ([B], {"t": [B], "vlb": [B]})`.

    A batch is as in `DSM`, of 8-bit data scaled to [-1, 1]. `large` is c of the fixed variance (0 small, 1 large);
    None, the default, learns c: the network then has twice the channels of x. aux "vlb" is T L_t without the
    distribution's weight, what `LossSecondMoment.update` takes.
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n], integers
    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    precondition: Callable = static()  # (sde, network) -> Denoiser, see `precondition`
    large: Any = None
    train: bool = static(default=True)  # False: no dropout, for validation

    def __post_init__(self):
        _check(self)
        if self.large is not None:
            check_number("large", self.large, 0, 1)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = _draw(self, params, read(key, batch, cond_keys(self.network), context))
        vlb = _bound(self, draw)
        return draw.importance * vlb, {"t": draw.t, "vlb": vlb}


@pytree
class Hybrid:
    """L_simple + weight L_vlb (Eq. 2): the mean is trained by L_simple alone, the variance by L_vlb alone.

    `loss(params, key, batch) -> ([B], {"t": [B], "simple": [B], "vlb": [B]})`; the fields are those of `VLB`, with the
    variance learned always, and `weight`, the paper's lambda.
    """

    sde: SDE
    time_distribution: Callable
    network: Callable = static()
    precondition: Callable = static()
    weight: float = 0.001
    train: bool = static(default=True)
    large = None  # no field

    def __post_init__(self):
        _check(self)
        check_number("weight", self.weight, 0)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = _draw(self, params, read(key, batch, cond_keys(self.network), context))
        simple = weightings.simple(self.sde, draw.t) * flat_mean((draw.x0 - draw.predicted) ** 2)
        vlb = _bound(self, draw._replace(predicted=jax.lax.stop_gradient(draw.predicted)))
        return draw.importance * (simple + self.weight * vlb), {"t": draw.t, "simple": simple, "vlb": vlb}


class _Draw(NamedTuple):
    x0: Array  # [B, ...]
    t: Array  # [B]
    importance: Array  # [B] the time distribution's weight
    predicted: Array  # [B, ...] the denoiser's x_0
    c: Array | None  # [B, ...] of a learned variance


def _check(loss: Any) -> None:
    check_distribution(loss.time_distribution, loss.sde)
    check_functions(loss, network="(params, x, c_noise, cond) -> F", precondition="(sde, network) -> denoiser")


def _draw(loss: Any, params: PyTree, draw: Draw) -> _Draw:
    """Noise a batch and run the network, once: two calls would be merged going forward, but not in the gradient."""
    t, importance = time(loss.time_distribution, loss.sde, draw)
    x_t = gaussian.perturb(loss.sde, draw.x0, t, draw.eps)
    seconds, whole = [], bound(loss, params, draw)

    def network(x, c_noise, cond=None):
        F = whole(x, c_noise, cond)
        if loss.large is not None:
            return F
        first, second = halves(F, x)
        seconds.append(second)  # past the precondition, which takes no variance
        return first

    predicted = loss.precondition(loss.sde, network)(x_t, t, draw.cond)
    return _Draw(draw.x0, t, importance, predicted, seconds[0] if seconds else None)


def _bound(loss: Any, draw: _Draw) -> Array:
    """T L_t in bits per dimension, [B]."""
    sde, (x0, t, _, predicted, c) = loss.sde, draw
    later = jnp.maximum(t, 2)  # the KL of the step 1 -> 0 is infinite: let the values not chosen below be finite
    kl = step_kl(sde, x0, predicted, later, later - 1, loss.large if c is None else c)
    decoder = discretised_gaussian(x0, predicted, decoder_log_std(sde, 1.0, 2.0, c))
    return sde.T * jnp.where(t == 1, decoder, kl) / (math.log(2) * x0[0].size)

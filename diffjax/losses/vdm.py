"""The bound of variational diffusion models, which trains the noise schedule too (Kingma et al. 2021, VDM).

    (1) -log p(x) <= KL(q(z_1 | x) || p(z_1)) + E[-log p(x | z_0)] + L_diffusion                         (Eq. 11)
    (2) L_diffusion = 1/2 E gamma'(t) |eps - eps_hat(z_t)|^2,   t uniform on [0, 1]                      (Eq. 17)
    (3) with T steps:  T/2 E (exp(gamma(t) - gamma(s)) - 1) |eps - eps_hat(z_t)|^2,   s = t - 1/T        (Eq. 14)
    (4) p(x | z_0) proportional to q(z_0 | x) over the 256 levels of each entry                          (Eq. 8)

With gamma = gamma_0 + (gamma_1 - gamma_0) r(t), as in `Learned`, (2) depends on the ends and not on r, which is trained
to lower the variance of the estimate instead (App. I.2): as the mean l does not depend on r,

    (5) grad_r Var(l) = grad_r E[l^2] = E[2 l grad_r l]

so the gradient that reaches r(t) and r'(t) in the backward pass of (2) is multiplied by 2 l, example by example, and
everything else by 1: one pass trains all. In (3) r decides the bound's value, and is trained by it.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import flat_mean, fold, normal
from diffjax.checks import check_count
from diffjax.conditions import cond_keys
from diffjax.likelihoods.elbo import level_softmax, prior_kl
from diffjax.losses import weightings
from diffjax.losses.draws import bound, read, time
from diffjax.losses.networks import check_functions
from diffjax.sde import gaussian
from diffjax.times import LowDiscrepancy
from diffjax.typing import NO_CONTEXT, Context, Key, PyTree, Time, pytree, static


@pytree
class VDM:
    """The bound in bits per dimension; `loss({"net": ..., "sde": Learned}, key, batch) -> ([B], aux)`.

    aux holds "t" and the three terms of Eq. 1, "prior", "decoder" and "diffusion", [B] each. A batch is as in `DSM`, of
    8-bit data k/127.5 - 1. The network must be conditioned on gamma, not on t (`precondition.quarter_log_sigma` is
    gamma/8): else r would matter to it. As everywhere here p(z_1) is N(0, sigma_1^2 I), in the paper N(0, I).
    """

    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    precondition: Callable = static()  # (sde, network) -> Denoiser, see `precondition`
    time_distribution: Callable = LowDiscrepancy(0.0, 1.0)
    steps: int = static(default=0)  # T of Eq. 3; 0 is continuous time, Eq. 2
    train: bool = static(default=True)  # False: no dropout, for validation

    def __post_init__(self):
        check_functions(self, network="(params, x, c_noise, cond) -> F", precondition="(sde, network) -> denoiser")
        check_count("steps", self.steps, 0)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        if not (isinstance(params, dict) and {"net", "sde"} <= set(params)):
            raise ValueError('the parameters of VDM are {"net": the network\'s, "sde": a `Learned`}')
        draw = read(key, batch, cond_keys(self.network), context)
        x0, sde, unit = draw.x0, params["sde"], math.log(2) * draw.x0[0].size
        t, _ = time(self.time_distribution, sde, draw, learns=False)
        if self.steps:
            t = jnp.maximum(jnp.ceil(t * self.steps), 1) / self.steps
            r = sde.interior(t)
            shape = (r, r - sde.interior(t - 1 / self.steps))
        else:
            shape = jax.jvp(sde.interior, (t,), (jnp.ones_like(t),))
        diffusion = _diffusion if self.steps else _diffusion_of_least_variance
        aux = {
            "t": t,
            "prior": prior_kl(_Level(sde.gamma_1), x0) / unit,
            "decoder": _decode(sde.gamma_0, x0, normal(fold(key, 3), x0)) / unit,
            "diffusion": diffusion(shape, (sde.gamma_0, sde.gamma_1, params["net"]), (self, t, draw)),
        }
        return aux["prior"] + aux["decoder"] + aux["diffusion"], aux


@pytree
class _Level:
    """The process at one noise level for each example, given by gamma, [] or [B], whatever the time."""

    gamma: Array
    T: float = 1.0
    t_min: float = 0.0

    def alpha(self, t: Time) -> Array:
        return jnp.exp(0.5 * jax.nn.log_sigmoid(-self.gamma))

    def sigma(self, t: Time) -> Array:
        return jnp.exp(0.5 * jax.nn.log_sigmoid(self.gamma))


def _decode(gamma_0: Array, x0: Array, eps: Array) -> Array:
    """-log p(x | z_0) in nats, [B] (Eq. 4): z_0/alpha_0 = x + exp(gamma_0 / 2) eps."""
    return level_softmax(x0, x0 + jnp.exp(0.5 * gamma_0) * eps, 0.5 * gamma_0)


def _diffusion(shape: tuple[Array, Array], trained: tuple[Array, Array, PyTree], data: tuple[Any, ...]) -> Array:
    """Eq. 2 or 3 in bits per dimension, [B]; `shape` is r(t) and its slope, or its rise since s."""
    (r, rise), (gamma_0, gamma_1, net), (loss, t, draw) = shape, trained, data
    sde, x0 = _Level(gamma_0 + (gamma_1 - gamma_0) * r), draw.x0
    network = bound(loss, net, draw)
    predicted = loss.precondition(sde, network)(gaussian.perturb(sde, x0, t, draw.eps), t, draw.cond)
    growth = (gamma_1 - gamma_0) * rise
    factor = loss.steps * jnp.expm1(growth) if loss.steps else growth
    return 0.5 * factor * weightings.simple(sde, t) * flat_mean((x0 - predicted) ** 2) / math.log(2)


_diffusion_of_least_variance = jax.custom_vjp(_diffusion)  # the same value; in its gradient Eq. 5 for `shape`


def _forward(shape, trained, data):
    value, pull = jax.vjp(lambda shape, trained: _diffusion(shape, trained, data), shape, trained)
    return value, (value, pull)


def _backward(saved, cotangent):
    value, pull = saved
    to_shape, to_trained = pull(cotangent)
    return jax.tree.map(lambda g: 2 * value * g, to_shape), to_trained, None


_diffusion_of_least_variance.defvjp(_forward, _backward)

"""The variational bound on -log p(x_0) of a chain of Gaussian steps (Sohl-Dickstein et al. 2015; Ho et al. 2020).

On a grid T = t_n > ... > t_1 > t_0 = 0, for any Gaussian process x_t = alpha_t x_0 + sigma_t eps:

    (1) -log p(x_0) <= L_T + sum_{i >= 2} L_i + L_0                                                  (Ho et al., Eq. 5)
    (2) L_T = KL(q(x_T | x_0) || N(0, sigma_T^2 I)) = alpha_T^2 |x_0|^2 / (2 sigma_T^2)
    (3) L_i = KL(q(x_s | x_t, x_0) || p(x_s | x_t)),   t = t_i, s = t_{i-1}, at one draw of x_t ~ q(x_t | x_0)
    (4) q(x_s | x_t, x_0) has variance v = (sigma_s b / sigma_t)^2; p has the same mean at the predicted x_0, and
        log variance = c log b^2 + (1 - c) log v              (Nichol & Dhariwal 2021, Eq. 15; b: `gaussian.transition`)
    (5) L_i = sum_d [h + e^-h - 1 + e^-h (snr(s) - snr(t)) (x_0 - D)^2] / 2,   h = 2 c log(sigma_t / sigma_s)
    (6) L_0 = -log p(x_0 | x_{t_1}): a decoder whose mean is the predicted x_0

(5) is the KL of two Gaussians with a = alpha_t/alpha_s, since their means differ by (alpha_s b^2 / sigma_t^2)(x_0 - D),
and the square of that over v is snr(s) - snr(t) times the squared error (Kingma et al. 2021, Eq. 13). As v = 0 in the
last step, its place is taken by the v of the step before ("clipped"), as in the code of both papers: fixed variances
decode with it whatever c is, a learned c ranges from it to b^2. The SDE's curves at time 0 are not used, so the bound
holds for VE, whose time 0 is not noiseless, too.

Between the nodes t_2 and t_1 that v is sigma_1^2 (1 - snr_2/snr_1): about half of sigma_1^2 on the papers' grids, where
snr_2 is about half of snr_1, but nothing where t_2 comes near to t_1 > 0 (a fine grid on VE, whose sigma(0) is 0.01, or
one on EDM that ends in 0.002, 0), and then the error of the predicted x_0, of variance up to sigma_1^2, made the bound
loosen in proportion to the number of steps. So v counts as sigma_1^2 / 2 at least. For a density with few dimensions
`large = lambda x, t, cond: jnp.ones_like(x)` is tighter still: it decodes with sigma_1^2, by 0.15 nats a dimension.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.scipy.special import logsumexp, ndtr

from diffjax.arrays import bcast, example_keys, flat_sum, fold, like, normal
from diffjax.checks import check_count, check_key, check_number, known
from diffjax.conditions import as_cond
from diffjax.samplers.arguments import as_grid, as_state, check_model
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Key, Time, as_partial

Decoder = Callable[[Array, Array, Any], Array]  # (x_0 [B, ...], mean [B, ...], log std) -> nats [B]
LEVELS = 256  # of 8-bit data k/127.5 - 1


class ELBO(NamedTuple):
    """The terms of the bound (1) on -log p(x_0), in nats, or in what `bits_per_dim` makes of them."""

    prior: Array  # [B] L_T
    steps: Array  # [n - 1, B] the L_i, from T down
    decoder: Array  # [B] L_0

    @property
    def total(self) -> Array:
        """The bound, [B]."""
        return self.prior + self.steps.sum(axis=0) + self.decoder

    def bits_per_dim(self, n_dims: int) -> "ELBO":
        """The same terms divided by n_dims log 2; with a decoder of 8-bit levels these are bits per dimension.

        Raises:
          ValueError: n_dims is below 1.
        """
        check_count("n_dims", n_dims)
        return jax.tree.map(lambda nats: nats / (n_dims * math.log(2)), self)


def discretised_gaussian(x0: Array, mean: Array, log_std: Time) -> Array:
    """-log of the normal mass on x_0's bin, x_0 +- 1/255, for 8-bit data k/127.5 - 1 in [-1, 1]; nats [B].

    The bins of -1 and 1 are open to the outside, so that the 256 masses sum to 1; a mass counts as 1e-12 at least (Ho
    et al. 2020, Eq. 13 and code). The distribution function is exact here, the code approximates it by a tanh.
    """
    scale = jnp.exp(-bcast(log_std, x0))
    low = jnp.where(x0 < -0.999, -jnp.inf, (x0 - mean - 1 / 255) * scale)
    high = jnp.where(x0 > 0.999, jnp.inf, (x0 - mean + 1 / 255) * scale)
    right = low + high > 0  # there the difference of two numbers near 1 has no digits: mirror it to the left tail
    low, high = jnp.where(right, -high, low), jnp.where(right, -low, high)
    return -flat_sum(jnp.log(jnp.maximum(ndtr(high) - ndtr(low), 1e-12)))


def level_softmax(x0: Array, mean: Array, log_std: Time) -> Array:
    """-log of N(mean; x_0, std^2) normalised over the 256 levels of x_0; nats [B] (Kingma et al. 2021, Eq. 8).

    `mean` is z_0/alpha_0 and std is sigma_0/alpha_0. x_0 must be one of the levels k/127.5 - 1.
    """
    inv_var = jnp.exp(-2 * bcast(log_std, x0))
    logits = -0.5 * inv_var[..., None] * (mean[..., None] - (jnp.arange(LEVELS) / 127.5 - 1).astype(x0.dtype)) ** 2
    return flat_sum(logsumexp(logits, axis=-1) + 0.5 * inv_var * (mean - x0) ** 2)


def gaussian_density(x0: Array, mean: Array, log_std: Time) -> Array:
    """-log N(x_0; mean, std^2): the decoder of continuous data, whose bound is one on the density; nats [B]."""
    log_std = bcast(log_std, x0)
    return flat_sum(0.5 * ((x0 - mean) * jnp.exp(-log_std)) ** 2 + log_std + 0.5 * math.log(2 * math.pi))


def prior_kl(sde: SDE, x0: Array) -> Array:
    """L_T in nats, [B] (Eq. 2): how much of x_0 is left at T."""
    return 0.5 * flat_sum((sde.alpha(sde.T) / sde.sigma(sde.T) * x0) ** 2)


def step_kl(sde: SDE, x0: Array, predicted: Array, t: Time, s: Time, large: Time = 0.0) -> Array:
    """L_i in nats, [B] (Eq. 5), of the step from t to s > 0; `large` is c, [], [B] or shaped like x_0."""
    _, b = gaussian.transition(sde, t, s)
    sigma_t, sigma_s = sde.sigma(t), sde.sigma(s)
    snr_gain = bcast((sde.alpha(s) * b / (sigma_t * sigma_s)) ** 2, x0)  # snr(s) - snr(t), without cancellation
    h = 2 * bcast(large, x0) * bcast(jnp.log(sigma_t / sigma_s), x0)  # log of p's variance over q's
    kl = h + jnp.expm1(-h) + jnp.exp(-h) * snr_gain * (x0 - predicted) ** 2
    return 0.5 * flat_sum(kl)


def decoder_log_std(sde: SDE, t: Time, before: Time, large: Array | None = None) -> Array:
    """Half the log variance of the step from t to the data; `before` is the time of the grid that precedes t.

    Without `large` (fixed variances) it is that of v for the step from `before` to t, but of sigma(t)^2 / 2 at least;
    `large`, shaped like x_0 or [B], goes from there to b^2 of the step itself.
    """
    _, b = gaussian.transition(sde, before, t)
    sigma = sde.sigma(t)
    clipped = jnp.log(sigma) + jnp.log(jnp.maximum(b / sde.sigma(before), math.sqrt(0.5)))
    if large is None:
        return clipped
    # alpha = 1 and sigma = 0 are the data themselves, whatever the SDE has at its time 0: b is sigma(t)
    clipped, widest = bcast(clipped, large), bcast(jnp.log(sigma), large)
    return large * widest + (1 - large) * clipped


def elbo(
    key: Key,
    denoise: Denoiser,
    sde: SDE,
    ts: Array,
    x0: Array,
    cond: Cond = None,
    *,
    large: Any = 0.0,
    decoder: Decoder = discretised_gaussian,
) -> ELBO:
    """The terms of the bound on -log p(x_0) of each example, in nats, at one draw of x_t for each step.

    Args:
      key: one key, or one for each example [B].
      denoise: `(x, t, cond) -> x_0`.
      ts: times [n + 1] that fall from T to 0, n >= 2; the last stands for the data. `times.trailing(table, 1000)` is
        DDPM's chain, `times.uniform(sde, n, 0.0)` serves any SDE.
      x0: data [B, ...]; for the default decoder 8-bit data scaled to [-1, 1], not dequantised.
      large: c of Eq. 4, a number (0: fixed small, 1: fixed large) or `(x, t, cond) -> c`, see
        `precondition.learned_range`.
      decoder: `discretised_gaussian`, `level_softmax`, or `gaussian_density` for continuous data.

    Raises:
      TypeError: the denoiser, the SDE or the decoder is none.
      ValueError: the grid, the shape of x_0, the condition or the number of keys is unfit, `large` is a number outside
        [0, 1], x_0 lies outside [-1, 1] under a decoder of 8-bit data, or the denoiser changes the shape.
    """
    check_key(key)
    x0 = as_state(x0)
    if x0.ndim < 2:
        raise ValueError(f"x0 must be a float array [B, ...], got {x0.dtype} of shape {x0.shape}")
    cond = as_cond(cond)
    check_model(denoise, sde, cond, x0)
    _check_chain(ts := as_grid(ts, sde), sde)
    if not callable(large):
        check_number("large", large, 0, 1)
    if not callable(decoder):
        raise TypeError(f"expected a decoder (x_0, mean, log std) -> nats [B], got {decoder!r}")
    if decoder in (discretised_gaussian, level_softmax):
        _check_levels(x0)
    keys = example_keys(key, x0.shape[0])
    large = as_partial(large) if callable(large) else large
    return _elbo(keys, as_partial(denoise), sde, ts, x0, cond, large, decoder)


@partial(jax.jit, static_argnames="decoder")
def _elbo(keys, denoise, sde, ts, x0, cond, large, decoder) -> ELBO:
    def predict(i, t):
        x_t = gaussian.perturb(sde, x0, t, normal(fold(keys, i), x0)).astype(x0.dtype)
        c: Any = large(x_t, t, cond) if callable(large) else None
        return like(x0, denoise(x_t, t, cond), "denoiser"), c

    def step(_, interval):
        i, t, s = interval
        predicted, c = predict(i, t)
        return None, step_kl(sde, x0, predicted, t, s, large if c is None else c)

    n = len(ts) - 1
    _, kls = jax.lax.scan(step, None, (jnp.arange(n - 1), ts[:-2], ts[1:-1]))
    predicted, c = predict(n - 1, ts[-2])
    return ELBO(prior_kl(sde, x0), kls, decoder(x0, predicted, decoder_log_std(sde, ts[-2], ts[-3], c)))


def _check_chain(ts: Array, sde: SDE) -> None:
    """Raise a ValueError unless ts falls strictly from T to 0 in two steps or more; what is traced passes."""
    if len(ts) < 3:
        raise ValueError(f"the bound needs a grid of at least 2 steps, got {len(ts) - 1}")
    if any(isinstance(leaf, Tracer) for leaf in (ts, sde.T)):
        return
    times = np.asarray(ts)
    if times[-1] != 0 or not np.all(np.diff(times) < 0) or not np.allclose(times[0], sde.T):
        raise ValueError(f"ts must fall strictly from T = {sde.T} to 0, the data, got {times}: give the grid t_min = 0")


def _check_levels(x0: Array) -> None:
    """Raise a ValueError unless x_0 lies in [-1, 1], as levels k/127.5 - 1 do; what is traced passes."""
    if known(x0) and not np.all(np.abs(np.asarray(x0)) <= 1 + 1e-3):
        raise ValueError(
            "this decoder takes 8-bit data scaled to [-1, 1], k/127.5 - 1; got values from "
            f"{float(x0.min()):g} to {float(x0.max()):g}: for continuous data take decoder=gaussian_density"
        )

"""Everything that follows from the two curves of a Gaussian process x_t = alpha(t) x_0 + sigma(t) eps.

NOTE: sigma(t) is the standard deviation of the noise IN x_t, eps has variance 1. It is not EDM's (and k-diffusion's)
sigma, which is that of the noise once x_t is scaled to x_t / alpha: this ratio is `noise_to_signal(sde, t)` here. The
two are equal only where alpha = 1, on `EDM` and `VE`.

    (1) f(t) = alpha'/alpha,   g(t)^2 = 2 sigma (sigma' - f sigma)                  the SDE dx = f x dt + g dw
    (2) logsnr(t) = log(alpha^2 / sigma^2),   g^2 / sigma^2 = -d logsnr / dt
    (3) x_t | x_s ~ N(a x_s, b^2),   a = alpha_t/alpha_s,   b^2 = sigma_t^2 - a^2 sigma_s^2          (s <= t)
    (4) dx/dt = alpha' x_0 + sigma' eps = f x - g^2/2 score             the probability-flow ODE, its "velocity"
    (5) eps = (x - alpha x_0)/sigma,   score = -eps/sigma,   v = alpha eps - sigma x_0
    (6) x_s | x_t, x_0 ~ N(alpha_s x_0 + (a sigma_s^2/sigma_t) eps, (sigma_s b/sigma_t)^2)

Sources: Song et al. 2021; Kingma et al. 2021 (2); Karras et al. 2022; Salimans & Ho 2022 (v). Derivatives of the curves
are taken by one `jax.jvp`. All conversions go through x_0. `x` is [B, ...], `t` a scalar or [B]. Results have the dtype
of x, and at least 32 bits. Where a curve is 0:

    sigma = 0     x = alpha x_0, so eps and the score are 0 for an exact denoiser, and finite for any
    alpha = 0     x is noise alone and has no x_0 in it: conversions to x_0 give 0, the centre of scaled data, which is
                  consistent with x and eps; f = -infinity and g = infinity, so SDE solvers must start below such a T
    alpha_s = 0   in (3), which is at s = t = T alone: a = 1 and b = 0, the step that goes nowhere
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import as_time, bcast, example_keys, flat_sum, safe_log, safe_sqrt
from diffjax.checks import check_count, check_has, check_key, check_pytree, known
from diffjax.printing import short
from diffjax.typing import SDE, Cond, Denoiser, Key, Time, as_partial

ENDLESS = 2 * math.log(1e3)  # the |logsnr| that stands for an infinite one


def check_sde(sde: SDE) -> None:
    """Raise a TypeError unless `sde` is an object with alpha, sigma and T."""
    check_has(sde, "an SDE, such as dj.VP(),", "alpha", "sigma", "T")


def check_pytree_sde(sde: SDE) -> None:
    """Raise a TypeError unless `sde` is an SDE that can be an argument of compiled functions."""
    check_sde(sde)
    check_pytree(sde, "the SDE")


def same_process(a: SDE, b: SDE) -> bool:
    """Whether two SDEs have the same class and fields, but for t_min; numbers that are traced are not compared."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    fields = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
    return all(
        not (known(u) and known(v)) or (np.shape(u) == np.shape(v) and np.allclose(u, v, rtol=1e-6, atol=0))
        for (path, u), v in fields
        if getattr(path[-1], "name", "") != "t_min"
    )


def curves(sde: SDE, t: Time, x: Array) -> tuple[Array, Array]:
    """alpha(t) and sigma(t), shaped to broadcast against x, in its dtype.

    Raises:
      TypeError: `sde` is no SDE.
      ValueError: t is neither a scalar nor one time for each example of x.
    """
    check_sde(sde)
    return bcast_curve(sde.alpha(t), x), bcast_curve(sde.sigma(t), x)


def bcast_curve(c: Array, x: Array) -> Array:
    """A curve's values [] or [B], shaped to broadcast against x [B, ...], in its dtype (and at least 32 bits).

    Raises:
      ValueError: they are for another number of examples.
    """
    c = bcast(c, x)
    if c.ndim and c.shape[0] not in (1, jnp.shape(x)[0]):
        raise ValueError(f"t must be a scalar or hold one time for each of {jnp.shape(x)[0]} examples, got {len(c)}")
    return c.astype(jnp.promote_types(jnp.result_type(float, x), jnp.float32))


def rates(sde: SDE, t: Time) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """((alpha, sigma), (alpha', sigma')) at t, by one jvp."""
    t = as_time(t)
    return jax.jvp(lambda t: (sde.alpha(t), sde.sigma(t)), (t,), (jnp.ones_like(t),))


def drift(sde: SDE, x: Array, t: Time) -> Array:
    """f(t) x of Eq. 1, shaped like x; infinite where alpha = 0, but for x = 0."""
    (alpha, _), (d_alpha, _) = rates(sde, t)
    f = bcast_curve(_log_slope(alpha, d_alpha), x)
    return jnp.where(x == 0, 0, f) * x


def diffusion(sde: SDE, t: Time) -> Array:
    """g(t) of Eq. 1, shaped like t; infinite where alpha = 0.

    Where sigma = 0 it is the limit from the right: `VP` has g(0) = sqrt(beta_min), though sigma'(0) is infinite.
    """
    t = as_time(t)
    (alpha, sigma), (d_alpha, d_sigma) = rates(sde, jnp.where(sde.sigma(t) == 0, jnp.maximum(t, 1e-12 * sde.T), t))
    return safe_sqrt(2 * sigma * (d_sigma - _log_slope(alpha, d_alpha) * sigma))


def _log_slope(alpha: Array, d_alpha: Array) -> Array:
    """alpha'/alpha; -infinity at alpha = 0, to which alpha falls."""
    zero = alpha == 0
    return jnp.where(zero, -jnp.inf, d_alpha / jnp.where(zero, 1, alpha))


def noise_to_signal(sde: SDE, t: Time) -> Array:
    """sigma(t)/alpha(t), shaped like t: the noise level that EDM and k-diffusion call sigma; infinite at alpha = 0."""
    alpha = sde.alpha(t)
    return jnp.where(alpha == 0, jnp.inf, sde.sigma(t) / jnp.where(alpha == 0, 1, alpha))


def check_rises(sde: SDE) -> None:
    """Raise a ValueError unless sigma/alpha grows from t_min to T; our own classes, and what is traced, pass.

    The other order of time, data at T, is that of many papers on flow matching. Raise a TypeError where the curves are
    written with NumPy's functions.
    """
    if type(sde).__module__.startswith("diffjax."):
        return
    try:
        jax.eval_shape(lambda t: (sde.alpha(t), sde.sigma(t)), jnp.zeros(()))
    except jax.errors.TracerArrayConversionError:
        text = f"alpha(t) and sigma(t) of {type(sde).__name__} must be written with jax.numpy: NumPy cannot be compiled"
        raise TypeError(text) from None
    if not known(jax.tree.leaves(sde)):
        return
    with jax.ensure_compile_time_eval():
        low, high = (noise_to_signal(sde, t) for t in (getattr(sde, "t_min", 0.0), sde.T))
    if not np.all(np.asarray(high) > np.asarray(low)):
        raise ValueError(
            f"{short(sde)} has more noise at t_min than at T: here the data are at t = 0 and the noise at T, with "
            "x_t = alpha x_0 + sigma eps; are alpha and sigma exchanged?"
        )


def logsnr(sde: SDE, t: Time) -> Array:
    """log(alpha^2 / sigma^2), shaped like t (Eq. 2)."""
    return 2 * (safe_log(sde.alpha(t)) - safe_log(sde.sigma(t)))


@jax.jit  # grids are made eagerly, and an eager loop would compile anew at every call
def time_of_logsnr(sde: SDE, level: Array, t_low: Time = 0.0, t_high: Time | None = None) -> Array:
    """The time t in [t_low, t_high] at which logsnr(t) = level, by bisection down to neighbouring floats.

    Where no time there has that level, t is the nearer end, with a derivative of 0.
    """
    level = as_time(level)
    low = jnp.full_like(level, t_low)
    high = jnp.full_like(level, sde.T if t_high is None else t_high)
    within = (level <= logsnr(sde, low)) & (level >= logsnr(sde, high)) & jnp.isfinite(level)

    def halve(_, bracket):
        low, high = bracket
        mid = 0.5 * (low + high)
        above = logsnr(sde, mid) > level  # logsnr falls as t grows
        return jnp.where(above, mid, low), jnp.where(above, high, mid)

    low, high = jax.lax.fori_loop(0, 64, halve, (low, high))
    return _implicit(sde, level, jax.lax.stop_gradient(0.5 * (low + high)), within)


def _implicit(sde: SDE, level: Array, t: Array, within: Array) -> Array:
    """t, with the derivative that logsnr(t) = level implies `within`: that of one Newton step."""
    residual, slope = jax.jvp(partial(logsnr, sde), (t,), (jnp.ones_like(t),))
    regular = within & jnp.isfinite(residual) & jnp.isfinite(slope) & (slope != 0)
    newton = jnp.where(regular, level - residual, 0) / jax.lax.stop_gradient(jnp.where(regular, slope, 1))
    return t + jnp.where(regular, newton - jax.lax.stop_gradient(newton), 0)


def time_between(sde: SDE, t: Time, s: Time, r: float) -> Array:
    """The time at the fraction r of the way from t to s in log(alpha/sigma).

    An end of an infinite level, alpha(t) = 0 or sigma(s) = 0, counts as one of logsnr -+`ENDLESS`.
    """
    start, end = logsnr(sde, t), logsnr(sde, s)
    return time_of_logsnr(sde, (1 - r) * _finite(start, end) + r * _finite(end, start))


def _finite(level: Array, other: Array) -> Array:
    """`level`, or where it is infinite +-ENDLESS, and no nearer to 0 than the `other` end of an interval."""
    other = jnp.where(jnp.isfinite(other), other, 0)
    stand_in = jnp.where(level < 0, jnp.minimum(-ENDLESS, other), jnp.maximum(ENDLESS, other))
    return jnp.where(jnp.isfinite(level), level, stand_in)


def rescale(denoise: Denoiser, sde: SDE, new: SDE) -> Denoiser:
    """A denoiser made for `sde` as a denoiser for `new`: the same network in another clock and scale.

    x and t of `new` are carried to the same signal-to-noise ratio of `sde`. So every solver runs in any time: Heun's
    method on a VP network in EDM's, or in flow matching's. Levels beyond sde.T are taken to be at sde.T.
    """
    return Partial(_rescaled, as_partial(denoise), sde, new)


def _rescaled(denoise, sde, new, x: Array, t: Time, cond: Cond = None) -> Array:
    level = time_of_logsnr(sde, logsnr(new, t))
    alpha, sigma = curves(new, t, x)
    old_alpha, old_sigma = curves(sde, level, x)
    return denoise(x * (jnp.hypot(old_alpha, old_sigma) / jnp.hypot(alpha, sigma)), level, cond)


def transition(sde: SDE, t: Time, s: Time) -> tuple[Array, Array]:
    """(a, b) of x_t | x_s ~ N(a x_s, b^2) for s <= t (Eq. 3), shaped like t."""
    alpha_s, sigma_t, sigma_s = sde.alpha(s), sde.sigma(t), sde.sigma(s)
    a = jnp.where(alpha_s == 0, 1, sde.alpha(t) / jnp.where(alpha_s == 0, 1, alpha_s))
    # as a product, so that neither square overflows nor the difference of near-equal squares loses its digits
    return a, safe_sqrt(jnp.maximum((sigma_t - a * sigma_s) * (sigma_t + a * sigma_s), 0))


def posterior_mean(sde: SDE, x: Array, t: Time, s: Time, x0: Array) -> Array:
    """The mean of x_s | x_t = x, x_0 for s <= t (Eq. 6); x_0 itself at s = 0 where sigma(0) = 0 and alpha(0) = 1."""
    a, _ = transition(sde, t, s)
    (alpha_s, sigma_s), (_, sigma_t) = curves(sde, s, x), curves(sde, t, x)
    return alpha_s * x0 + bcast_curve(a, x) * _over(sigma_s, sigma_t) * sigma_s * eps_from_x0(sde, x, t, x0)


def perturb(sde: SDE, x0: Array, t: Time, eps: Array) -> Array:
    """x_t = alpha(t) x_0 + sigma(t) eps, shaped like x0.

    Raises:
      ValueError: t is neither a scalar nor one time for each example.
    """
    alpha, sigma = curves(sde, t, x0)
    return alpha * x0 + sigma * eps


def prior_sample(key: Key, sde: SDE, shape: tuple[int, ...]) -> Array:
    """Draw x_T ~ N(0, sigma(T)^2 I), shape [B, ...]; example i uses `key` folded with i, or the i-th of B keys.

    Raises:
      TypeError: `sde` is no SDE, or a size is no integer.
      ValueError: the key is none, or the shape has no axis of examples.
    """
    check_key(key)
    check_sde(sde)
    if not isinstance(shape, tuple | list) or len(shape) == 0:
        raise ValueError(f"the shape must be (B, ...), with the number of examples first, got {shape!r}")
    for size in shape:
        check_count("a size of the shape", size, 0)
    keys = example_keys(key, shape[0])
    return sde.sigma(sde.T) * jax.vmap(lambda k: jax.random.normal(k, tuple(shape[1:])))(keys)


def prior_logp(sde: SDE, x: Array) -> Array:
    """log N(x; 0, sigma(T)^2 I) in nats, [B]."""
    check_sde(sde)
    sigma = sde.sigma(sde.T)
    return -flat_sum(0.5 * (x / sigma) ** 2 + 0.5 * jnp.log(2 * jnp.pi) + jnp.log(sigma))


def exponential_step(sde: SDE, x: Array, t: Time, s: Time, x0: Array) -> Array:
    """x carried from t to s along the straight line in (x/alpha, sigma/alpha) that x_0 sets: DDIM's update.

    alpha_s x_0 + sigma_s eps is right for every s, t = 0 included, if x_0 is.
    """
    return perturb(sde, x0, s, eps_from_x0(sde, x, t, x0))


def eps_from_x0(sde: SDE, x: Array, t: Time, x0: Array) -> Array:
    """The noise in x if the clean data are x0 (Eq. 5)."""
    alpha, sigma = curves(sde, t, x)
    return (x - alpha * x0) / jnp.where(sigma == 0, 1, sigma)


def x0_from_eps(sde: SDE, x: Array, t: Time, eps: Array) -> Array:
    """The clean data if the noise in x is eps; 0 where alpha = 0."""
    alpha, sigma = curves(sde, t, x)
    return _over(x - sigma * eps, alpha)


def score_from_x0(sde: SDE, x: Array, t: Time, x0: Array) -> Array:
    """grad log p_t(x) if the posterior mean is x0 (Tweedie's formula, Eq. 5)."""
    sigma = bcast_curve(sde.sigma(t), x)
    return -eps_from_x0(sde, x, t, x0) / jnp.where(sigma == 0, 1, sigma)


def x0_from_score(sde: SDE, x: Array, t: Time, score: Array) -> Array:
    """The posterior mean if the score is `score` (Tweedie); 0 where alpha = 0."""
    alpha, sigma = curves(sde, t, x)
    return _over(x + sigma * (sigma * score), alpha)


def v_from_x0(sde: SDE, x: Array, t: Time, x0: Array) -> Array:
    """v = alpha eps - sigma x0 (Salimans & Ho 2022, App. D)."""
    alpha, sigma = curves(sde, t, x)
    return alpha * eps_from_x0(sde, x, t, x0) - sigma * x0


def x0_from_v(sde: SDE, x: Array, t: Time, v: Array) -> Array:
    """(alpha x - sigma v) / (alpha^2 + sigma^2); finite at every t."""
    alpha, sigma = curves(sde, t, x)
    return (alpha * x - sigma * v) / (alpha**2 + sigma**2)


def velocity_from_x0(sde: SDE, x: Array, t: Time, x0: Array) -> Array:
    """dx/dt of the probability-flow ODE (Eq. 4); finite where alpha = 0."""
    _, (d_alpha, d_sigma) = rates(sde, t)
    return bcast_curve(d_alpha, x) * x0 + bcast_curve(d_sigma, x) * eps_from_x0(sde, x, t, x0)


def x0_from_velocity(sde: SDE, x: Array, t: Time, velocity: Array) -> Array:
    """The posterior mean if the probability-flow ODE has this velocity: Eq. 4 and 5 solved for x_0.

    Where they have no solution, as at sigma = sigma' = 0, x alone decides: alpha x / (alpha^2 + sigma^2).
    """
    (alpha, sigma), (d_alpha, d_sigma) = (tuple(bcast_curve(c, x) for c in pair) for pair in rates(sde, t))
    det = d_sigma * alpha - d_alpha * sigma
    return jnp.where(det == 0, alpha * x / (alpha**2 + sigma**2), _over(d_sigma * x - sigma * velocity, det))


def _over(a: Array, b: Array) -> Array:
    """a / b, and 0 where b = 0."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))

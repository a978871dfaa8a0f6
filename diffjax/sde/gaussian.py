"""Everything that follows from the two curves of a Gaussian process x_t = alpha(t) x_0 + sigma(t) eps.

    (1) f(t) = alpha'/alpha,   g(t)^2 = 2 sigma (sigma' - f sigma)                  the SDE dx = f x dt + g dw
    (2) logsnr(t) = log(alpha^2 / sigma^2),   g^2 / sigma^2 = -d logsnr / dt
    (3) x_t | x_s ~ N(a x_s, b^2),   a = alpha_t/alpha_s,   b^2 = sigma_t^2 - a^2 sigma_s^2          (s <= t)
    (4) dx/dt = alpha' x_0 + sigma' eps = f x - g^2/2 score             the probability-flow ODE, its "velocity"
    (5) eps = (x - alpha x_0)/sigma,   score = -eps/sigma,   v = alpha eps - sigma x_0
    (6) x_s | x_t, x_0 ~ N(alpha_s x_0 + (a sigma_s^2/sigma_t) eps, (sigma_s b/sigma_t)^2)

Sources: Song et al. 2021; Kingma et al. 2021 (2); Karras et al. 2022; Salimans & Ho 2022 (v). Derivatives of the curves
are taken by one `jax.jvp`. All conversions go through x_0. `x` is [B, ...], `t` a scalar or [B]. Divisions by sigma are
guarded at t = 0, where x = alpha x_0, so that eps and the score are 0 there for an exact denoiser, and finite for any.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import bcast, example_keys, flat_sum, safe_log, safe_sqrt
from diffjax.checks import check_has, known
from diffjax.typing import SDE, Cond, Denoiser, Key, Time, as_partial


def check_sde(sde: SDE) -> None:
    """Raise a TypeError unless `sde` is an object with alpha, sigma and T."""
    check_has(sde, "an SDE, such as dj.VP(),", "alpha", "sigma", "T")


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
    """alpha(t) and sigma(t), shaped to broadcast against x."""
    return bcast(sde.alpha(t), x), bcast(sde.sigma(t), x)


def rates(sde: SDE, t: Time) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """((alpha, sigma), (alpha', sigma')) at t, by one jvp."""
    t = jnp.asarray(t, jnp.result_type(float, t))
    return jax.jvp(lambda t: (sde.alpha(t), sde.sigma(t)), (t,), (jnp.ones_like(t),))


def drift(sde: SDE, x: Array, t: Time) -> Array:
    """f(t) x of Eq. 1, shaped like x."""
    (alpha, _), (d_alpha, _) = rates(sde, t)
    return bcast(d_alpha / alpha, x) * x


def diffusion(sde: SDE, t: Time) -> Array:
    """g(t) of Eq. 1, shaped like t."""
    (alpha, sigma), (d_alpha, d_sigma) = rates(sde, t)
    return jnp.sqrt(2 * sigma * (d_sigma - d_alpha / alpha * sigma))


def logsnr(sde: SDE, t: Time) -> Array:
    """log(alpha^2 / sigma^2), shaped like t (Eq. 2)."""
    return 2 * (safe_log(sde.alpha(t)) - safe_log(sde.sigma(t)))


@jax.jit  # grids are made eagerly, and an eager loop would compile anew at every call
def time_of_logsnr(sde: SDE, target: Array, t_low: Time = 0.0, t_high: Time | None = None) -> Array:
    """The time t in [t_low, t_high] at which logsnr(t) = target, by bisection down to neighbouring floats.

    Where no time there has that level, t is the nearer end, with a derivative of 0.
    """
    target = jnp.asarray(target)
    low = jnp.full_like(target, t_low)
    high = jnp.full_like(target, sde.T if t_high is None else t_high)
    within = (target <= logsnr(sde, low)) & (target >= logsnr(sde, high)) & jnp.isfinite(target)

    def halve(_, bracket):
        low, high = bracket
        mid = 0.5 * (low + high)
        above = logsnr(sde, mid) > target  # logsnr falls as t grows
        return jnp.where(above, mid, low), jnp.where(above, high, mid)

    low, high = jax.lax.fori_loop(0, 64, halve, (low, high))
    return _implicit(sde, target, jax.lax.stop_gradient(0.5 * (low + high)), within)


def _implicit(sde: SDE, target: Array, t: Array, within: Array) -> Array:
    """t, with the derivative that logsnr(t) = target implies `within`: that of one Newton step."""
    residual, slope = jax.jvp(partial(logsnr, sde), (t,), (jnp.ones_like(t),))
    regular = within & jnp.isfinite(residual) & jnp.isfinite(slope) & (slope != 0)
    newton = jnp.where(regular, target - residual, 0) / jax.lax.stop_gradient(jnp.where(regular, slope, 1))
    return t + jnp.where(regular, newton - jax.lax.stop_gradient(newton), 0)


def time_between(sde: SDE, t: Time, s: Time, r: float) -> Array:
    """The time at the fraction r of the way from t to s in log(alpha/sigma)."""
    return time_of_logsnr(sde, (1 - r) * logsnr(sde, t) + r * logsnr(sde, s))


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
    a, sigma_t, sigma_s = sde.alpha(t) / sde.alpha(s), sde.sigma(t), sde.sigma(s)
    # as a product, so that neither square overflows nor the difference of near-equal squares loses its digits
    return a, safe_sqrt(jnp.maximum((sigma_t - a * sigma_s) * (sigma_t + a * sigma_s), 0))


def posterior_mean(sde: SDE, x: Array, t: Time, s: Time, x0: Array) -> Array:
    """The mean of x_s | x_t = x, x_0 for s <= t (Eq. 6); x_0 itself at s = 0 where sigma(0) = 0 and alpha(0) = 1."""
    a, _ = transition(sde, t, s)
    (alpha_s, sigma_s), (_, sigma_t) = curves(sde, s, x), curves(sde, t, x)
    return alpha_s * x0 + bcast(a, x) * (sigma_s / sigma_t) * sigma_s * eps_from_x0(sde, x, t, x0)


def perturb(sde: SDE, x0: Array, t: Time, eps: Array) -> Array:
    """x_t = alpha(t) x_0 + sigma(t) eps."""
    alpha, sigma = curves(sde, t, x0)
    return alpha * x0 + sigma * eps


def prior_sample(key: Key, sde: SDE, shape: tuple[int, ...]) -> Array:
    """Draw x_T ~ N(0, sigma(T)^2 I), shape [B, ...]; example i uses `key` folded with i, or the i-th of B keys."""
    keys = example_keys(key, shape[0])
    return sde.sigma(sde.T) * jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(keys)


def prior_logp(sde: SDE, x: Array) -> Array:
    """log N(x; 0, sigma(T)^2 I) in nats, [B]."""
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
    """The clean data if the noise in x is eps; infinite where alpha = 0."""
    alpha, sigma = curves(sde, t, x)
    return (x - sigma * eps) / alpha


def score_from_x0(sde: SDE, x: Array, t: Time, x0: Array) -> Array:
    """grad log p_t(x) if the posterior mean is x0 (Tweedie's formula, Eq. 5)."""
    sigma = bcast(sde.sigma(t), x)
    return -eps_from_x0(sde, x, t, x0) / jnp.where(sigma == 0, 1, sigma)


def x0_from_score(sde: SDE, x: Array, t: Time, score: Array) -> Array:
    """The posterior mean if the score is `score` (Tweedie); infinite where alpha = 0."""
    alpha, sigma = curves(sde, t, x)
    return (x + sigma * (sigma * score)) / alpha


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
    return bcast(d_alpha, x) * x0 + bcast(d_sigma, x) * eps_from_x0(sde, x, t, x0)


def x0_from_velocity(sde: SDE, x: Array, t: Time, velocity: Array) -> Array:
    """The posterior mean if the probability-flow ODE has this velocity: Eq. 4 and 5 solved for x_0."""
    (alpha, sigma), (d_alpha, d_sigma) = rates(sde, t)
    det = bcast(d_sigma * alpha - d_alpha * sigma, x)
    return (bcast(d_sigma, x) * x - bcast(sigma, x) * velocity) / det

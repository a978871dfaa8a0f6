"""Worlds in which everything is known: exact denoisers, scores, likelihoods and posteriors.

If x_0 is a Gaussian mixture, so is x_t = alpha x_0 + sigma eps:

    (1) p_t(x) = sum_k w_k N(x; alpha m_k, alpha^2 C_k + sigma^2 I)
    (2) E[x_0 | x_t] = sum_k r_k(x) (m_k + alpha C_k (alpha^2 C_k + sigma^2 I)^-1 (x - alpha m_k)),   r_k = p(k | x_t)
    (3) y = A x_0 + s n:  C' = C - K A C,  m' = m + K (y - A m),  w' ~ w N(y; A m, S)
                          with K = C A^T S^-1 and S = A C A^T + s^2 I
    (4) x_s = alpha_s m + (alpha_s^2 C + sigma_s^2 I)^1/2 (alpha_t^2 C + sigma_t^2 I)^-1/2 (x_t - alpha_t m)

(4) is the probability-flow ODE's solution if there is one component: each principal axis keeps its standard score.

Equal boxes, on which the law is uniform, smear into products of intervals: with Phi the normal distribution function

    (5) p_t(x) = mean over k of prod_d (Phi(v_kd) - Phi(u_kd)) / (alpha (high - low)_kd),  u = (alpha low - x) / sigma

and v the same of high; E[x_0 | x_t] is that of normal laws cut off at the walls.

A data set is the mixture with C = 0 and equal weights; its ideal denoiser is what a network would learn that memorised
it (Karras et al. 2022, App. B.3).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import log_ndtr, logsumexp
from jax.scipy.stats import norm
from jax.tree_util import Partial

from diffjax.arrays import bcast, example_keys
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, FlowMap, Key, Time, pytree


@pytree
class GaussianMixture:
    """sum_k weights[k] N(means[k], covs[k]) with weights [K], means [K, D] and covs [K, D, D]; x is [B, D]."""

    weights: Array
    means: Array
    covs: Array

    def sample(self, key: Key, n: int) -> Array:
        """n draws, [n, D]; `key` is one key or n keys."""
        return jax.vmap(self._draw)(example_keys(key, n))

    def _draw(self, key: Key) -> Array:
        k_component, k_noise = jax.random.split(key)
        k = jax.random.categorical(k_component, jnp.log(jnp.asarray(self.weights)))
        scales, basis = jnp.linalg.eigh(jnp.asarray(self.covs)[k])  # a singular covariance is fine
        z = jax.random.normal(k_noise, scales.shape, scales.dtype)
        return jnp.asarray(self.means)[k] + basis @ (jnp.sqrt(jnp.maximum(scales, 0)) * z)

    def log_prob(self, x: Array) -> Array:
        """log density of the data in nats, [B]."""
        return logsumexp(self._joint(x, 1.0, 0.0)[0], axis=-1)

    def log_prob_at(self, sde: SDE, x: Array, t: Time) -> Array:
        """log p_t(x) in nats, [B] (Eq. 1)."""
        return logsumexp(self._joint(x, sde.alpha(t), sde.sigma(t))[0], axis=-1)

    def denoise(self, sde: SDE, x: Array, t: Time, cond: Cond = None) -> Array:
        """E[x_0 | x_t = x], [B, D] (Eq. 2)."""
        alpha = jnp.asarray(sde.alpha(t))[..., None, None]  # against [B, K, D]
        log_joint, z, scales, basis, var = self._joint(x, sde.alpha(t), sde.sigma(t))
        gain = alpha * scales / jnp.where(var == 0, 1, var)
        per_component = self.means + jnp.einsum("kde,bke->bkd", basis, gain * z)
        return jnp.einsum("bk,bkd->bd", jax.nn.softmax(log_joint, axis=-1), per_component)

    def score(self, sde: SDE, x: Array, t: Time) -> Array:
        """grad log p_t(x), [B, D]; 0 at t = 0 where sigma(0) = 0, as Tweedie's formula knows nothing there."""
        return gaussian.score_from_x0(sde, x, t, self.denoise(sde, x, t))

    def denoiser(self, sde: SDE) -> Denoiser:
        """`denoise` bound to an SDE: the Denoiser `(x, t, cond) -> x_0`."""
        return Partial(GaussianMixture.denoise, self, sde)

    def flow(self, sde: SDE, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
        """x at time t carried to time s by the probability-flow ODE, [B, D] (Eq. 4); the law must be a single Gaussian.

        Raises:
          ValueError: there are several components, whose flow has no closed form (see `flow_maps.along`).
        """
        if len(self.means) != 1:
            raise ValueError(f"the flow is known in closed form for one Gaussian, not for {len(self.means)} components")
        _, z, _, basis, var_t = self._joint(x, sde.alpha(t), sde.sigma(t))
        var_s = self._joint(x, sde.alpha(s), sde.sigma(s))[-1]
        gain = jnp.sqrt(var_s / jnp.where(var_t == 0, 1, var_t))
        return bcast(sde.alpha(s), x) * self.means + jnp.einsum("kde,bke->bd", basis, gain * z)

    def flow_map(self, sde: SDE) -> FlowMap:
        """`flow` bound to an SDE: the FlowMap `(x, t, s, cond) -> x_s`."""
        return Partial(GaussianMixture.flow, self, sde)

    def posterior(self, A: Array, y: Array, noise_std: Time) -> "GaussianMixture":
        """The law of x_0 given y [M] = A x_0 + noise_std n, with A [M, D] (Eq. 3): a mixture again."""
        C, m = jnp.asarray(self.covs), jnp.asarray(self.means)
        S = A @ C @ A.T + noise_std**2 * jnp.eye(len(A), dtype=C.dtype)
        K = jnp.linalg.solve(S, A @ C).mT  # [K, D, M]
        residual = y - m @ A.T  # [K, M]
        log_w = jnp.log(jnp.asarray(self.weights)) + jax.vmap(_log_normal)(residual, S)
        covs = C - K @ A @ C
        return GaussianMixture(jax.nn.softmax(log_w), m + jnp.einsum("kdm,km->kd", K, residual), (covs + covs.mT) / 2)

    def _joint(self, x: Array, alpha: Time, sigma: Time):
        """log w_k N(x; ...) [B, K], and in each component's eigenbasis: x - alpha m [B, K, D], its variance."""
        if x.ndim != 2 or x.shape[-1] != jnp.shape(self.means)[-1]:
            raise ValueError(f"expected x of shape [B, {jnp.shape(self.means)[-1]}], got {x.shape}")
        alpha, sigma = (jnp.asarray(c)[..., None, None] for c in (alpha, sigma))
        scales, basis = jnp.linalg.eigh(jnp.asarray(self.covs))  # [K, D], [K, D, D]
        scales = jnp.maximum(scales, 0)
        z = jnp.einsum("kde,bkd->bke", basis, x[:, None] - alpha * self.means)
        var = alpha**2 * scales + sigma**2
        log_p = -0.5 * (z**2 / jnp.where(var == 0, 1, var) + jnp.log(2 * jnp.pi * var)).sum(-1)
        return jnp.log(jnp.asarray(self.weights)) + log_p, z, scales, basis, var


def _log_normal(x: Array, cov: Array) -> Array:
    """log N(x; 0, cov) for one vector."""
    return jnp.asarray(jax.scipy.stats.multivariate_normal.logpdf(x, jnp.zeros_like(x), cov))


@pytree
class Empirical:
    """The uniform law on a data set [N, ...]; x is [B, ...]. Memory of a call: B times N, and the data once."""

    data: Array

    def sample(self, key: Key, n: int) -> Array:
        """n draws with replacement, [n, ...]."""
        index = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(self.data)))(example_keys(key, n))
        return self.data[index]

    def denoise(self, sde: SDE, x: Array, t: Time, cond: Cond = None) -> Array:
        """E[x_0 | x_t = x]: the data averaged with weights softmax(-|x - alpha data|^2 / 2 sigma^2); at t = 0, x."""
        if x.shape[1:] != self.data.shape[1:]:
            raise ValueError(f"expected x of shape [B, {', '.join(map(str, self.data.shape[1:]))}], got {x.shape}")
        data = self.data.reshape(len(self.data), -1)
        flat = x.reshape(len(x), -1)
        alpha, sigma = gaussian.curves(sde, t, flat)
        # |x - alpha d|^2 without the term that all data share
        square = alpha * (alpha * (data**2).sum(-1) - 2 * flat @ data.T)
        weights = jax.nn.softmax(-0.5 * square / jnp.where(sigma == 0, 1, sigma) ** 2, axis=-1)
        x0 = (weights @ data).reshape(x.shape)
        return jnp.where(bcast(sde.sigma(t), x) == 0, x, x0)

    def score(self, sde: SDE, x: Array, t: Time) -> Array:
        """grad log p_t(x), [B, ...]."""
        return gaussian.score_from_x0(sde, x, t, self.denoise(sde, x, t))

    def denoiser(self, sde: SDE) -> Denoiser:
        """`denoise` bound to an SDE: the Denoiser `(x, t, cond) -> x_0`."""
        return Partial(Empirical.denoise, self, sde)


@pytree
class Boxes:
    """The uniform law on boxes of equal volume and without overlap, from lows [K, D] to highs [K, D]; x is [B, D]."""

    lows: Array
    highs: Array

    def sample(self, key: Key, n: int) -> Array:
        """n draws, [n, D]; `key` is one key or n keys."""
        return jax.vmap(self._draw)(example_keys(key, n))

    def _draw(self, key: Key) -> Array:
        k_box, k_inside = jax.random.split(key)
        k = jax.random.randint(k_box, (), 0, len(self.lows))
        low, high = jnp.asarray(self.lows)[k], jnp.asarray(self.highs)[k]
        return jax.random.uniform(k_inside, low.shape, low.dtype, low, high)

    def log_prob(self, x: Array) -> Array:
        """log density of the data in nats, [B]: -inf outside."""
        inside = ((x[:, None] >= self.lows) & (x[:, None] < self.highs)).all(-1).any(-1)
        volume = jnp.prod(jnp.asarray(self.highs - self.lows)[0])
        return jnp.where(inside, -jnp.log(len(self.lows) * volume), -jnp.inf)

    def log_prob_at(self, sde: SDE, x: Array, t: Time) -> Array:
        """log p_t(x) in nats, [B] (Eq. 5), where there is noise."""
        return logsumexp(self._smeared(sde, x, t)[0].sum(-1), axis=-1) - jnp.log(len(self.lows))

    def denoise(self, sde: SDE, x: Array, t: Time, cond: Cond = None) -> Array:
        """E[x_0 | x_t = x], [B, D]; without noise x."""
        log_p, mean = self._smeared(sde, x, t)
        weights = jax.nn.softmax(log_p.sum(-1), axis=-1)
        return jnp.where(bcast(sde.sigma(t), x) == 0, x, jnp.einsum("bk,bkd->bd", weights, mean))

    def denoiser(self, sde: SDE) -> Denoiser:
        """`denoise` bound to an SDE: the Denoiser `(x, t, cond) -> x_0`."""
        return Partial(Boxes.denoise, self, sde)

    def _smeared(self, sde: SDE, x: Array, t: Time) -> tuple[Array, Array]:
        """log p(x_t) and E[x_0 | x_t] of each axis of each box alone, [B, K, D]."""
        if x.ndim != 2 or x.shape[-1] != jnp.shape(self.lows)[-1]:
            raise ValueError(f"expected x of shape [B, {jnp.shape(self.lows)[-1]}], got {x.shape}")
        low, high = jnp.asarray(self.lows), jnp.asarray(self.highs)
        alpha, sigma = (jnp.asarray(c)[..., None, None] for c in (sde.alpha(t), sde.sigma(t)))
        sigma = jnp.where(sigma == 0, 1, sigma)
        wide = alpha * (high - low) < 4 * sigma  # so much noise that all is smooth across a box
        smooth = _by_nodes(x[:, None], low, high, alpha, sigma)
        walled = _by_walls(x[:, None], low, high, jnp.where(wide, 1, alpha), jnp.where(wide, (high - low) / 4, sigma))
        return jnp.where(wide, smooth[0], walled[0]), jnp.where(wide, smooth[1], walled[1])


def _by_nodes(x: Array, low: Array, high: Array, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """log of the mean of N(x; alpha z, sigma^2) over z in [low, high], and z's posterior mean, by Gauss-Legendre."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    z = low[..., None] + (high - low)[..., None] * jnp.asarray((nodes + 1) / 2, low.dtype)
    log_p = -0.5 * ((x[..., None] - alpha[..., None] * z) / sigma[..., None]) ** 2
    log_p += jnp.asarray(np.log(weights / 2), low.dtype)
    log_z = logsumexp(log_p, axis=-1)
    return log_z - jnp.log(sigma) - 0.5 * jnp.log(2 * jnp.pi), (jax.nn.softmax(log_p, axis=-1) * z).sum(-1)


def _by_walls(x: Array, low: Array, high: Array, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """The same by the normal distribution function, in logarithms on the side where its differences are exact."""
    u, v = (alpha * low - x) / sigma, (alpha * high - x) / sigma
    flip = u + v > 0
    u, v = jnp.where(flip, -v, u), jnp.where(flip, -u, v)
    log_mass = log_ndtr(v) + jnp.log1p(-jnp.exp(log_ndtr(u) - log_ndtr(v)))
    drift = jnp.exp(norm.logpdf(u) - log_mass) - jnp.exp(norm.logpdf(v) - log_mass)  # E of N(0, 1) on [u, v]
    a2 = jnp.square(jnp.minimum(v, -8))
    drift = jnp.where(v < -8, v + (1 - 2 / a2 + 10 / a2**2) / v, drift)  # Mills's ratio, whose parts lose digits there
    mean = (x + sigma * jnp.where(flip, -drift, drift)) / alpha
    return log_mass - jnp.log(alpha * (high - low)), jnp.clip(mean, low, high)

"""Data distributions of which everything is known: exact denoisers, scores, likelihoods and posteriors.

If x_0 is a Gaussian mixture, so is x_t = alpha x_0 + sigma eps:

    (1) p_t(x) = sum_k w_k N(x; alpha m_k, alpha^2 C_k + sigma^2 I)
    (2) E[x_0 | x_t] = sum_k r_k(x) (m_k + alpha C_k (alpha^2 C_k + sigma^2 I)^-1 (x - alpha m_k)),   r_k = p(k | x_t)
    (3) y = A x_0 + s n:  C' = C - K A C,  m' = m + K (y - A m),  w' ~ w N(y; A m, S)
                          with K = C A^T S^-1 and S = A C A^T + s^2 I
    (4) x_s = alpha_s m + (alpha_s^2 C + sigma_s^2 I)^1/2 (alpha_t^2 C + sigma_t^2 I)^-1/2 (x_t - alpha_t m)

(4) is the probability-flow ODE's solution if there is one component: each principal axis keeps its standard score.

Equal boxes, on which data are uniform, smear into products of intervals: with Phi the normal distribution function

    (5) p_t(x) = mean over k of prod_d (Phi(v_kd) - Phi(u_kd)) / (alpha (high - low)_kd),  u = (alpha low - x) / sigma

and v the same of high; E[x_0 | x_t] is that of normal distributions cut off at the walls.

A data set is the mixture with C = 0 and equal weights; its ideal denoiser is what a network would learn that memorised
it (Karras et al. 2022, App. B.3).

Where sigma = 0 there is no noise, and every denoiser returns x/alpha; where alpha = 0 it returns the mean of the data.
A singular covariance is an ordinary input: it has no density where sigma = 0, and `log_prob` there is inf on the
subspaces that hold all the data of a component, and else the density of the other components.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import log_ndtr, logsumexp
from jax.scipy.stats import norm
from jax.tree_util import Partial

from diffjax.arrays import bcast, example_keys, safe_log, safe_sqrt
from diffjax.checks import check_number, known
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, FlowMap, Key, Time, pytree


@pytree
class GaussianMixture:
    """sum_k weights[k] N(means[k], covs[k]) with weights [K], means [K, D] and covs [K, D, D]; x is [B, D].

    All may have further axes in front, for `jax.vmap` over mixtures.

    Raises:
      TypeError: a field is no array of floats.
      ValueError: the shapes do not fit, weights are negative or do not sum to 1, or a covariance is not symmetric or
        has a negative eigenvalue.
    """

    weights: Array
    means: Array
    covs: Array

    def __post_init__(self):
        w, m, C = (_array(name, getattr(self, name)) for name in ("weights", "means", "covs"))
        if w is None or m is None or C is None:
            return
        if len(w) < 1 or m[:-1] != w or C != (*m, m[-1]):
            raise ValueError(
                f"a mixture has weights [K], means [K, D] and covs [K, D, D], got {w}, {m} and {C}: "
                "variances v [K] are covs v[:, None, None] * jnp.eye(D)"
            )
        check_number("weights", self.weights, 0, 1)
        check_number("means", self.means)
        if known(self.weights) and np.any(abs(np.asarray(self.weights, np.float64).sum(-1) - 1) > 1e-3):
            raise ValueError(f"the weights of a mixture must sum to 1, got {np.asarray(self.weights)}")
        if known(self.covs):
            _check_covariances(np.asarray(self.covs, np.float64))

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
        """log density of the data in nats, [B]; inf on the subspace of a singular covariance."""
        return logsumexp(self._joint(_points(x, self.means), 1.0, 0.0)[0], axis=-1)

    def log_prob_at(self, sde: SDE, x: Array, t: Time) -> Array:
        """log p_t(x) in nats, [B] (Eq. 1)."""
        levels = _levels(sde, t)
        return logsumexp(self._joint(_points(x, self.means), *levels)[0], axis=-1)

    def denoise(self, sde: SDE, x: Array, t: Time, cond: Cond = None) -> Array:
        """E[x_0 | x_t = x], [B, D] (Eq. 2)."""
        alpha, sigma = _levels(sde, t)
        x = _points(x, self.means)
        # without noise x_0 is x/alpha: the rest is evaluated at another level, so that its gradient is finite
        log_joint, z, scales, basis, var = self._joint(x, alpha, jnp.where(jnp.square(sigma) == 0, 1, sigma))
        gain = jnp.asarray(alpha)[..., None, None] * scales / jnp.where(var == 0, 1, var)
        per_component = self.means + jnp.einsum("kde,bke->bkd", basis, gain * z)
        x0 = jnp.einsum("bk,bkd->bd", jax.nn.softmax(log_joint, axis=-1), per_component)
        return _without_noise(x, alpha, sigma, x0)

    def score(self, sde: SDE, x: Array, t: Time) -> Array:
        """grad log p_t(x), [B, D]; 0 where sigma = 0, where Tweedie's formula says nothing."""
        return gaussian.score_from_x0(sde, x, t, self.denoise(sde, x, t))

    def denoiser(self, sde: SDE) -> Denoiser:
        """`denoise` bound to an SDE: the Denoiser `(x, t, cond) -> x_0`."""
        return Partial(GaussianMixture.denoise, self, sde)

    def flow(self, sde: SDE, x: Array, t: Time, s: Time, cond: Cond = None) -> Array:
        """x at time t carried to time s by the probability-flow ODE, [B, D] (Eq. 4), of a single Gaussian.

        Raises:
          ValueError: there are several components, whose flow has no closed form (see `flow_maps.along`), or s is no
            time.
        """
        x = _points(x, self.means)
        if s is None or isinstance(s, dict):
            raise ValueError("a flow map takes (x, t, s, cond): give other samplers `mixture.denoiser(sde)`")
        if len(self.means) != 1:
            raise ValueError(f"the flow is known in closed form for one Gaussian, not for {len(self.means)} components")
        _, z, _, basis, var_t = self._joint(x, *_levels(sde, t))
        var_s = self._joint(x, *_levels(sde, s))[-1]
        gain = safe_sqrt(var_s / jnp.where(var_t == 0, 1, var_t))
        return (bcast(sde.alpha(s), x) * self.means + jnp.einsum("kde,bke->bd", basis, gain * z)).astype(x.dtype)

    def flow_map(self, sde: SDE) -> FlowMap:
        """`flow` bound to an SDE: the FlowMap `(x, t, s, cond) -> x_s`."""
        return Partial(GaussianMixture.flow, self, sde)

    def posterior(self, A: Array, y: Array, noise_std: Time) -> "GaussianMixture":
        """The distribution of x_0 given y [M] = A x_0 + noise_std n, with A [M, D] (Eq. 3): a mixture again.

        Where A C A^T + noise_std^2 I is singular, as with rows that repeat and no noise, it is inverted on its range.

        Raises:
          ValueError: the shapes do not fit, or noise_std is negative.
        """
        A, y = jnp.asarray(A), jnp.asarray(y)
        D = jnp.shape(self.means)[-1]
        if A.ndim != 2 or A.shape[1] != D or y.shape != A.shape[:1]:
            raise ValueError(f"a posterior takes A [M, {D}] and y [M], got {A.shape} and {y.shape}")
        check_number("noise_std", noise_std, 0)
        C, m = jnp.asarray(self.covs), jnp.asarray(self.means)
        S = A @ C @ A.T + noise_std**2 * jnp.eye(len(A), dtype=C.dtype)
        root, log_det = _whiten(S)  # S^+ = root root^T
        K = C @ A.T @ root  # [K, D, M], the gain but for a last factor root^T
        residual = jnp.einsum("kmn,km->kn", root, y - m @ A.T)
        log_w = safe_log(jnp.asarray(self.weights)) - 0.5 * (residual**2).sum(-1) - 0.5 * log_det
        covs = C - K @ K.mT
        means = m + jnp.einsum("kdm,km->kd", K, residual)
        return GaussianMixture(jax.nn.softmax(log_w), means, (covs + covs.mT) / 2)

    def _joint(self, x: Array, alpha: Time, sigma: Time):
        """log w_k N(x; ...) [B, K], and in each component's eigenbasis: x - alpha m [B, K, D], its variance."""
        alpha, sigma = (jnp.asarray(c)[..., None, None] for c in (alpha, sigma))
        scales, basis = jnp.linalg.eigh(_wide(self.covs))  # [K, D], [K, D, D]
        scales = jnp.maximum(scales, 0)
        z = jnp.einsum("kde,bkd->bke", basis, x[:, None] - alpha * self.means)
        var = alpha**2 * scales + sigma**2
        # a direction without variance: the density is infinite on the component's subspace, 0 outside
        flat = (sigma**2 == 0) & (scales <= _rounding(scales) * scales.max(-1, keepdims=True))
        size = jnp.abs(x).max(-1)[:, None, None] + jnp.abs(alpha * self.means).max(-1)[..., None]
        outside = flat & (jnp.abs(z) > 4 * _rounding(scales) * size)
        safe = jnp.where(flat, 1, var)
        log_p = jnp.where(flat, 0, -0.5 * (z**2 / safe + jnp.log(2 * jnp.pi * safe))).sum(-1)
        log_p = jnp.where(outside.any(-1), -jnp.inf, jnp.where(flat.any(-1), jnp.inf, log_p))
        return safe_log(jnp.asarray(self.weights)) + log_p, z, scales, basis, var


def _whiten(S: Array) -> tuple[Array, Array]:
    """R with R R^T = S^+ and log det 2 pi S on the range of S, of symmetric matrices [K, M, M]."""
    scales, basis = jnp.linalg.eigh(S)
    kept = scales > _rounding(scales) * scales.max(-1, keepdims=True)
    safe = jnp.where(kept, scales, 1)
    return basis * jnp.where(kept, safe**-0.5, 0)[..., None, :], jnp.where(kept, jnp.log(2 * jnp.pi * safe), 0).sum(-1)


def _rounding(scales: Array) -> float:
    """The relative size below which an eigenvalue of [..., D] counts as 0."""
    return float(scales.shape[-1] * jnp.finfo(scales.dtype).eps)


def _wide(a: Array) -> Array:
    a = jnp.asarray(a)
    return a.astype(jnp.promote_types(a.dtype, jnp.float32))


def _array(name: str, value: Any) -> tuple[int, ...] | None:
    """The shape of a field; None for a placeholder of JAX's."""
    if isinstance(value, list | tuple | str) or value is None:
        raise TypeError(f"{name} must be an array of floats, got {type(value).__name__}: jnp.array(...) makes one")
    if not hasattr(value, "shape"):
        return None
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} must be an array of floats, got {value.dtype}")
    return value.shape


def _check_covariances(C: np.ndarray) -> None:
    check_number("covs", C)
    size = np.abs(C).max(initial=1e-30)
    if np.abs(C - np.swapaxes(C, -1, -2)).max(initial=0) > 1e-4 * size:
        raise ValueError(f"the covariances of a mixture must be symmetric, got {C}")
    least = np.linalg.eigvalsh(C).min(initial=0) if C.shape[-1] <= 64 else np.diagonal(C, 0, -2, -1).min(initial=0)
    if least < -1e-4 * size:
        raise ValueError(f"a covariance of the mixture has the negative eigenvalue {least:.3g}")


def _points(x: Any, like: Array) -> Array:
    """x as an array of floats [B, D], D as in `like`.

    Raises:
      TypeError: x is no array of floats.
      ValueError: it has another shape.
    """
    x, event = jnp.asarray(x), jnp.shape(like)[1:]
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x must be an array of floats, got {x.dtype}")
    if x.ndim != 1 + len(event) or x.shape[1:] != event:
        raise ValueError(f"expected x of shape [B, {', '.join(map(str, event))}], got {x.shape}")
    return x


def _levels(sde: SDE, t: Time) -> tuple[Array, Array]:
    """alpha and sigma at t.

    Raises:
      TypeError: `sde` is none: `denoise` itself stands where `denoiser(sde)` should.
    """
    if not (hasattr(sde, "alpha") and hasattr(sde, "sigma")):
        raise TypeError(
            f"expected an SDE, such as dj.VP(), as first argument, got {type(sde).__name__}: the function of "
            "(x, t, cond) is `denoiser(sde)`, that of (x, t, s, cond) `flow_map(sde)`"
        )
    return sde.alpha(t), sde.sigma(t)


def _without_noise(x: Array, alpha: Time, sigma: Time, x0: Array) -> Array:
    """x0 where there is noise, x/alpha where there is none; in the dtype of x."""
    alpha, still = bcast(alpha, x), bcast(jnp.square(sigma) == 0, x)
    return jnp.where(still, x / jnp.where(still, alpha, 1), x0).astype(x.dtype)


@pytree
class Empirical:
    """The uniform distribution on a data set [N, ...]; x is [B, ...]. Memory of a call: B times N, and the data once.

    Raises:
      TypeError: the data are no array of floats.
      ValueError: there are none.
    """

    data: Array

    def __post_init__(self):
        shape = _array("data", self.data)
        if shape is not None and (len(shape) < 2 or shape[0] < 1):
            raise ValueError(f"data must be [N, ...], one example or more, got shape {shape}")

    def sample(self, key: Key, n: int) -> Array:
        """n draws with replacement, [n, ...]."""
        index = jax.vmap(lambda k: jax.random.randint(k, (), 0, len(self.data)))(example_keys(key, n))
        return jnp.asarray(self.data)[index]

    def denoise(self, sde: SDE, x: Array, t: Time, cond: Cond = None) -> Array:
        """E[x_0 | x_t = x]: the data averaged with weights softmax(-|x - alpha data|^2 / 2 sigma^2); x/alpha at 0."""
        levels = _levels(sde, t)
        x = _points(x, self.data)
        data = _wide(self.data).reshape(len(self.data), -1)
        flat = _wide(x).reshape(len(x), -1)
        alpha, sigma = (bcast(c, flat) for c in levels)
        # |x - alpha d|^2 without the term that all data share
        square = alpha * (alpha * (data**2).sum(-1) - 2 * flat @ data.T)
        weights = jax.nn.softmax(-0.5 * square / jnp.where(sigma**2 == 0, 1, sigma**2), axis=-1)
        return _without_noise(x, *levels, (weights @ data).reshape(x.shape))

    def score(self, sde: SDE, x: Array, t: Time) -> Array:
        """grad log p_t(x), [B, ...]."""
        return gaussian.score_from_x0(sde, x, t, self.denoise(sde, x, t))

    def denoiser(self, sde: SDE) -> Denoiser:
        """`denoise` bound to an SDE: the Denoiser `(x, t, cond) -> x_0`."""
        return Partial(Empirical.denoise, self, sde)


@pytree
class Boxes:
    """The uniform distribution on boxes [K, D] of equal volume and without overlap; x is [B, D].

    Raises:
      TypeError: a field is no array of floats.
      ValueError: the shapes differ, a box has no volume or another than the first, or two overlap.
    """

    lows: Array
    highs: Array

    def __post_init__(self):
        low, high = (_array(name, getattr(self, name)) for name in ("lows", "highs"))
        if low is None or high is None:
            return
        if low != high or len(low) < 2 or 0 in low:
            raise ValueError(f"boxes have lows [K, D] and highs [K, D], got {low} and {high}")
        check_number("lows", self.lows)
        check_number("highs", self.highs)
        if known(self.lows) and known(self.highs):
            _check_boxes(np.asarray(self.lows, np.float64), np.asarray(self.highs, np.float64))

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
        x = _points(x, self.lows)
        inside = ((x[:, None] >= self.lows) & (x[:, None] < self.highs)).all(-1).any(-1)
        volume = jnp.prod(jnp.asarray(self.highs - self.lows)[0])
        return jnp.where(inside, -jnp.log(len(self.lows) * volume), -jnp.inf)

    def log_prob_at(self, sde: SDE, x: Array, t: Time) -> Array:
        """log p_t(x) in nats, [B] (Eq. 5); without noise that of the data, scaled by alpha."""
        (alpha, sigma), x = _levels(sde, t), _points(x, self.lows)
        noisy = logsumexp(self._smeared(x, alpha, sigma)[0].sum(-1), axis=-1) - jnp.log(len(self.lows))
        safe = jnp.where(sigma == 0, alpha, 1)
        return jnp.where(sigma == 0, self.log_prob(x / bcast(safe, x)) - x.shape[1] * jnp.log(safe), noisy)

    def denoise(self, sde: SDE, x: Array, t: Time, cond: Cond = None) -> Array:
        """E[x_0 | x_t = x], [B, D]; without noise x/alpha."""
        (alpha, sigma), x = _levels(sde, t), _points(x, self.lows)
        log_p, mean = self._smeared(x, alpha, sigma)
        weights = jax.nn.softmax(log_p.sum(-1), axis=-1)
        return _without_noise(x, alpha, sigma, jnp.einsum("bk,bkd->bd", weights, mean))

    def score(self, sde: SDE, x: Array, t: Time) -> Array:
        """grad log p_t(x), [B, D]; 0 where sigma = 0."""
        return gaussian.score_from_x0(sde, x, t, self.denoise(sde, x, t))

    def denoiser(self, sde: SDE) -> Denoiser:
        """`denoise` bound to an SDE: the Denoiser `(x, t, cond) -> x_0`."""
        return Partial(Boxes.denoise, self, sde)

    def _smeared(self, x: Array, alpha: Time, sigma: Time) -> tuple[Array, Array]:
        """log p(x_t) and E[x_0 | x_t] of each axis of each box alone, [B, K, D]."""
        low, high = _wide(self.lows), _wide(self.highs)
        alpha, sigma = (jnp.asarray(c)[..., None, None] for c in (alpha, sigma))
        sigma = jnp.where(sigma**2 == 0, 1, sigma)
        wide = alpha * (high - low) < 4 * sigma  # so much noise that all is smooth across a box
        smooth = _by_nodes(x[:, None], low, high, alpha, sigma)
        walled = _by_walls(x[:, None], low, high, jnp.where(wide, 1, alpha), jnp.where(wide, (high - low) / 4, sigma))
        return jnp.where(wide, smooth[0], walled[0]), jnp.where(wide, smooth[1], walled[1])


def _check_boxes(lows: np.ndarray, highs: np.ndarray) -> None:
    sides = highs - lows
    if not (sides > 0).all():
        raise ValueError(f"every box must be wider than 0 along every axis, got sides {sides}")
    log_volumes = np.log(sides).sum(-1)
    if np.ptp(log_volumes, axis=-1).max() > 1e-3:
        raise ValueError(f"boxes must have equal volumes, got {np.exp(log_volumes)}")
    shared = np.minimum(highs[..., :, None, :], highs[..., None, :, :]) - np.maximum(
        lows[..., :, None, :], lows[..., None, :, :]
    )
    overlap = (shared > 1e-4 * sides[..., None, :]).all(-1) & ~np.eye(lows.shape[-2], dtype=bool)
    if overlap.any():
        raise ValueError(f"boxes must not overlap, but boxes {np.argwhere(overlap)[0][-2:].tolist()} do")


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

"""Posterior samplers on a Gaussian prior: the code against each method's recursion, the method against the posterior.

    python experiments/posterior_recursion.py        # half a minute on two CPU cores

A prior in four dimensions, two noisy measurements. Every method's step is affine in x, x_s = F x_t + f + G z: the
distribution of its samples follows from a recursion of means and covariances, written here in NumPy, apart from the
library.

    sigmas   the largest deviation of the samples' mean and covariance from the recursion, in standard errors: the code
    mean     |m - m*| of the recursion against the true posterior N(m*, V*): the method's bias
    spread   tr V / tr V*

2026-11-27, sigmas at most 3.8; mean, spread: squared DPS 0.068, 0.696; reconstruction guidance 0.071, 0.748; PiGDM
0.029, 0.889 (exact covariance 0.000, 0.878); MPGD 0.040, 0.785; replacement 0.092, 0.800; DDNM 0.036, 0.586; DDRM
0.024, 0.668; DDNM+ 0.021, 0.664; DiffPIR 0.070, 0.966.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import diffjax as dj
from diffjax import corrections, guidance, operators, times
from diffjax.operators import Misfit
from diffjax.runs import experiment
from diffjax.typing import Denoiser, Sampler

SDE = dj.VP()


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 100
    """Steps of every sampler."""
    samples: int = 20_000
    """Chains of each."""
    seed: int = 0
    workdir: Path = Path("runs/posterior_recursion")


class Problem(NamedTuple):
    """A prior, and what was measured of one draw."""

    prior: dj.GaussianMixture
    A: np.ndarray  # [M, D]
    y: np.ndarray  # [M]
    noise_std: float

    def measurement(self, n: int) -> dj.Measurement:
        return dj.Measurement(operators.matrix(self.A), jnp.tile(jnp.asarray(self.y, float), (n, 1)), self.noise_std)


class Method(NamedTuple):
    """How a method is made of the library's parts, and its step in the recursion."""

    build: Callable[[dj.Measurement, Denoiser], tuple[Denoiser, Sampler]]
    step: Callable[..., tuple[np.ndarray, np.ndarray, Any]]  # F, f and G, where a number is that times I


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    p, ts, summary = problem(), times.uniform(SDE, config.steps), {}
    truth = p.prior.posterior(jnp.asarray(p.A), jnp.asarray(p.y), p.noise_std)
    print(f"{'':<26}{'sigmas':>8}{'mean':>8}{'spread':>8}")
    for name, method in METHODS.items():
        m, V = recursion(method, p, np.asarray(ts, np.float64))
        row = {
            "sigmas": deviation(draw(method, p, ts, config), m, V),
            "mean": float(np.linalg.norm(m - truth.means[0])),
            "spread": float(np.trace(V) / np.trace(truth.covs[0])),
        }
        print(f"{name:<26}" + "".join(f"{value:>8.3f}" for value in row.values()), flush=True)
        summary |= {f"{name}, {key}": value for key, value in row.items()}
    experiment.finish(config.workdir, summary)
    return summary


def problem() -> Problem:
    """A correlated prior in four dimensions, and two measurements of one draw of it."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4)) / 2
    means, covs = rng.normal(size=(1, 4)), (root @ root.T + 0.1 * np.eye(4))[None]
    prior = dj.GaussianMixture(jnp.ones(1), jnp.asarray(means), jnp.asarray(covs))
    A = rng.normal(size=(2, 4)) / 2
    x0 = np.asarray(prior.sample(jax.random.key(1), 1))[0]
    return Problem(prior, A, A @ x0 + 0.2 * rng.normal(size=2), 0.2)


def draw(method: Method, p: Problem, ts: Array, config: Config) -> np.ndarray:
    """Samples [n, D] of the library's code, from N(0, sigma_T^2 I)."""
    key, n = jax.random.key(config.seed), config.samples
    denoise, sampler = method.build(p.measurement(n), p.prior.denoiser(SDE))
    x = dj.prior_sample(jax.random.fold_in(key, 1), SDE, (n, p.A.shape[1]))
    return np.asarray(dj.sample(key, denoise, SDE, sampler, ts, x))


def deviation(x: np.ndarray, m: np.ndarray, V: np.ndarray) -> float:
    """The largest |estimate - truth| / standard error among the entries of mean and covariance of Gaussian samples."""
    variances = np.diag(V)
    mean = np.abs(x.mean(0) - m) / np.sqrt(variances / len(x))
    cov = np.abs(np.cov(x.T) - V) / np.sqrt((np.outer(variances, variances) + V**2) / len(x))
    return float(max(mean.max(), cov.max()))


# the recursion: x_s = F x_t + f + G z, from the formulas of the papers


class Step(NamedTuple):
    """What the formulas need between t and s; x_0(x) = K x + k is the exact denoiser."""

    at: float
    st: float
    As: float
    ss: float
    K: np.ndarray
    k: np.ndarray

    def eps(self) -> tuple[np.ndarray, np.ndarray]:
        return (np.eye(len(self.k)) - self.at * self.K) / self.st, -self.at * self.k / self.st

    def ddim(self, eta: float, K: Any = None, k: Any = None, eps: Any = None) -> tuple[np.ndarray, np.ndarray, float]:
        """F, f and the noise's standard deviation of DDIM with x_0 = K x + k and a noise estimate of its own."""
        K, k = (self.K, self.k) if K is None else (K, k)
        E, e = self.eps() if eps is None else eps
        v = eta**2 * self.ss**2 / self.st**2 * (self.st**2 - (self.at / self.As) ** 2 * self.ss**2)
        down = np.sqrt(max(self.ss**2 - v, 0))
        return self.As * K + down * E, self.As * k + down * e, np.sqrt(max(v, 0))


def misfit(s: Step, A: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y - A x_0 as an affine function of x."""
    return -A @ s.K, y - A @ s.k


def dps(s: Step, p: Problem, zeta: float):
    R, r = misfit(s, p.A, p.y)
    F, f, std = s.ddim(1.0)
    pull = 2 * zeta * s.K.T @ p.A.T
    return F + pull @ R, f + pull @ r, std


def guided(s: Step, p: Problem, cov: np.ndarray):
    """x_0 + sigma^2/alpha K^T A^T (A cov A^T + noise^2 I)^-1 (y - A x_0): `cov` is taken for that of x_0 given x."""
    R, r = misfit(s, p.A, p.y)
    pull = s.st**2 / s.at * s.K.T @ p.A.T @ np.linalg.inv(p.A @ cov @ p.A.T + p.noise_std**2 * np.eye(len(p.y)))
    K, k = s.K + pull @ R, s.k + pull @ r
    return s.ddim(1.0, K, k, ((np.eye(len(k)) - s.at * K) / s.st, -s.at * k / s.st))


def replacement(s: Step, p: Problem):
    """Ancestral sampling on the null space of A; elsewhere alpha_s A+ y with noise (A+ y at the end: alpha ~ 1)."""
    F, f, std = s.ddim(1.0)
    inverse = np.linalg.pinv(p.A)
    seen = inverse @ p.A
    free = np.eye(len(f)) - seen
    return free @ F, free @ f + s.As * inverse @ p.y, std * free + s.ss * seen


def mpgd(s: Step, p: Problem, c: float, eta: float):
    R, r = misfit(s, p.A, p.y)
    return s.ddim(eta, s.K + 2 * c * p.A.T @ R, s.k + 2 * c * p.A.T @ r)


def renoised(s: Step, eta: float, K, k, E, e):
    return s.As * K + s.ss * np.sqrt(1 - eta**2) * E, s.As * k + s.ss * np.sqrt(1 - eta**2) * e, eta * s.ss


def ddnm(s: Step, p: Problem, eta: float):
    R, r = misfit(s, p.A, p.y)
    inverse = np.linalg.pinv(p.A)
    return renoised(s, eta, s.K + inverse @ R, s.k + inverse @ r, *s.eps())


def diffpir(s: Step, p: Problem, lam: float, eta: float):
    weight = lam * p.noise_std**2 * s.at**2 / s.st**2  # argmin |y - A x|^2 + weight |x - x_0|^2
    H = np.linalg.inv(p.A.T @ p.A + weight * np.eye(len(s.k)))
    K, k = H @ (weight * s.K), H @ (p.A.T @ p.y + weight * s.k)
    return renoised(s, eta, K, k, (np.eye(len(k)) - s.at * K) / s.st, -s.at * k / s.st)


def ddrm(s: Step, p: Problem, eta: float, eta_b: float):
    U, S, Vt = np.linalg.svd(p.A)
    kappa, D = s.ss / s.As, len(s.k)
    S = np.append(S, np.zeros(D - len(S)))
    u = np.append(U.T @ p.y, np.zeros(D - len(p.y)))
    (E, e), F, f, std = s.eps(), np.zeros((D, D)), np.zeros(D), np.zeros(D)
    for i in range(D):
        z = Vt[i] @ s.K, Vt[i] @ s.k
        if S[i] == 0:
            other = (Vt[i] @ E, Vt[i] @ e)
            share = np.sqrt(1 - eta**2) * kappa
            std[i] = eta * kappa
        elif S[i] * kappa < p.noise_std:
            other, std[i] = (-S[i] * z[0], u[i] - S[i] * z[1]), eta * kappa
            share = np.sqrt(1 - eta**2) * kappa / p.noise_std
        else:
            other, share = (-z[0], u[i] / S[i] - z[1]), eta_b
            std[i] = np.sqrt(kappa**2 - (eta_b * p.noise_std / S[i]) ** 2)
        F[i], f[i] = z[0] + share * other[0], z[1] + share * other[1]
    return s.As * Vt.T @ F, s.As * Vt.T @ f, s.As * Vt.T @ np.diag(std)


METHODS: dict[str, Method] = {
    "DPS, squared": Method(lambda m, d: (d, dj.DPS(dj.Ancestral(), Misfit(m, True), 0.3)), lambda s, p: dps(s, p, 0.3)),
    "reconstruction guidance": Method(
        lambda m, d: (guidance.reconstruction(d, SDE, Misfit(m, True), 0.5 / m.noise_std**2), dj.DDIM(1.0)),
        lambda s, p: guided(s, p, 0 * s.K),
    ),
    "PiGDM": Method(
        lambda m, d: (guidance.pigdm(d, SDE, m), dj.DDIM(1.0)),
        lambda s, p: guided(s, p, s.st**2 / (s.at**2 + s.st**2) * np.eye(len(s.k))),
    ),
    "PiGDM, exact covariance": Method(
        lambda m, d: (guidance.pigdm_exact(d, SDE, m), dj.DDIM(1.0)), lambda s, p: guided(s, p, s.st**2 / s.at * s.K)
    ),
    "MPGD, squared": Method(
        lambda m, d: (d, dj.KeepEps(dj.DDIM(0.5), corrections.Gradient(Misfit(m, True), 0.3))),
        lambda s, p: mpgd(s, p, 0.3, 0.5),
    ),
    "replacement": Method(lambda m, d: (d, dj.Known(dj.Ancestral(), m)), replacement),
    "DDNM": Method(lambda m, d: (d, dj.ddnm(m)), lambda s, p: ddnm(s, p, 0.85)),
    "DDRM": Method(lambda m, d: (d, dj.DDRM(m, eta_b=0.9)), lambda s, p: ddrm(s, p, 0.85, 0.9)),
    "DDNM+": Method(lambda m, d: (d, dj.DDRM(m)), lambda s, p: ddrm(s, p, 0.85, 1.0)),
    "DiffPIR": Method(
        lambda m, d: (guidance.corrected(d, corrections.Proximal(m, SDE, 1.0)), dj.Renoise(0.5)),
        lambda s, p: diffpir(s, p, 1.0, 0.5),
    ),
}


def recursion(method: Method, p: Problem, ts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D] of a method's samples, the last step without its noise."""
    mean, cov = np.asarray(p.prior.means[0], float), np.asarray(p.prior.covs[0], float)
    D = len(mean)
    alpha, sigma = (np.asarray(jax.vmap(c)(jnp.asarray(ts)), float) for c in (SDE.alpha, SDE.sigma))
    m, V = np.zeros(D), sigma[0] ** 2 * np.eye(D)
    for i in range(len(ts) - 1):
        K = alpha[i] * cov @ np.linalg.inv(alpha[i] ** 2 * cov + sigma[i] ** 2 * np.eye(D))
        F, f, G = method.step(Step(alpha[i], sigma[i], alpha[i + 1], sigma[i + 1], K, mean - alpha[i] * K @ mean), p)
        G = np.dot(G, np.eye(D))
        m, V = F @ m + f, F @ V @ F.T + (0 if i == len(ts) - 2 else G @ G.T)
    return m, V


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

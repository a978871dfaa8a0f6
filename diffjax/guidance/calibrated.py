"""A denoiser recalibrated on data: the best linear use of x_t and of its estimate at every frequency.

A denoiser that was trained for few noise levels, as a distilled one is, leaves noise in at the others. With X, D and Z
the coefficients of x_t/alpha, its estimate and x_0 in the cosine basis (the orthonormal DCT-II of height and width),
less their means over the data, the estimate

    Z = a X + c D,   a and c of the time and of the band of frequencies                            (1)

is fitted by least squares, per noise level and band, on images with noise of our own:

    (a, c) = argmin sum |Z - a X - c D|^2 + ridge (a^2 sum |X|^2 + c^2 sum |D|^2)                  (2)

With c = 0 it is the Wiener filter of the data, with a = 0 and c = 1 the denoiser itself: its error on the data is no
larger than the smaller of theirs, but for the ridge. Between two levels a and c are linear in log(sigma/alpha).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import bcast, example_keys, fold, normal
from diffjax.checks import check_count, check_key, check_number, check_pictures
from diffjax.conditions import as_cond, check_cond, check_values, map_examples
from diffjax.precondition import check_process, check_sde
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Key, Time, as_partial, pytree


@pytree
class Calibrated:
    """`calibrate`: eq. (1).

    Attributes:
      levels: log(sigma/alpha), rising [J].
      gains: (a, c) [J, K, 2] of each level and band of frequencies.
      mean, means: of the data, [C]; and of the denoiser's estimates at each level, [J, C].
    """

    denoise: Denoiser
    sde: SDE
    levels: Array
    gains: Array
    mean: Array
    means: Array

    def __call__(self, x: Array, t: Time, cond: Cond = None) -> Array:
        a, c, mean = self._at(jnp.broadcast_to(jnp.asarray(t, jnp.float32), x.shape[:1]), x)
        alpha, _ = gaussian.curves(self.sde, t, x)
        X = cosine(x / alpha - self.mean)
        D = cosine(self.denoise(x, t, cond) - mean)
        return (cosine(a * X + c * D, inverse=True) + self.mean).astype(x.dtype)

    def _at(self, t: Array, x: Array) -> tuple[Array, Array, Array]:
        """a and c [B, H, W, 1], and the mean of D [B, 1, 1, C], at times t [B]."""
        level = -gaussian.logsnr(self.sde, t) / 2
        i = jnp.clip(jnp.searchsorted(self.levels, level) - 1, 0, len(self.levels) - 2)
        w = jnp.clip((level - self.levels[i]) / (self.levels[i + 1] - self.levels[i]), 0, 1)

        def between(v: Array) -> Array:  # [J, ...] -> [B, ...]
            to = bcast(w, v[i])
            return (1 - to) * v[i] + to * v[i + 1]

        gains = between(self.gains)[:, bands(x.shape[1], x.shape[2], self.gains.shape[1])]
        return gains[..., :1], gains[..., 1:], between(self.means)[:, None, None]


def calibrate(
    key: Key,
    denoise: Denoiser,
    sde: SDE,
    x_0: Array,
    ts: Array,
    cond: Cond = None,
    *,
    batch_size: int | None = None,
    ridge: float = 1e-3,
) -> Calibrated:
    """The denoiser of eq. (1), fitted on images x_0 [B, H, W, C]; it costs one evaluation per image and time.

    Two dozen images are enough. Below the first and above the last of the levels the gains are those of that one.

    Args:
      key: of the noise; one key, or one for each image [B].
      x_0: data; or samples of a generator.
      ts: two times or more, above 0, none twice; `jnp.geomspace(0.002, 80, 16)` for `EDM`.
      cond: the images' condition.
      batch_size: how many images at a time; all by default.
      ridge: of eq. (2); the share by which gains are too small where only one of the two counts.

    Raises:
      ValueError: x_0 are no images, the times are too few, repeated or not above 0, or as `dj.sample`.
    """
    check_key(key)
    check_sde(sde)
    check_process(denoise, sde)
    check_pictures(x_0, "x_0")
    check_number("ridge", ridge, 0, above=True)
    times = np.unique(np.asarray(ts, np.float32))
    if np.ndim(ts) != 1 or len(times) < 2 or len(times) != len(np.ravel(ts)):
        raise ValueError(f"ts must be two different times or more, [J], got {ts}")
    check_number("a time of ts", times, 0, float(sde.T), above=True)
    x_0, cond = jnp.asarray(x_0), as_cond(cond)
    check_cond(cond, len(x_0))
    size = len(x_0) if batch_size is None else batch_size
    check_count("batch_size", size)
    check_values(denoise, x_0, times[0], cond)
    keys, denoise, mean = example_keys(key, len(x_0)), as_partial(denoise), x_0.mean((0, 1, 2))
    found = []
    for j, t in enumerate(times):
        parts = [slice(i, i + size) for i in range(0, len(x_0), size)]
        pairs = [
            _pair(fold(keys[part], j), denoise, sde, x_0[part], t, map_examples(lambda c, s=part: c[s], cond))
            for part in parts
        ]
        X, D = (jnp.concatenate(values) for values in zip(*pairs, strict=True))
        found.append(_fit(X, D, x_0, ridge))
    gains, means = (jnp.stack(values) for values in zip(*found, strict=True))
    return Calibrated(denoise, sde, -gaussian.logsnr(sde, jnp.asarray(times)) / 2, gains, mean, means)


@jax.jit
def _pair(keys, denoise, sde, x_0, t, cond):
    """x_t / alpha and the denoiser's estimate, for noise of these keys."""
    x = gaussian.perturb(sde, x_0, t, normal(keys, x_0))
    return x / gaussian.curves(sde, t, x)[0], denoise(x, t, cond)


@jax.jit
def _fit(X: Array, D: Array, x_0: Array, ridge: Array) -> tuple[Array, Array]:
    """Eq. (2) -> (a, c) [K, 2], and the mean of D [C]."""
    means = D.mean((0, 1, 2))
    where = bands(x_0.shape[1], x_0.shape[2])
    Z = cosine(x_0 - x_0.mean((0, 1, 2)))
    U = jnp.stack([cosine(X - x_0.mean((0, 1, 2))), cosine(D - means)])
    total = partial(jax.ops.segment_sum, segment_ids=where.ravel(), num_segments=int(where.max()) + 1)
    flat = lambda v: v.sum((0, 3)).ravel()  # over the images and channels, [H W]  # noqa: E731
    A = jnp.stack([jnp.stack([total(flat(u * v)) for v in U], -1) for u in U], -1)  # [K, 2, 2]
    b = jnp.stack([total(flat(u * Z)) for u in U], -1)
    A += jnp.where(jnp.eye(2) * A > 0, ridge * A, jnp.eye(2) * (A == 0))  # what is always 0 gets the gain 0
    return jnp.linalg.solve(A, b[..., None])[..., 0], means


def cosine(x: Array, inverse: bool = False) -> Array:
    """The orthonormal DCT-II of height and width of x [B, H, W, C], or its inverse."""
    rows, columns = (_basis(n).T if inverse else _basis(n) for n in x.shape[1:3])
    return jnp.einsum("ki,lj,bijc->bklc", rows, columns, x)


def bands(H: int, W: int, count: int | None = None) -> np.ndarray:
    """The band of every frequency (i, j), [H, W]: 0 is the mean; then two bands an octave of hypot(i/H, j/W).

    Raises:
      ValueError: another number of bands than `count`: gains were fitted at another size.
    """
    f = max(H, W) * np.hypot(np.arange(H)[:, None] / H, np.arange(W) / W)
    found = np.where(f == 0, 0, 1 + np.floor(2 * np.log2(np.maximum(f, 1)) + 1e-9)).astype(int)
    found = np.unique(found, return_inverse=True)[1].reshape(H, W)  # some are empty
    if count is not None and found.max() + 1 != count:
        raise ValueError(f"images of {H} x {W} have {found.max() + 1} bands, but the gains were fitted for {count}")
    return found


def _basis(n: int) -> np.ndarray:
    k, i = np.mgrid[:n, :n]
    basis = np.sqrt(2 / n) * np.cos(np.pi * k * (2 * i + 1) / (2 * n))
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)

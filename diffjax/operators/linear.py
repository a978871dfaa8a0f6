"""What all linear operators share: A = U S V^T, by which the adjoint and the pseudo-inverse follow.

A linear operator is a pytree that maps images x [B, ...] to measurements y [B, ...] when called, and has its singular
value decomposition as four changes of basis, none of which is ever stored as a matrix of the image's size:

    Vt(x) = V^T x and V(z):   image <-> spectrum [B, K...], orthonormal (unitary where the spectrum is complex)
    Ut(y) = U^T y and U(w):   measurement <-> spectrum, 0 in the entries beyond the measurement's
    s:                        the singular values, broadcasting against the spectrum, 0 on the null space

    (1) A^T y = V S U^T y,   A^+ y = V S^+ U^T y,   A^+ A the projection on what the operator sees

Any other callable is an operator too, for the methods that only differentiate through it.

Where s = 0 nothing is measured, and S^+ is 0 there. A singular value that rounding left of a 0 must count as one, or
(1) divides noise by it: the functions that decompose a matrix set to 0 what is below eps x size x largest, as
`numpy.linalg.matrix_rank` does, with eps that of the floats in which the operator works.
"""

from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_has, check_number


class Linear(Protocol):
    """A linear operator with its singular value decomposition."""

    @property
    def s(self) -> Any: ...

    def __call__(self, x: Array) -> Array: ...

    def Vt(self, x: Array) -> Array: ...

    def V(self, z: Array) -> Array: ...

    def Ut(self, y: Array) -> Array: ...

    def U(self, w: Array) -> Array: ...


def adjoint(A: Linear, y: Array) -> Array:
    """A^T y, shaped like an image (Eq. 1)."""
    return A.V(A.s * A.Ut(y))


def pinv(A: Linear, y: Array) -> Array:
    """A^+ y, shaped like an image: the least x with the least |A x - y| (Eq. 1)."""
    return A.V(divide(A.Ut(y), A.s))


def divide(w: Array, s: Array) -> Array:
    """w / s, and 0 where s = 0, with a gradient of 0 there."""
    s = jnp.asarray(s)
    return jnp.where(s > 0, w / jnp.where(s > 0, s, 1), 0)


def images(x: Any) -> Array:
    """x as floats, in float32 or more, in which operators work: bfloat16 has no Fourier transform, say.

    Raises:
      TypeError: x holds integers (uint8 levels, say) or no numbers.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"operators take floats, images in [-1, 1], got {x.dtype}: diffjax.data.to_float makes them")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def decompose(A: Any, least: float | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(A, U [M, M], s [D], V [D, D]) of a matrix A [M, D], M <= D, in float64; s is padded with zeros.

    Singular values below `least` times the largest count as 0 (default eps x D, eps of the default float), and A is
    rebuilt without them.

    Raises:
      ValueError: the matrix has another shape or holds NaN, or `least` is not in [0, 1].
    """
    A = np.asarray(A, np.float64)
    if A.ndim != 2 or not 0 < A.shape[0] <= A.shape[1]:
        raise ValueError(f"expected a matrix [M, D] with 1 <= M <= D, got shape {A.shape}")
    if not np.isfinite(A).all():
        raise ValueError(f"{int((~np.isfinite(A)).sum())} of {A.size} entries of the matrix are NaN or infinite")
    U, s, Vt = np.linalg.svd(A)
    s = np.where(s < threshold(s, A.shape[1], least), 0, s)
    return (U * s) @ Vt[: len(s)], U, np.concatenate([s, np.zeros(A.shape[1] - len(s))]), Vt.T


def threshold(s: np.ndarray, size: int, least: float | None = None) -> float:
    """The value below which singular values s count as 0: `least` times the largest, or eps x size x largest."""
    if least is None:
        least = size * float(jnp.finfo(jnp.zeros((), float).dtype).eps)
    check_number("least", least, 0, 1, why="it is a fraction of the largest singular value")
    return least * np.max(s)


def sides(shape: Any) -> tuple[int, int]:
    """(H, W) of an image's shape (H, W) or (H, W, C).

    Raises:
      ValueError: it is not two or three positive integers.
    """
    dims: tuple[Any, ...] = tuple(shape) if isinstance(shape, tuple | list) else ()
    if len(dims) not in (2, 3) or not all(isinstance(n, int | np.integer) and n > 0 for n in dims):
        raise ValueError(f"the shape of an image is (H, W, C) or (H, W), without the batch, got {shape}")
    return int(dims[0]), int(dims[1])


def require_linear(measurement: Any, method: str) -> None:
    """Raise a TypeError unless `measurement` is one, by an operator with a singular value decomposition."""
    check_has(measurement, f"{method} to get a measurement, Measurement(operator, y, noise_std),", "operator", "y")
    require_svd(measurement.operator, method)


def require_svd(A: Any, method: str) -> None:
    """Raise a TypeError unless the operator has a singular value decomposition."""
    missing = [name for name in ("s", "V", "Vt", "U", "Ut") if not hasattr(A, name)]
    if missing:
        raise TypeError(
            f"{method} needs a linear operator with its singular value decomposition, and {type(A).__name__} lacks "
            f"{', '.join(missing)}: take one of `diffjax.operators`, or DPS or MPGD, which only differentiate"
        )

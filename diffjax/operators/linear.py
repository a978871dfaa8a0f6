"""What all linear operators share: A = U S V^T, by which the adjoint and the pseudo-inverse follow.

A linear operator is a pytree that maps images x [B, ...] to measurements y [B, ...] when called, and knows its singular
value decomposition as four changes of basis, none of which is ever stored as a matrix of the image's size:

    Vt(x) = V^T x and V(z):   image <-> spectrum [B, K...], orthonormal (unitary where the spectrum is complex)
    Ut(y) = U^T y and U(w):   measurement <-> spectrum, 0 in the entries beyond the measurement's
    s:                        the singular values, broadcasting against the spectrum, 0 on the null space

    (1) A^T y = V S U^T y,   A^+ y = V S^+ U^T y,   A^+ A the projection on what the operator sees

Any other callable is an operator too, for the methods that only differentiate through it.
"""

from typing import Any, Protocol

import jax.numpy as jnp
from jax import Array


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
    """w / s, 0 where s = 0."""
    return jnp.where(s > 0, w / jnp.where(s > 0, s, 1), 0)


def require_svd(A: Any, method: str) -> None:
    """Raise a TypeError unless the operator has a singular value decomposition."""
    missing = [name for name in ("s", "V", "Vt", "U", "Ut") if not hasattr(A, name)]
    if missing:
        raise TypeError(
            f"{method} needs a linear operator with its singular value decomposition, and {type(A).__name__} lacks "
            f"{', '.join(missing)}: take one of `diffjax.operators`, or DPS or MPGD, which only differentiate"
        )

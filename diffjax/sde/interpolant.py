"""Any two curves as a process: the one-sided stochastic interpolant (Albergo, Boffi & Vanden-Eijnden 2023).

    x_t = alpha(t) x_0 + sigma(t) eps,   t in [0, 1], data at t = 0

Their z is our eps; papers that put the data at t = 1 are read with t -> 1 - t. The linear path is `Flow`, the
trigonometric one (GVP in SiT, Ma et al. 2024) is `Cosine`.

Either curve may rise and fall, but sigma/alpha must grow from data to noise, so that g^2 >= 0 in (1) of `gaussian` and
every noise level has one time. Grids and time distributions are inverted through it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import as_time
from diffjax.checks import check_interval
from diffjax.typing import Time, pytree, static

SLACK = 1e-6  # rounding of float32 curves


@pytree
class Interpolant:
    """The process of two curves, functions of t in [0, 1] made of jax.numpy; a fresh lambda compiles anew.

    What rounding leaves below 0, such as cos(pi/2) in float32, counts as 0.

    Raises:
      ValueError: a curve is negative or no number somewhere, both are 0 at once, or sigma/alpha falls.
    """

    alpha_fn: Callable[[Array], Array] = static()
    sigma_fn: Callable[[Array], Array] = static()
    T: float = 1.0
    t_min: float = 0.0

    def __post_init__(self):
        check_interval(self.T, self.t_min, 1, why="the curves are functions on [0, 1]")
        for name in ("alpha_fn", "sigma_fn"):
            if not callable(getattr(self, name)):
                raise TypeError(f"{name} must be a function of t, got {getattr(self, name)!r}")
        self._check_traceable()
        with jax.ensure_compile_time_eval():
            t = jnp.linspace(0, 1, 129)
            a, s = (np.asarray(fn(t), np.float64) + 0 * np.asarray(t) for fn in (self.alpha_fn, self.sigma_fn))
        for name, curve in (("alpha", a), ("sigma", s)):
            bad = np.flatnonzero(~(curve >= -SLACK))
            if len(bad):
                raise ValueError(f"{name} must be at least 0 on [0, 1], but it is {curve[bad[0]]} at t = {t[bad[0]]}")
        if np.any(a + s <= SLACK):
            raise ValueError(f"alpha and sigma are both 0 at t = {t[np.argmin(a + s)]}: nothing is left of x there")
        turn = s[1:] * a[:-1] - s[:-1] * a[1:]  # sigma/alpha grows, without the division
        if np.any(turn < -SLACK * (a[1:] ** 2 + s[1:] ** 2)):
            raise ValueError(
                f"sigma/alpha must grow with t, but it falls at t = {t[np.argmin(turn)]}: data are at t = 0, noise at "
                "t = 1; read a paper's curves with t -> 1 - t if it has them the other way"
            )

    def _check_traceable(self) -> None:
        for name in ("alpha_fn", "sigma_fn"):
            try:
                shape = jax.eval_shape(lambda t, fn=getattr(self, name): fn(t), jax.ShapeDtypeStruct((3,), jnp.float32))
                shape = jnp.shape(shape)
            except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
                raise TypeError(f"{name} must be made of jax.numpy: NumPy's functions cannot be compiled") from None
            if shape not in ((), (3,)):
                raise ValueError(f"{name} must return one number for each t, but maps t of shape (3,) to {shape}")

    def alpha(self, t: Time) -> Array:
        return _not_below_zero(self.alpha_fn, t)

    def sigma(self, t: Time) -> Array:
        return _not_below_zero(self.sigma_fn, t)


def _not_below_zero(fn: Callable[[Array], Array], t: Time) -> Array:
    t = as_time(t)
    curve = jnp.broadcast_to(fn(t), t.shape)
    return curve - jax.lax.stop_gradient(jnp.minimum(curve, 0))  # the slope stays the curve's own

"""Continuous-time consistency models with TrigFlow (Lu & Song 2025, sCM): the pair of times has become a derivative.

On the unit circle, alpha = cos phi and sigma = sin phi, and with dx/dphi = v = alpha eps - sigma x_0,

    (1) f(x, t) = cos phi x - sin phi F(x, t)
    (2) df/dphi = -cos phi (F - v) - sin phi (x + dF/dphi),   along (v, dt/dphi), by one jvp
    (3) g = cos phi df/dphi;   g <- g / (|g| + c),  c = 0.1                                    tangent normalisation
    (4) w(t) |F - sg(F + g)|^2

The gradient of (4) is that of the discrete loss with the same f as s -> t, but for the factor that (3) sets: f moves
against its own slope along the trajectory. v is the teacher's (sCD), or the pair's alpha eps - sigma x_0 (sCT), whose
mean given x is the former. Terms of (2) that grow with dF/dphi, the second ones, are multiplied by min(1, k/warmup).

f is `precondition.from_v` with the same network: the paper's F for data of standard deviation sigma_d = 1, to which
images are to be scaled. (1) needs alpha^2 + sigma^2 = 1 only: `Cosine` is the paper's process, its time 2 phi/pi.
The paper draws t by log(sigma_d tan phi) ~ N(-1, 1.4^2) with sigma_d = 1/2: here `times.LogNormal(sde, -0.307, 1.4)`,
-1 + log 2. It learns w(t) (`LearnedWeight`) and conditions its network on phi itself: give this loss and `from_v` a
slow c_noise, `precondition.scaled_by(20.0)` say, as g holds its slope.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.arrays import bcast, flat_mean, flat_sum, like, safe_sqrt
from diffjax.checks import check_number
from diffjax.conditions import cond_keys
from diffjax.losses import weightings
from diffjax.losses.draws import bound, read, time, weighted
from diffjax.losses.networks import check_functions
from diffjax.precondition import CNoise, check_process, scaled_time
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Context, Denoiser, Key, PyTree, pytree, static


@pytree
class ContinuousConsistency:
    """`loss(params, key, batch) -> ([B], {"t": [B], "tangent": [B]})`, Eq. 4; "tangent" is |g| before normalisation.

    Sampling is `Renoise(1.0)` on `from_v(sde, network, c_noise)`. A batch is as in `DSM`.

    Raises:
      ValueError: the process is not variance-preserving, the teacher was made for another one, or there is a warm-up
        and the context has no training step.
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n]
    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    teacher: Denoiser | None = None  # None: consistency training
    c_noise: CNoise = scaled_time
    weight: Callable = static(default=weightings.x0)  # (sde, t) -> w [B]; this default is 1
    c: Any = 0.1  # of Eq. 3; None: the tangent as it is
    warmup: Any = None  # training steps (the paper's: 10,000); None: no warm-up
    train: bool = static(default=True)

    def __post_init__(self):
        _check_circle(self.sde)
        check_distribution(self.time_distribution, self.sde)
        check_functions(
            self, network="(params, x, c_noise, cond) -> F", c_noise="(sde, t) -> c_noise", weight="(sde, t) -> [B]"
        )
        if self.teacher is not None:
            check_process(self.teacher, self.sde)
        if self.c is not None:
            check_number("c", self.c, 0)
        if self.warmup is not None:
            check_number("warmup", self.warmup, 0, above=True, why="without a warm-up it is None")

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = read(key, batch, cond_keys(self.network), context)
        t, importance = time(self.time_distribution, self.sde, draw)
        x = gaussian.perturb(self.sde, draw.x0, t, draw.eps)
        if self.teacher is None:
            alpha, sigma = gaussian.curves(self.sde, t, x)
            v = alpha * draw.eps - sigma * draw.x0
        else:
            check_process(self.teacher, self.sde)
            v = gaussian.v_from_x0(self.sde, x, t, self.teacher(x, t, draw.cond))

        def F(params: Any, x: Array, t: Array) -> Array:
            return like(x, bound(self, params, draw)(x, self.c_noise(self.sde, t), draw.cond))

        frozen = jax.lax.stop_gradient(params)
        still, g = self._tangent(lambda x, t: F(frozen, x, t), x, t, v, context.step)
        norm = safe_sqrt(flat_sum(g * g))
        if self.c is not None:
            size = norm + self.c
            g = g / bcast(jnp.where(size > 0, size, 1), g)
        error = F(params, x, t) - jax.lax.stop_gradient(still + g)
        return importance * weighted(self.weight, self.sde, t) * flat_mean(error**2), {"t": t, "tangent": norm}

    def _tangent(self, F: Callable, x: Array, t: Array, v: Array, step: Array | None) -> tuple[Array, Array]:
        """F and g of Eq. 3, not normalised; cos sin goes into the jvp, as sin alone would meet a large dF/dphi."""
        (alpha, sigma), (d_alpha, d_sigma) = gaussian.rates(self.sde, t)
        cos, both = bcast(alpha, x), bcast(alpha * sigma, x)
        dt = alpha * sigma / (alpha * d_sigma - sigma * d_alpha)
        still, slope = jax.jvp(F, (x, t), ((both * v).astype(x.dtype), dt.astype(t.dtype)))
        return still, -(cos**2) * (still - v) - self._warm(step) * (both * x + slope)

    def _warm(self, step: Array | None) -> Any:
        if self.warmup is None:
            return 1.0
        if step is None:
            raise ValueError("the warm-up of the tangent needs the training step: see `typing.Context`")
        return jnp.minimum(step / self.warmup, 1.0)


def _check_circle(sde: SDE) -> None:
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(sde)):
        return
    with jax.ensure_compile_time_eval():
        norm = float(np.hypot(sde.alpha(0.5 * sde.T), sde.sigma(0.5 * sde.T)))
    if abs(norm - 1) > 1e-3:
        raise ValueError(f"TrigFlow needs a process with alpha^2 + sigma^2 = 1, such as Cosine() or VP(); got {sde}")

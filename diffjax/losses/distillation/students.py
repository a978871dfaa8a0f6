"""Students of adversarial training: how a draw of data and noise becomes a sample, and what that is compared with.

    (1) f(x_s, s),  x_s = alpha_s x_0 + sigma_s eps                          against x_0
    (2) x_s ~ q(x_s | x_t, G(x_t, z, t)),  z ~ N(0, I)                       against the pair's own x_s
        x_s ~ q(x_s | x_0),  x_t ~ q(x_t | x_s),  t and s neighbours on a grid

(1) is the student of ADD, DMD2 and CTM: a consistency function, evaluated at the times at which it will be sampled;
`times.Fixed(sde.T)` makes it a one-step generator, up to alpha_T x_0. (2) is that of denoising diffusion GANs (Xiao et
al. 2022): the step from t to s is large, so that x_0 given x_t is no single point, and the latent z chooses among them.
Real and generated pair share x_t. q(x_s | x_t, x_0) is Eq. 6 of `sde.gaussian`, and sampling is `Ancestral()` on G.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.arrays import bcast, example_keys, fold, normal
from diffjax.checks import check_count
from diffjax.losses.draws import Draw, bound, times
from diffjax.losses.networks import check_functions
from diffjax.precondition import CNoise, scaled_time
from diffjax.sde import gaussian
from diffjax.times.distributions import OneOf, check_distribution
from diffjax.times.grids import falling
from diffjax.typing import SDE, PyTree, pytree, static


@pytree
class Student:
    """Eq. 1; `student(params, draw) -> x [B, ...]`, `student.real(draw)` is x_0.

    With `simulate`, x_s is no data but what the student's own sampler (`Renoise(1.0)`) has at s, having come from noise
    by the times of `OneOf(ts)`, which fall: DMD2's backward simulation (Yin et al. 2024, Section 4.5), at the cost of a
    forward pass for each time but the first.

    Raises:
      ValueError: to be simulated, the time distribution is no `OneOf`, or its times do not fall or are not in (0, T].
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> s [n], see `times`
    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    precondition: Callable = static()  # (sde, network) -> f, as in `Consistency`
    simulate: bool = static(default=False)
    train: bool = static(default=True)

    def __post_init__(self):
        check_distribution(self.time_distribution, self.sde)
        check_functions(self, network="(params, x, c_noise, cond) -> F", precondition="(sde, network) -> f")
        if not self.simulate:
            return
        if not isinstance(self.time_distribution, OneOf):
            raise ValueError(f"a simulated student needs its sampler's times `OneOf(ts)`, got {self.time_distribution}")
        ts = self.time_distribution.ts
        falling(ts if isinstance(ts, Tracer) else np.append(ts, 0.0), self.sde)

    def __call__(self, params: PyTree, draw: Draw) -> Array:
        s = times(self.time_distribution, self.sde, draw, 1)
        f = self.precondition(self.sde, bound(self, params, draw))
        return f(self._start(f, draw, s), s, draw.cond)

    def real(self, draw: Draw) -> Array:
        return draw.x0

    def _start(self, f: Callable, draw: Draw, s: Array) -> Array:
        """x_s, without a gradient."""
        if not self.simulate:
            return gaussian.perturb(self.sde, draw.x0, s, draw.eps)
        ts = self.time_distribution.ts
        x = self.sde.sigma(ts[0]) * draw.eps
        for i in range(1, len(ts)):
            x0 = f(x, jnp.full(len(x), ts[i - 1]), draw.cond)
            further = gaussian.perturb(self.sde, x0, ts[i], normal(fold(draw.k_time, i), x))
            x = jnp.where(bcast(s <= ts[i], x), further, x)
        return jax.lax.stop_gradient(x)


@pytree
class PairStudent:
    """Eq. 2; `student(params, draw)` and `student.real(draw)` -> (x_s [B, ...], (x_t [B, ...], c_noise(t) [B])).

    The network finds z [B, latent] in cond["latent"], where `latent` is not 0.

    Raises:
      ValueError: the grid does not fall or leaves the process's times, or there is a latent and the condition is no
        dict.
    """

    sde: SDE
    ts: Array  # [N + 1] the grid of the sampler, falling
    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    precondition: Callable = static()  # (sde, network) -> G, `precondition.from_x0`
    latent: int = static(default=0)
    c_noise: CNoise = scaled_time  # the discriminator's noise level at t
    train: bool = static(default=True)

    def __post_init__(self):
        falling(self.ts, self.sde)
        check_count("latent", self.latent, 0)
        check_functions(self, network="(params, x, c_noise, cond) -> F", precondition="(sde, network) -> G")

    def __call__(self, params: PyTree, draw: Draw) -> tuple[Array, tuple[Array, Array]]:
        (_, x_t), t, s = self._pair(draw)
        x0 = self.precondition(self.sde, bound(self, params, draw))(x_t, t, self._with_latent(draw))
        std = gaussian.transition(self.sde, t, s)[1] * self.sde.sigma(s) / self.sde.sigma(t)  # sigma_t > 0, as t > s
        noise = normal(fold(draw.k_time, 2), x_t)
        x_s = gaussian.posterior_mean(self.sde, x_t, t, s, x0) + bcast(std, x_t) * noise
        return x_s, (x_t, self.c_noise(self.sde, t))

    def real(self, draw: Draw) -> tuple[Array, tuple[Array, Array]]:
        (x_s, x_t), t, _ = self._pair(draw)
        return x_s, (x_t, self.c_noise(self.sde, t))

    def _pair(self, draw: Draw) -> tuple[tuple[Array, Array], Array, Array]:
        n, ts = len(self.ts) - 1, falling(self.ts, self.sde)
        keys = example_keys(fold(draw.k_time, 0), len(draw.x0))
        i = jax.vmap(lambda k: jax.random.randint(k, (), 0, n))(keys)
        t, s = ts[i], ts[i + 1]
        x_s = gaussian.perturb(self.sde, draw.x0, s, draw.eps)
        a, b = (bcast(c, x_s) for c in gaussian.transition(self.sde, t, s))
        return (x_s, a * x_s + b * normal(fold(draw.k_time, 1), x_s)), t, s

    def _with_latent(self, draw: Draw) -> Any:
        if not self.latent:
            return draw.cond
        if not isinstance(draw.cond, dict | None):
            raise ValueError(f'z is cond["latent"], so cond must be None or a dict; got {type(draw.cond).__name__}')
        z = normal(fold(draw.k_time, 3), jnp.zeros((len(draw.x0), self.latent), draw.x0.dtype))
        return (draw.cond or {}) | {"latent": z}


def check_single(x: Any, who: str) -> None:
    """Raise a ValueError unless x are the samples of a `Student`."""
    if not hasattr(x, "shape"):
        raise ValueError(f"{who} takes the samples of a `Student`, not pairs")

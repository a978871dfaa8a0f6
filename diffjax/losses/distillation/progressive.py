"""Progressive distillation: one step of the student does two DDIM steps of its teacher (Salimans & Ho 2022, Alg. 2).

With a student's step from t to s, m the time between, and z_m, z_s the teacher's two steps from z_t,

    (1) z_m = alpha_m x(z_t) + sigma_m eps(z_t),   z_s = alpha_s x(z_m) + sigma_s eps(z_m)
    (2) x_target = (z_s - (sigma_s/sigma_t) z_t) / (alpha_s - (sigma_s/sigma_t) alpha_t)
    (3) w(t) |x_target - x_student(z_t, t)|^2,   w = max(alpha^2/sigma^2, 1)

(2) is the x whose DDIM step leads from z_t to z_s; into s = 0 it is the teacher's second x. What the network predicts
(x, eps, v) is its `precondition`'s matter, and w decides which error counts: (3) is the larger of those of x and eps
(the paper's truncated SNR), `weightings.v` is SNR + 1, `weightings.simple` the error in eps. w = 0 where alpha = 0 has
`simple` alone: there an error in eps says nothing about x, and a student of one step would learn nothing. With
`precondition.from_eps` the grid must begin where alpha > 0, as its x is infinite elsewhere.

A round halves the grid: the student, which begins with the teacher's parameters, becomes the teacher of the next.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax import Array

from diffjax.arrays import bcast, example_keys, flat_mean, like
from diffjax.conditions import cond_keys
from diffjax.losses import weightings
from diffjax.losses.draws import bound, read, weighted
from diffjax.losses.networks import check_functions
from diffjax.precondition import check_process
from diffjax.sde import gaussian
from diffjax.times.grids import falling
from diffjax.typing import NO_CONTEXT, SDE, Context, Denoiser, Key, PyTree, pytree, static


def halve(ts: Array) -> Array:
    """Every second time of a grid of 2N steps: the student's, and the next teacher's.

    Raises:
      ValueError: the number of steps is odd.
    """
    steps = len(ts) - 1
    if steps < 2 or steps % 2:
        raise ValueError(f"a student halves the teacher's steps, so there must be an even number of them, got {steps}")
    return ts[::2]


def halvings(ts: Array, steps: int = 1) -> list[Array]:
    """The teacher's grid of each round, until the last student takes `steps` steps.

    Raises:
      ValueError: halving does not lead there.
    """
    n = len(ts) - 1
    rounds = np.log2(n / steps) if steps > 0 else -1.0
    if rounds < 1 or rounds % 1:
        raise ValueError(f"{n} steps cannot be halved to {steps}: take {steps} times a power of two")
    grids = [ts]
    while len(grids) < rounds:
        grids.append(halve(grids[-1]))
    return grids


def two_steps(sde: SDE, teacher: Denoiser, z: Array, t: Array, m: Array, s: Array, cond=None) -> Array:
    """x_target of Eq. 2, [B, ...]."""
    z_m = gaussian.exponential_step(sde, z, t, m, like(z, teacher(z, t, cond), "teacher"))
    z_s = gaussian.exponential_step(sde, z_m, m, s, like(z, teacher(z_m, m, cond), "teacher"))
    alpha_t, sigma_t = gaussian.curves(sde, t, z)
    alpha_s, sigma_s = gaussian.curves(sde, s, z)
    gain = alpha_s * sigma_t - sigma_s * alpha_t  # of x_0 in the step, times sigma_t; written so that s may be 0
    return (sigma_t * z_s - sigma_s * z) / gain


@pytree
class Progressive:
    """`loss(params, key, batch) -> ([B], {"t": [B]})`; a batch is as in `DSM`, the student's times are equally likely.

    Raises:
      ValueError: the teacher's grid does not fall, leaves the process's times or has an odd number of steps; the
        teacher was made for another process.
    """

    sde: SDE
    ts: Array  # [2N + 1] the teacher's grid, falling
    teacher: Denoiser
    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    precondition: Callable = static()  # (sde, network) -> Denoiser, see `precondition`
    weight: Callable = static(default=weightings.truncated_snr)  # (sde, t) -> [B]
    train: bool = static(default=True)  # False: no dropout, for validation

    def __post_init__(self):
        halve(falling(self.ts, self.sde))
        check_process(self.teacher, self.sde)
        check_functions(
            self,
            network="(params, x, c_noise, cond) -> F",
            precondition="(sde, network) -> denoiser",
            weight="(sde, t) -> [B]",
            teacher="(x, t, cond) -> x_0",
        )

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        check_process(self.teacher, self.sde)
        draw = read(key, batch, cond_keys(self.network), context)
        ts, n = falling(self.ts, self.sde), len(halve(self.ts)) - 1
        keys = example_keys(draw.k_time, len(draw.x0))
        i = 2 * jax.vmap(lambda k: jax.random.randint(k, (), 0, n))(keys)
        t = ts[i]
        z = gaussian.perturb(self.sde, draw.x0, t, draw.eps)
        goal = jax.lax.stop_gradient(two_steps(self.sde, self.teacher, z, t, ts[i + 1], ts[i + 2], draw.cond))
        error = goal - self.precondition(self.sde, bound(self, params, draw))(z, t, draw.cond)
        return flat_mean(bcast(weighted(self.weight, self.sde, t), error) * error**2), {"t": t}

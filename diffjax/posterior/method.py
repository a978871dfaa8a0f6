"""A posterior sampler: how a denoiser of p(x_0) becomes one guided by a measurement, with which sampler and steps."""

from collections.abc import Callable

import numpy as np
from jax import Array
from jax.tree_util import Partial

from diffjax.checks import check_count
from diffjax.operators.measurement import of_each
from diffjax.samplers.arguments import check_sampler
from diffjax.samplers.drive import sample
from diffjax.times import repaint, uniform
from diffjax.typing import SDE, Cond, Denoiser, Key, Sampler, pytree, static


@pytree
class Posterior:
    """A paper's method with its constants; `build(denoise, sde) -> (denoise, sampler)` composes it.

    `steps` is the paper's number of steps; each stretch of `jump` steps is taken `repeats` times (`times.repaint`).
    """

    build: Callable
    steps: int = static(default=100)
    jump: int = static(default=1)
    repeats: int = static(default=1)

    def __post_init__(self):
        for name in ("steps", "jump", "repeats"):
            check_count(name, getattr(self, name))

    def apply(self, denoise: Denoiser, sde: SDE, ts: Array) -> tuple[Denoiser, Sampler, Array]:
        """(denoiser, sampler, grid) of the method, for `dj.sample`, from a denoiser of p(x_0) and a falling grid."""
        denoise, sampler = self.build(denoise, sde)
        return denoise, sampler, ts if self.repeats == 1 else repaint(ts, self.jump, self.repeats)

    def sample(
        self,
        key: Key,
        denoise: Denoiser,
        sde: SDE,
        x: Array,
        cond: Cond = None,
        *,
        steps: int | None = None,
        ts: Array | None = None,
    ) -> Array:
        """Posterior samples [B, ...], from the noise x [B, ...] at T that `dj.prior_sample` draws.

        Args:
          key: one key, or one for each example [B].
          x: a measurement of one example, y [1, ...], is used for all of its B examples.
          steps: of `times.uniform`, by default the paper's number.
          ts: a falling grid of one's own in its place.

        Raises:
          ValueError, TypeError: as `dj.sample`; the measurement does not fit x.
        """
        if ts is None:
            steps = self.steps if steps is None else steps
            check_count("steps", steps)
            ts = uniform(sde, steps)
        method: Posterior = of_each(self, np.shape(x)[0])
        denoise, sampler, ts = method.apply(denoise, sde, ts)
        return sample(key, denoise, sde, sampler, ts, x, cond)


def constrained(sampler: Sampler, steps: int = 100, jump: int = 1, repeats: int = 1) -> Posterior:
    """The method of a sampler that holds the measurement itself, such as `dj.DDRM(m)`; the denoiser stays as it is."""
    check_sampler(sampler)
    return Posterior(Partial(_as_it_is, sampler), steps, jump, repeats)


def _as_it_is(sampler: Sampler, denoise: Denoiser, sde: SDE) -> tuple[Denoiser, Sampler]:
    return denoise, sampler

"""SDEdit: noise a guide up to t_0, and let the model take the noise away again (Meng et al. 2022).

    (1) x_{t_0} = alpha(t_0) x_g + sigma(t_0) z,   then the reverse process down the grid   Algorithms 1 and 2
    (2) K repeats, each one's result the guide of the next                                          Section 3

Pixels to keep are put in at every step (Algorithm 3) by the sampler `inpaint(sampler, guide, mask)`, 1 = KEEP.
A small t_0 is faithful to the guide, a large one realistic; the paper finds t_0 from 0.3 to 0.6 best for VP. The
official code keeps pixels with one z for all steps and leaves the last step's noise on them; neither is done here.

On a grid that ends above t_min at t_m the result has the noise of t_m, for another run to go on from, and (2) adds to
it what is missing at t_0: x_{t_0} | x_{t_m} ~ N(a x_{t_m}, b^2), as `gaussian.transition` has it.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import bcast, example_keys, fold, normal
from diffjax.checks import check_count, check_key, check_pictures
from diffjax.samplers.arguments import as_grid, as_state, check_sampler
from diffjax.samplers.drive import is_end, sample
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Key, Sampler


def sdedit(
    key: Key,
    denoise: Denoiser,
    sde: SDE,
    sampler: Sampler,
    ts: Array,
    guide: Array,
    cond: Cond = None,
    repeats: int = 1,
) -> Array:
    """Edit `guide` [B, ...], a stroke painting or a composed image; ts starts at t_0, see `times.tail`.

    Args:
      repeats: K.

    Returns:
      The edited images [B, ...]; the guide itself for a grid of no step (strength 0).

    Raises:
      TypeError: the guide is an image of integers; as `sample`.
      ValueError: as `sample`; the guide is an image of 0 ... 255, or repeats is less than 1.
    """
    check_key(key)
    check_sampler(sampler)
    check_count("repeats", repeats, why="SDEdit takes at least one pass")
    if np.ndim(guide) == 4:
        check_pictures(guide, "the guide")
    guide = as_state(guide)
    if np.ndim(ts) == 1 and len(ts) == 1:
        return guide
    ts = as_grid(ts, sde, getattr(sampler, "climbs", False))
    again = gaussian.transition(sde, ts[0], ts[-1])
    keys, x = example_keys(key, len(guide)), guide
    for i in range(repeats):
        k_noise, k_steps = fold(keys, 2 * i), fold(keys, 2 * i + 1)
        clean = i == 0 or is_end(sde, ts[-1])
        a, b = (jnp.where(clean, c, d) for c, d in zip((sde.alpha(ts[0]), sde.sigma(ts[0])), again, strict=True))
        noisy = bcast(a, x) * x + bcast(b, x) * normal(k_noise, x)
        x = sample(k_steps, denoise, sde, sampler, ts, noisy.astype(x.dtype), cond)
    return x

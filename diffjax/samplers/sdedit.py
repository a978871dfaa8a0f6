"""SDEdit: noise a guide up to t_0, and let the model take the noise away again (Meng et al. 2022).

    (1) x_{t_0} = alpha(t_0) x_g + sigma(t_0) z,   then the reverse process from t_0 to 0          Algorithms 1 and 2
    (2) K repeats, each one's result the guide of the next                                          Section 3

Pixels to keep are put in at every step (Algorithm 3) by the sampler `inpaint(sampler, guide, mask)`, 1 = KEEP.
A small t_0 is faithful to the guide, a large one realistic; the paper finds t_0 from 0.3 to 0.6 best for VP. The
official code keeps pixels with one z for all steps and leaves the last step's noise on them; neither is done here.
"""

from jax import Array

from diffjax.arrays import example_keys, fold, normal
from diffjax.samplers.drive import sample
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
      ValueError: as `sample`, or repeats is less than 1.
    """
    if repeats < 1:
        raise ValueError(f"SDEdit takes at least one pass, got repeats = {repeats}")
    if len(ts) == 1:
        return guide
    keys, x = example_keys(key, len(guide)), guide
    for i in range(repeats):
        k_noise, k_steps = fold(keys, 2 * i), fold(keys, 2 * i + 1)
        noisy = gaussian.perturb(sde, x, ts[0], normal(k_noise, x))
        x = sample(k_steps, denoise, sde, sampler, ts, noisy, cond)
    return x

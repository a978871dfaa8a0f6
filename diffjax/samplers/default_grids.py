"""The grid of times that each solver takes by default.

Equal steps in logsnr (Lu et al. 2022) are the best of the grids, or close to it, for every solver with 10 to 30 steps
on VP, EDM, Flow, Cosine and BetaTable alike. Root mean square distance to the flow's exact end, two modes in 2-D, the
worst of the five processes:

                 10 steps                          20 steps
                 logsnr   uniform  karras          logsnr   uniform  karras
    DPMpp2M      .039     .64      .13             .006     .57      .014
    DPMpp3M      .053     .64      .33             .009     .57      .048
    UniPC(2)     .027     .64      .19             .005     .57      .010
    UniPC(3)     .058     .64      .39             .006     .57      .040
    DPMSolver(3) .010     9.0      .020            .001     3.4      .002
    LMS(4)       .034     .61      .048            .009     .51      .009
    DEIS(3)      .035     .61      .043            .010     .52      .010
    Heun         .046     3.9      .064            .007     1.8      .009
    DDIM         .059     .64      .078            .027     .57      .031

`uniform` is at fault for EDM's range of levels and at the last steps, which are the longest ones in logsnr. A sampler
with a `grid(sde, n)` of its own has that instead: Euler's method follows the straight paths of `Flow`, and the few
steps of a flow map, or of a consistency model by `Renoise(1.0)`, are equal in angle: `fashion-ctm` has FD 8.5, 5.7 in
2, 4 of those, and 10.3, 7.4 in logsnr.
"""

from typing import Any

from jax import Array

from diffjax.samplers.arguments import held
from diffjax.times.grids import uniform_logsnr
from diffjax.typing import SDE, Sampler


def default_grid(sampler: Sampler, sde: SDE, n: int) -> Array:
    """The grid [n + 1] from sde.T to the data on which `sampler` does best with n steps, or does safely.

    It is `sampler.grid(sde, n)` where the sampler, or one that it holds, has that method, else equal steps in logsnr.

    Raises:
      TypeError: n is no integer, or `sde` no process.
      ValueError: n is below 1.
    """
    owner = _owner(sampler)
    return uniform_logsnr(sde, n) if owner is None else owner.grid(sde, n)


def _owner(sampler: Any) -> Any:
    """The sampler itself, or the first of those that it holds, which has a grid; None if none has."""
    if hasattr(sampler, "grid"):
        return sampler
    return next((found for found in map(_owner, held(sampler)) if found is not None), None)

"""Denoising score matching (Vincent 2011; Ho et al. 2020; Song et al. 2021, Eq. 7), for every SDE and prediction.

    E_{t, x_0, eps} w(t) |x_0 - D(alpha x_0 + sigma eps, t)|^2 / D

The minimum over D is the posterior mean E[x_0 | x_t], whatever the weight w. The law of t and the weight together are
the objective: (Uniform, simple) is DDPM's, (Uniform, likelihood) bounds the likelihood, (UniformLogSNR, simple) is
the same bound with less variance, (LogNormal, edm) is EDM's.

Conditional flow matching, E |dx/dt(network) - (eps - x_0)|^2, is the same loss (Lipman et al. 2023; Liu et al. 2023):

    DSM(Flow(), times.Uniform(), net.apply, precondition.from_velocity, weightings.velocity)

Rectified flow's reflow is that on a batch with "noise" (`samplers.reflow_pairs`), minibatch optimal transport that with
`coupling=couplings.optimal_transport`.
"""

from collections.abc import Callable

from jax import Array

from diffjax.arrays import bcast, flat_mean
from diffjax.losses import couplings, weightings
from diffjax.losses.draws import bound, read
from diffjax.sde import gaussian
from diffjax.times import importance
from diffjax.typing import SDE, Key, PyTree, pytree, static


@pytree
class DSM:
    """Denoising score matching; `loss(params, key, batch) -> ([B], {"t": [B]})`, the mean over an example's entries.

    A batch is x_0 [B, ...] itself, or a dict with "image" [B, ...] and optionally "cond", any pytree for the network,
    and "noise" [B, ...], the eps that belongs to each image; without it eps is drawn from N(0, I). The coupling then
    permutes the batch's eps, wherever it came from.

    Raises:
      ValueError: the noise has another shape than the images.
    """

    sde: SDE
    law: Callable  # (key, n) -> t [n], see `times`
    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    precondition: Callable = static()  # (sde, network) -> Denoiser, see `precondition`
    weight: Callable = static(default=weightings.simple)  # (sde, t) -> [B]
    train: bool = static(default=True)  # False: no dropout, for validation
    coupling: Callable = static(default=couplings.independent)  # (x_0, eps) -> eps, see `couplings`

    def __call__(self, params: PyTree, key: Key, batch: PyTree) -> tuple[Array, dict[str, Array]]:
        draw = read(key, batch)
        t = self.law(draw.k_time, len(draw.x0))
        x_t = gaussian.perturb(self.sde, draw.x0, t, self.coupling(draw.x0, draw.eps))
        error = draw.x0 - self.precondition(self.sde, bound(self, params, draw))(x_t, t, draw.cond)
        w = importance(self.law, t) * self.weight(self.sde, t)
        return flat_mean(bcast(w, error) * error**2), {"t": t}

"""Denoising score matching (Vincent 2011; Ho et al. 2020; Song et al. 2021, Eq. 7), for every SDE and prediction.

    E_{t, x_0, eps} w(t) |x_0 - D(alpha x_0 + sigma eps, t)|^2 / D

The minimum over D is the posterior mean E[x_0 | x_t], whatever the weight w. The distribution of t and the weight
together are the objective: (Uniform, simple) is DDPM's, (Uniform, likelihood) bounds the likelihood, (UniformLogSNR,
simple) is the same bound with less variance, (LogNormal, edm) is EDM's.

Conditional flow matching, E |dx/dt(network) - (eps - x_0)|^2, is the same loss (Lipman et al. 2023; Liu et al. 2023):

    DSM(Flow(), times.Uniform(), net.apply, precondition.from_velocity, weightings.velocity)

Rectified flow's reflow is that on a batch with "noise" (`samplers.reflow_pairs`), minibatch optimal transport that with
`coupling=couplings.optimal_transport`.
"""

from collections.abc import Callable

from jax import Array

from diffjax.arrays import bcast, flat_mean
from diffjax.conditions import cond_keys
from diffjax.losses import couplings, weightings
from diffjax.losses.draws import bound, read, time, weighted
from diffjax.losses.networks import check_functions
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Context, Key, PyTree, pytree, static


@pytree
class DSM:
    """Denoising score matching; `loss(params, key, batch) -> ([B], {"t": [B]})`, the mean over an example's entries.

    A batch is x_0 [B, ...] itself, or a dict with "image" [B, ...] and any further fields: "label" and others that the
    network takes (see `diffjax.conditions`), and "noise" [B, ...], the eps that belongs to each image; without it eps
    is drawn from N(0, I). The coupling then permutes the batch's eps, wherever it came from.

    Raises:
      TypeError: a field is no function, the module itself is given for `net.apply`, or the parameters are None.
      ValueError: the batch is none (see `losses.draws.read`), a time is not in [0, T], or the weight is not [B].
    """

    sde: SDE
    time_distribution: Callable  # (key, n) -> t [n], see `times`
    network: Callable = static()  # (params, x, c_noise, cond, *, train, rngs) -> F
    precondition: Callable = static()  # (sde, network) -> Denoiser, see `precondition`
    weight: Callable = static(default=weightings.simple)  # (sde, t) -> [B]
    train: bool = static(default=True)  # False: no dropout, for validation
    coupling: Callable = static(default=couplings.independent)  # (x_0, eps) -> eps, see `couplings`

    def __post_init__(self):
        check_distribution(self.time_distribution, self.sde)
        check_functions(
            self,
            network="(params, x, c_noise, cond) -> F",
            precondition="(sde, network) -> denoiser",
            weight="(sde, t) -> [B]",
            coupling="(x_0, eps) -> eps",
        )

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = read(key, batch, cond_keys(self.network), context)
        t, importance = time(self.time_distribution, self.sde, draw)
        x_t = gaussian.perturb(self.sde, draw.x0, t, couplings.couple(self.coupling, draw.x0, draw.eps, context))
        error = draw.x0 - self.precondition(self.sde, bound(self, params, draw))(x_t, t, draw.cond)
        w = importance * weighted(self.weight, self.sde, t)
        return flat_mean(bcast(w, error) * error**2), {"t": t}

"""Score matching without the score of the data (Hyvärinen 2005; Song et al. 2019, "Sliced score matching").

For a score network s(x) and data x of density p, integration by parts takes grad log p out of the Fisher divergence:

    (1) E |s - grad log p|^2 / 2 = E [ tr(grad s) + |s|^2 / 2 ] + const                  implicit score matching (ISM)
    (2) SSM:     E_v [ v^T (grad s) v + (v^T s)^2 / 2 ],  E[v v^T] = I                   (Song et al. 2019, Section 3)
    (3) SSM-VR:  E_v [ v^T (grad s) v ] + |s|^2 / 2                                      (the same, variance reduced)

All three have the expectation (1). SSM-VR is ISM with Hutchinson's estimate of the trace: one loss, two names. One
forward derivative for each probe v gives s and (grad s) v together, so that (2) and (3) cost the same number of
network evaluations in every dimension D; the exact trace, v all unit vectors, costs D of them. For a fixed x the noise
of (3) is that of the probes on J = grad s, and the noise of (2) that on J + s s^T / 2 (see `probes`).

With noise, x_t = alpha x_0 + sigma eps, the density is p_t and the optimum grad log p_t: the same optimum as that of
denoising score matching, whose value is another by a constant,

    (4) E |s + eps/sigma|^2 / 2 = E [ tr(grad s) + |s|^2 / 2 ] + D / (2 sigma^2)         (Vincent 2011)

The noise levels are weighed as in `DSM`: w(t) multiplies the squared error in x_0, hence lambda(t) = w sigma^4/alpha^2
the loss. `weightings.simple` is NCSN's lambda = sigma^2 on a VE process (Song & Ermon 2019, Section 4.2).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from diffjax.arrays import example_keys, flat_sum, fold, like
from diffjax.conditions import cond_keys
from diffjax.likelihoods.probes import Probes, Rademacher, check_probes
from diffjax.losses import weightings
from diffjax.losses.draws import Draw, read, time, weighted
from diffjax.losses.networks import bind, check_functions
from diffjax.sde import gaussian
from diffjax.times.distributions import check_distribution
from diffjax.typing import NO_CONTEXT, SDE, Context, Key, PyTree, pytree, static


@pytree
class ScoreMatching:
    """Implicit score matching; `loss(params, key, batch) -> ([B], {"t": [B]})`, the sum over an example's entries.

    A batch is as in `DSM`. The score network must treat the examples of a batch independently (no batch
    normalisation). Without `sde` and `time_distribution` the data are taken as they are, and t is 0.

        ScoreMatching(score, Exact())                    ISM (1)
        ScoreMatching(score, Rademacher(n))              SSM-VR (3), ISM with Hutchinson's trace
        ScoreMatching(score, Gaussian(n), sliced=True)   SSM (2); with `Exact()` it is ISM again

    Raises:
      ValueError: there are no probes, only one of `sde` and `time_distribution` is given, x is no float array [B, ...]
        of at least two axes, or the score is not shaped like x.
    """

    score: Callable = static()  # (params, x, t [B], cond) -> s [B, ...]
    probes: Probes = Rademacher()
    sliced: bool = static(default=False)  # the second term of (2) in place of that of (3)
    sde: SDE | None = None
    time_distribution: Callable | None = None  # (key, n) -> t [n], see `times`
    weight: Callable = static(default=weightings.simple)  # (sde, t) -> w [B]; not used without noise

    def __post_init__(self):
        check_probes(self.probes)
        check_functions(self, score="(params, x, t, cond) -> s", weight="(sde, t) -> [B]")
        if (self.sde is None) != (self.time_distribution is None):
            raise ValueError("give both `sde` and `time_distribution` to add noise to the data, or neither")
        if self.sde is not None:
            check_distribution(self.time_distribution, self.sde)

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]:
        draw = read(key, batch, cond_keys(self.score), context, rank=2)
        cond, score = draw.cond, bind(self.score, params, False, {})
        x, t, lam = self._perturb(draw)
        vectors = jax.vmap(self.probes.draw, out_axes=1)(example_keys(fold(key, 2), len(x)), x)  # [P, B, ...]

        def along(v: Array) -> tuple[Array, Array]:
            return jax.jvp(lambda x: score(x, t, cond), (x,), (v,))

        s, grad_v = jax.vmap(along, out_axes=(None, 0))(vectors)  # [B, ...], (grad s) v [P, B, ...]
        s = like(x, s, "score network")
        products = jax.vmap(flat_sum)(vectors * grad_v)  # [P, B]
        if self.sliced:
            products = products + 0.5 * jax.vmap(lambda v: flat_sum(v * s))(vectors) ** 2
        loss = jax.vmap(self.probes.trace, in_axes=1)(products)[0]
        return lam * (loss if self.sliced else loss + 0.5 * flat_sum(s * s)), {"t": t}

    def _perturb(self, draw: Draw) -> tuple[Array, Array, Array | float]:
        """x_t, t [B] and the loss's weight lambda(t), 0 where there is no signal, alpha = 0."""
        if self.sde is None:
            return draw.x0, jnp.zeros(len(draw.x0), draw.x0.dtype), 1.0
        t, importance = time(self.time_distribution, self.sde, draw)
        x_t = gaussian.perturb(self.sde, draw.x0, t, draw.eps)
        signal = weightings.score(self.sde, t)
        weight = weighted(self.weight, self.sde, t)
        return x_t, t, importance * jnp.where(signal > 0, weight / jnp.where(signal > 0, signal, 1), 0)

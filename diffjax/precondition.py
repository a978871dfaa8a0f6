"""From networks to denoisers: what the network's output F means, and what it is told of the noise.

Every function here takes an SDE, a network `(x, c_noise, cond) -> F` (parameters already bound: `Partial(net.apply,
params)`) and `c_noise(sde, t)`, the noise level in the network's own units. It returns a Denoiser `(x, t, cond) -> x_0`
as a `Partial`, which crosses `jit` and shows its own recipe when printed. The arithmetic is done in the dtype of x.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from diffjax.arrays import bcast, like
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_partial

CNoise = Callable[[SDE, Time], Array]


def time(sde: SDE, t: Time) -> Array:
    """t itself."""
    return jnp.asarray(t)


def scaled_time(sde: SDE, t: Time) -> Array:
    """999 t / T: the labels 0 ... 999 that DDPM's position embedding expects (Song et al. 2021)."""
    return 999 * jnp.asarray(t) / sde.T


def scaled_by(factor: float) -> CNoise:
    """factor t/T: 20, say, where a loss differentiates the network in time, as those of flow maps do.

    At 999 the fastest features of `nn.embed.Sinusoidal` turn 159 times between data and noise.
    """
    return Partial(_scaled_by, factor)


def label(sde: SDE, t: Time) -> Array:
    """t - 1: the label of a discrete-time network at the integer time t of a `BetaTable` (Ho et al. 2020)."""
    return jnp.asarray(t) - 1


def log_sigma(sde: SDE, t: Time) -> Array:
    """log sigma(t): what NCSN++ embeds by Fourier features (Song et al. 2021)."""
    return jnp.log(sde.sigma(t))


def quarter_log_sigma(sde: SDE, t: Time) -> Array:
    """log(sigma/alpha) / 4 (Karras et al. 2022, Table 1)."""
    return -gaussian.logsnr(sde, t) / 8


def clock(own: SDE, c_noise: CNoise = scaled_time) -> CNoise:
    """What a network of the process `own` is told, in any other process: c_noise at own's time of the same sigma/alpha.

    Where that is beyond own's T it is told T. With `from_v(Cosine(), network, clock(VP()))` a VP network runs in the
    cosine clock as it is; where scales differ too, see `gaussian.rescale`.
    """
    return Partial(_clock, own, as_partial(c_noise))


def level(L: int) -> CNoise:
    """The nearest of NCSN's L noise levels, round((1 - t/T)(L - 1)): 0 the noisiest, on a geometric grid if sde is VE.

    Level i has sigma_max (sigma_min / sigma_max)^(i / (L - 1)) (Song & Ermon 2019).

    Raises:
      ValueError: L is less than 1.
    """
    if L < 1:
        raise ValueError(f"there must be at least one noise level, got {L}")
    return Partial(_level, L)


def from_eps(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> Denoiser:
    """F is the noise eps (Ho et al. 2020). Not to be used where alpha = 0."""
    return _denoiser(gaussian.x0_from_eps, sde, network, c_noise)


def from_v(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> Denoiser:
    """F is v = alpha eps - sigma x_0 (Salimans & Ho 2022)."""
    return _denoiser(gaussian.x0_from_v, sde, network, c_noise)


def from_velocity(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> Denoiser:
    """F is dx/dt of the probability-flow ODE; eps - x_0 for `Flow` (Lipman et al. 2023)."""
    return _denoiser(gaussian.x0_from_velocity, sde, network, c_noise)


def from_x0(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> Denoiser:
    """F is the clean data."""
    return _denoiser(_identity, sde, network, c_noise)


def from_score(sde: SDE, network: Callable, c_noise: CNoise = log_sigma, *, scaled: bool = True) -> Denoiser:
    """F is sigma times the score (Song & Ermon 2020, technique 3), or with `scaled=False` the score itself."""
    return _denoiser(_x0_from_scaled_score if scaled else gaussian.x0_from_score, sde, network, c_noise)


def to_score(sde: SDE, denoise: Denoiser) -> Callable:
    """The score of x_t, `(x, t, cond) -> grad log p_t(x)`, that a denoiser stands for (Tweedie's formula).

    The way back, from a function `score(x, t, cond)`, is `from_score(sde, score, time, scaled=False)`.
    """
    return Partial(_score, sde, as_partial(denoise))


def edm(sde: SDE, network: Callable, sigma_data: float = 0.5) -> Denoiser:
    """EDM's preconditioning (Karras et al. 2022, Eq. 7), for any SDE: the network sees x/alpha at level sigma/alpha."""
    return Partial(_edm, sde, as_partial(network), sigma_data)


def consistency(
    sde: SDE, network: Callable, sigma_data: float = 0.5, eps: Time | None = None, c_noise: CNoise = quarter_log_sigma
) -> Denoiser:
    """A consistency function: x at t carried to time eps, and x itself at t = eps (Song et al. 2023, App. C).

    With r = sigma/alpha, and e = r(eps), the network's input and output are scaled in x/alpha by

        c_skip = sd^2/((r - e)^2 + sd^2),   c_out = sd (r - e)/sqrt(r^2 + sd^2),   c_in = 1/sqrt(r^2 + sd^2)

    for any SDE; finite at alpha = 0, if c_noise is. `edm` is the same with e = 0.

    Args:
      eps: where the trajectories end; the SDE's t_min by default.
    """
    return Partial(_consistency, sde, as_partial(network), sigma_data, eps, as_partial(c_noise))


def learned_range(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> tuple[Callable, Callable]:
    """The two halves of a network with 2C output channels (Nichol & Dhariwal 2021, Section 3.1).

    Returns the network of the first C channels, to be preconditioned by one of the `from_...` above with the same
    `c_noise`, and `large(x, t, cond) -> c = (out + 1)/2` of the others, what `Ancestral` and `elbo` take: 0 is the
    posterior's variance, 1 that of the forward step. Under one `jit` the two calls of the network become one.

        network, large = learned_range(sde, Partial(net.apply, params), label)
        denoise, sampler = from_eps(sde, network, label), Ancestral(large)
    """
    network, c_noise = as_partial(network), as_partial(c_noise)
    return Partial(_first_half, network), Partial(_second_half, network, sde, c_noise)


def halves(F: Array, x: Array) -> tuple[Array, Array]:
    """The first C channels of a network's output and c = (the others + 1)/2, both in the dtype of x.

    Raises:
      ValueError: F has not twice the channels of x.
    """
    if F.shape != (*x.shape[:-1], 2 * x.shape[-1]):
        raise ValueError(
            f"a learned variance needs a network with twice the channels of x {x.shape}, got an output {F.shape}"
        )
    mean, c = jnp.split(F.astype(x.dtype), 2, axis=-1)
    return mean, 0.5 * (c + 1)


def _first_half(network, x: Array, c_noise: Array, cond: Cond = None) -> Array:
    return halves(network(x, c_noise, cond), x)[0]


def _second_half(network, sde, c_noise, x: Array, t: Time, cond: Cond = None) -> Array:
    return halves(network(x, c_noise(sde, t), cond), x)[1]


def _scaled_by(factor, sde: SDE, t: Time) -> Array:
    return factor * jnp.asarray(t) / sde.T


def _clock(own, c_noise, sde: SDE, t: Time) -> Array:
    return c_noise(own, gaussian.time_of_logsnr(own, gaussian.logsnr(sde, t)))


def _level(L, sde, t):
    return jnp.round((1 - jnp.asarray(t) / sde.T) * (L - 1))


def _denoiser(to_x0: Callable, sde: SDE, network: Callable, c_noise: CNoise) -> Denoiser:
    return Partial(_apply, Partial(to_x0), sde, as_partial(network), as_partial(c_noise))


def _apply(to_x0, sde, network, c_noise, x: Array, t: Time, cond: Cond = None) -> Array:
    return to_x0(sde, x, t, like(x, network(x, c_noise(sde, t), cond)))


def _score(sde, denoise, x: Array, t: Time, cond: Cond = None) -> Array:
    return gaussian.score_from_x0(sde, x, t, denoise(x, t, cond))


def _edm(sde, network, sigma_data, x: Array, t: Time, cond: Cond = None) -> Array:
    sigma = bcast(sde.sigma(t) / sde.alpha(t), x)
    x = x / bcast(sde.alpha(t), x)
    total = sigma**2 + sigma_data**2
    c_skip, c_out, c_in = sigma_data**2 / total, sigma * sigma_data / jnp.sqrt(total), 1 / jnp.sqrt(total)
    return c_skip * x + c_out * like(x, network(c_in * x, quarter_log_sigma(sde, t), cond))


def _consistency(sde, network, sigma_data, eps, c_noise, x: Array, t: Time, cond: Cond = None) -> Array:
    eps = sde.t_min if eps is None else eps
    alpha, sigma = gaussian.curves(sde, t, x)
    rest = sigma - alpha * sde.sigma(eps) / sde.alpha(eps)  # alpha (r - e): all is written so that alpha may be 0
    norm = jnp.sqrt(sigma**2 + (alpha * sigma_data) ** 2)
    F = like(x, network(x / norm, c_noise(sde, t), cond))
    skip = sigma_data**2 * alpha / (rest**2 + (alpha * sigma_data) ** 2)
    return sde.alpha(eps) * (skip * x + sigma_data * rest / norm * F)


def _identity(sde, x, t, x0):
    return x0


def _x0_from_scaled_score(sde, x, t, F):
    return gaussian.x0_from_eps(sde, x, t, -F)


def check_process(denoise: Any, sde: SDE) -> None:
    """Raise a ValueError if a denoiser or a flow map was made for another process than `sde`.

    The outermost SDE that it holds counts (`gaussian.rescale` changes it), guided denoisers are looked into, and plain
    functions pass. Numbers that are traced are not compared.
    """
    own = process_of(denoise)
    if own is None or own is sde:
        return
    same = jax.tree.structure(own) == jax.tree.structure(sde)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(sde), strict=False):
        same = same and (isinstance(a, Tracer) or isinstance(b, Tracer) or bool(np.all(np.asarray(a) == np.asarray(b))))
    if not same:
        raise ValueError(
            f"the denoiser was made for {own}, but is used under {sde}: carry it over by "
            "`dj.rescale(denoise, its_sde, sde)`"
        )


def process_of(denoise: Any) -> SDE | None:
    """The SDE that a denoiser or a flow map was made for, or None where it does not say: a plain function."""
    if not isinstance(denoise, Partial):
        return None
    args = (*denoise.args, *denoise.keywords.values())
    own = [a for a in args if all(hasattr(a, name) for name in ("alpha", "sigma", "T"))]
    inner = (process_of(a) for a in args)
    return own[-1] if own else next((found for found in inner if found is not None), None)

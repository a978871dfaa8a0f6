"""From networks to denoisers: what a network's output F stands for, and the noise level that it is conditioned on.

Every `from_...` takes an SDE, a network `(x, c_noise, cond) -> F` (parameters already bound: `Partial(net.apply,
params)`) and `c_noise(sde, t)`, the noise level in the network's own units. It returns a Denoiser
`(x, t, cond) -> x_0`: a `NetworkDenoiser`, a pytree that crosses `jit`, shows its recipe when printed, and carries the
SDE that it was made for. `check_process` raises where it is run under another one.

The network gets c_noise as `[B]`, one number for each example, float32 or float64, whatever t is. The arithmetic is
done in the dtype of x, but never below float32, and the result has the dtype of x.

    (1) F = eps, v, score, dx/dt or x_0        the conversions are those of `sde.gaussian`
    (2) x_0 = c_skip y + c_out F(c_in y)       EDM (Karras et al. 2022), in y = x/alpha and r = sigma/alpha

With sd the standard deviation of the data, (2) is written so that alpha and sigma may be 0:

    (3) x_0 = sd^2 alpha x / n^2 + (sd sigma / n) F(x/n),   n^2 = sigma^2 + alpha^2 sd^2

    alpha = 0:  x_0 = sd F(x/sigma)            sigma = 0:  x_0 = x/alpha
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import like
from diffjax.checks import check_number
from diffjax.conditions import at_time
from diffjax.precondition.call import evaluate, operands
from diffjax.precondition.noise_levels import CNoise, evaluate_c_noise, log_sigma, quarter_log_sigma, scaled_time
from diffjax.precondition.process import check_process, check_sde
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_child, as_partial, check_takes, pytree, static


@pytree
class NetworkDenoiser:
    """The denoiser of a network; made by `from_eps`, `edm`, ... `denoise(x, t, cond) -> x_0`.

    Attributes:
      to_x0: `(sde, x, t, F) -> x_0`, where F is the network as a function of its input alone.
      sde: the process that x comes from.
      network: `(x, c_noise, cond) -> F`.
      c_noise: `(sde, t) -> ` the noise level, [] or [B].
      needs_alpha: x_0 is not determined by F where alpha = 0.

    Raises:
      TypeError: x is no float array, or the network returns no array, or uses NumPy or Python's `if` on traced values.
      ValueError: t is neither a scalar nor [B], or the network does not keep the shape of x.
    """

    to_x0: Callable
    sde: SDE
    network: Callable
    c_noise: CNoise
    needs_alpha: bool = static(default=False)

    def __call__(self, x: Array, t: Time, cond: Cond = None) -> Array:
        x, t = operands(x, t)
        c_noise, cond = evaluate_c_noise(self.c_noise, self.sde, t, x), at_time(cond, t)
        wide = jnp.promote_types(x.dtype, jnp.float32)

        def F(x_in: Array) -> Array:
            return like(x_in, evaluate(self.network, "network", x_in.astype(x.dtype), c_noise, cond))

        return self.to_x0(self.sde, x.astype(wide), t, F).astype(x.dtype)


def from_eps(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> Denoiser:
    """F is the noise eps (Ho et al. 2020).

    Where alpha = 0, at the T of `Flow` and `Cosine`, x is eps whatever x_0 is, and x_0 has no limit: start below T, or
    train for v, the velocity or x_0. `check_start` raises there.
    """
    return _denoiser(_x0_of_eps, sde, network, c_noise, needs_alpha=True)


def from_v(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> Denoiser:
    """F is v = alpha eps - sigma x_0 (Salimans & Ho 2022)."""
    return _denoiser(_x0_of_v, sde, network, c_noise)


def from_velocity(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> Denoiser:
    """F is dx/dt of the probability-flow ODE; eps - x_0 for `Flow` (Lipman et al. 2023)."""
    return _denoiser(_x0_of_velocity, sde, network, c_noise)


def from_x0(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> Denoiser:
    """F is the clean data."""
    return _denoiser(_x0_of_x0, sde, network, c_noise)


def from_score(sde: SDE, network: Callable, c_noise: CNoise = log_sigma, *, scaled: bool = True) -> Denoiser:
    """F is sigma times the score (Song & Ermon 2020, technique 3), or with `scaled=False` the score itself.

    As with `from_eps`, x_0 has no limit where alpha = 0.
    """
    return _denoiser(_x0_of_scaled_score if scaled else _x0_of_score, sde, network, c_noise, needs_alpha=True)


def edm(sde: SDE, network: Callable, sigma_data: float = 0.5) -> Denoiser:
    """EDM's preconditioning (Karras et al. 2022, Eq. 7), for any SDE: the network takes x/alpha at level sigma/alpha.

    Raises:
      ValueError: sigma_data is not above 0.
    """
    check_number("sigma_data", sigma_data, 0, above=True, why="it is the standard deviation of the data")
    return _denoiser(Partial(_x0_of_edm, sigma_data), sde, network, quarter_log_sigma)


def consistency(
    sde: SDE, network: Callable, sigma_data: float = 0.5, eps: Time | None = None, c_noise: CNoise = quarter_log_sigma
) -> Denoiser:
    """A consistency function: x at t carried to time eps, and x itself at t = eps (Song et al. 2023, App. C).

    With r = sigma/alpha, and e = r(eps), the network's input and output are scaled in x/alpha by

        c_skip = sd^2/((r - e)^2 + sd^2),   c_out = sd (r - e)/sqrt(r^2 + sd^2),   c_in = 1/sqrt(r^2 + sd^2)

    for any SDE; where alpha = 0 it is sd alpha(eps) F(x/sigma). `edm` is the same with e = 0.

    Args:
      eps: where the trajectories end; the SDE's t_min by default.

    Raises:
      ValueError: sigma_data is not above 0.
    """
    check_number("sigma_data", sigma_data, 0, above=True, why="it is the standard deviation of the data")
    return _denoiser(Partial(_x0_of_consistency, sigma_data, eps), sde, network, c_noise)


def _denoiser(to_x0: Callable, sde: SDE, network: Callable, c_noise: CNoise, needs_alpha: bool = False) -> Denoiser:
    check_sde(sde)
    network, c_noise = as_partial(network), as_partial(c_noise)
    check_takes(network, "a network, with its parameters bound,", "x", "c_noise", "cond")
    check_takes(c_noise, "c_noise", "sde", "t")
    return NetworkDenoiser(as_child(to_x0), sde, network, c_noise, needs_alpha)


def _x0_of_eps(sde: SDE, x: Array, t: Array, F: Callable) -> Array:
    return gaussian.x0_from_eps(sde, x, t, F(x))


def _x0_of_v(sde: SDE, x: Array, t: Array, F: Callable) -> Array:
    return gaussian.x0_from_v(sde, x, t, F(x))


def _x0_of_velocity(sde: SDE, x: Array, t: Array, F: Callable) -> Array:
    return gaussian.x0_from_velocity(sde, x, t, F(x))


def _x0_of_x0(sde: SDE, x: Array, t: Array, F: Callable) -> Array:
    return F(x)


def _x0_of_score(sde: SDE, x: Array, t: Array, F: Callable) -> Array:
    return gaussian.x0_from_score(sde, x, t, F(x))


def _x0_of_scaled_score(sde: SDE, x: Array, t: Array, F: Callable) -> Array:
    return gaussian.x0_from_eps(sde, x, t, -F(x))


def _x0_of_edm(sigma_data, sde: SDE, x: Array, t: Array, F: Callable) -> Array:  # Eq. 3
    alpha, sigma = gaussian.curves(sde, t, x)
    norm = jnp.hypot(sigma, alpha * sigma_data)
    return sigma_data * (sigma_data * alpha / norm * (x / norm) + sigma / norm * F(x / norm))


def _x0_of_consistency(sigma_data, eps, sde: SDE, x: Array, t: Array, F: Callable) -> Array:
    eps = sde.t_min if eps is None else eps
    alpha, sigma = gaussian.curves(sde, t, x)
    rest = sigma - alpha * sde.sigma(eps) / sde.alpha(eps)  # alpha (r - e): all is written so that alpha may be 0
    norm = jnp.hypot(sigma, alpha * sigma_data)
    skip = sigma_data**2 * alpha / (rest**2 + (alpha * sigma_data) ** 2)
    return sde.alpha(eps) * (skip * x + sigma_data * rest / norm * F(x / norm))


def to_score(sde: SDE, denoise: Denoiser) -> Callable:
    """The score of x_t, `(x, t, cond) -> grad log p_t(x)`, that a denoiser stands for (Tweedie's formula).

    The way back, from a function `score(x, t, cond)`, is `from_score(sde, score, time, scaled=False)`.

    Raises:
      ValueError: the denoiser was made for another SDE.
    """
    check_process(denoise, sde)
    return Partial(_score, sde, as_partial(denoise))


def learned_range(sde: SDE, network: Callable, c_noise: CNoise = scaled_time) -> tuple[Callable, Callable]:
    """The two halves of a network with 2C output channels (Nichol & Dhariwal 2021, Section 3.1).

    Returns the network of the first C channels, to be preconditioned by one of the `from_...` above with the same
    `c_noise`, and `large(x, t, cond) -> c = (out + 1)/2` of the others, what `Ancestral` and `elbo` take: 0 is the
    posterior's variance, 1 that of the forward step. Under one `jit` the two calls of the network become one.

        network, large = learned_range(sde, Partial(net.apply, params), time_index)
        denoise, sampler = from_eps(sde, network, time_index), Ancestral(large)
    """
    check_sde(sde)
    network, c_noise = as_partial(network), as_partial(c_noise)
    return Partial(_first_half, network), Partial(_second_half, network, sde, c_noise)


def of_mean(prediction: Callable, sde: SDE, network: Callable) -> Denoiser:
    """`prediction` of the mean's half of a network with a learned variance: `Partial(of_mean, from_eps)` is one."""
    return prediction(sde, Partial(_first_half, as_partial(network)))


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


def _score(sde, denoise, x: Array, t: Time, cond: Cond = None) -> Array:
    return gaussian.score_from_x0(sde, x, t, denoise(x, t, cond))


def _first_half(network, x: Array, c_noise: Array, cond: Cond = None) -> Array:
    return halves(evaluate(network, "network", x, c_noise, cond), x)[0]


def _second_half(network, sde, c_noise, x: Array, t: Time, cond: Cond = None) -> Array:
    x, t = operands(x, t)
    c_noise, cond = evaluate_c_noise(c_noise, sde, t, x), at_time(cond, t)
    return halves(evaluate(network, "network", x, c_noise, cond), x)[1]

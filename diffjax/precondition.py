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

Noise levels in logarithms are bounded by those of the floats next to 0 and to T, |log r| <= 24 log 2 = 16.6: a network
is conditioned on a finite number where alpha or sigma is 0.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from diffjax.arrays import like, safe_log
from diffjax.checks import check_count, check_number, check_pytree
from diffjax.sde import gaussian
from diffjax.typing import SDE, Cond, Denoiser, Time, as_child, as_partial, check_takes, pytree, static

CNoise = Callable[[SDE, Time], Array]
BOUND = 24 * np.log(2)  # float32 has 24 bits: 1 - 2^-24 is the float next to 1


# -- noise levels


def time(sde: SDE, t: Time) -> Array:
    """t itself."""
    return jnp.asarray(t)


def scaled_time(sde: SDE, t: Time) -> Array:
    """999 t / T: the indices 0 ... 999 that DDPM's position embedding expects (Song et al. 2021)."""
    return 999 * jnp.asarray(t) / sde.T


def scaled_by(factor: float) -> CNoise:
    """factor t/T: 20, say, where a loss differentiates the network in time, as those of flow maps do.

    At 999 the fastest features of `nn.embed.Sinusoidal` turn 159 times between data and noise.
    """
    check_number("factor", factor)
    return Partial(_scaled_by, factor)


def time_index(sde: SDE, t: Time) -> Array:
    """t - 1, and 0 below t = 1: the index of a discrete-time network at a `BetaTable`'s time t (Ho et al. 2020)."""
    return jnp.maximum(jnp.asarray(t) - 1, 0)


def log_sigma(sde: SDE, t: Time) -> Array:
    """log sigma(t), at least -16.6: what NCSN++ embeds by Fourier features (Song et al. 2021)."""
    return jnp.maximum(safe_log(sde.sigma(t)), -BOUND)


def quarter_log_sigma(sde: SDE, t: Time) -> Array:
    """log(sigma/alpha) / 4 (Karras et al. 2022, Table 1), within [-4.2, 4.2]."""
    return -jnp.clip(gaussian.logsnr(sde, t), -2 * BOUND, 2 * BOUND) / 8


def clock(own: SDE, c_noise: CNoise = scaled_time) -> CNoise:
    """The noise level of a network of the process `own` in any other process: c_noise at own's time of the same r.

    Where r = sigma/alpha is beyond that of own's T it is c_noise at T. With `from_v(Cosine(), network, clock(VP()))` a
    VP network runs in the cosine clock as it is; where scales differ too, see `gaussian.rescale`.
    """
    check_sde(own)
    return Clock(own, as_partial(c_noise))


@pytree
class Clock:
    """`clock(own, c_noise)`."""

    own: SDE
    c_noise: CNoise

    def __call__(self, sde: SDE, t: Time) -> Array:
        return self.c_noise(self.own, gaussian.time_of_logsnr(self.own, gaussian.logsnr(sde, t)))


def level(L: int) -> CNoise:
    """The nearest of NCSN's L noise levels, round((1 - t/T)(L - 1)): 0 the noisiest, on a geometric grid if sde is VE.

    Level i has sigma_max (sigma_min / sigma_max)^(i / (L - 1)) (Song & Ermon 2019).

    Raises:
      TypeError: L is no integer.
      ValueError: L is less than 1.
    """
    check_count("the number of noise levels", L)
    return Partial(_level, L)


def noise_level(c_noise: CNoise, sde: SDE, t: Time, x: Array) -> Array:
    """c_noise(sde, t) as a network gets it: [B], one for each example of x, in float32 or float64."""
    return per_example(c_noise(sde, t), x)


def per_example(c: Any, x: Array) -> Array:
    """A noise level [] or [B] as [B], in float32 or float64.

    Raises:
      ValueError: it has another shape.
    """
    c = jnp.asarray(c)
    if c.shape not in ((), x.shape[:1]):
        raise ValueError(f"c_noise must give one noise level for each of {len(x)} examples, got shape {c.shape}")
    return jnp.broadcast_to(c.astype(jnp.promote_types(c.dtype, jnp.float32)), x.shape[:1])


def _scaled_by(factor, sde: SDE, t: Time) -> Array:
    return factor * jnp.asarray(t) / sde.T


def _level(L, sde, t):
    return jnp.round((1 - jnp.asarray(t) / sde.T) * (L - 1))


# -- denoisers


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
        c_noise = noise_level(self.c_noise, self.sde, t, x)
        wide = jnp.promote_types(x.dtype, jnp.float32)

        def F(x_in: Array) -> Array:
            x_in = x_in.astype(x.dtype)
            return like(x_in, evaluate(self.network, "network", x_in, c_noise, cond)).astype(wide)

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
    """EDM's preconditioning (Karras et al. 2022, Eq. 7), for any SDE: the network sees x/alpha at level sigma/alpha.

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


# -- what is made of networks and denoisers besides


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
    return halves(evaluate(network, "network", x, noise_level(c_noise, sde, t, x), cond), x)[1]


# -- checks


def operands(x: Any, *times: Any) -> tuple[Array, ...]:
    """x and times as arrays of floats, the times in float32 at least.

    Raises:
      TypeError: x is no array of floats.
      ValueError: x has no batch axis, or a time is neither a scalar nor one for each example.
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"x must be an array of floats, got {x.dtype}: scale pictures of integers to [-1, 1]")
    if x.ndim == 0:
        raise ValueError("x must have the examples as its first axis, got a scalar")
    return x, *(_time(t, x) for t in times)


def _time(t: Any, x: Array) -> Array:
    t = jnp.asarray(t)
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(f"a time must be a scalar or have shape ({len(x)},), one for each example; got {t.shape}")
    own = t.dtype if jnp.issubdtype(t.dtype, jnp.floating) else x.dtype
    return t.astype(jnp.promote_types(own, jnp.float32))


def evaluate(fn: Callable, what: str, *args: Any) -> Array:
    """fn(*args), one array, with a message of what is wrong where JAX cannot trace it; `what` names fn.

    Raises:
      TypeError: it returns something else, uses NumPy on its arguments, or branches on their values.
    """
    try:
        out = fn(*args)
    except (jax.errors.TracerArrayConversionError, jax.errors.TracerIntegerConversionError) as error:
        raise TypeError(f"the {what} uses NumPy on an argument that JAX traces: use jax.numpy in its place") from error
    except jax.errors.ConcretizationTypeError as error:
        raise TypeError(
            f"the {what} branches on a value that JAX traces, or makes a Python number of it: use jnp.where, "
            "jax.lax.cond or jax.numpy"
        ) from error
    if not isinstance(out, jax.Array | np.ndarray | np.generic):
        raise TypeError(f"the {what} must return one array shaped like x, got {type(out).__name__}")
    return jnp.asarray(out)


def check_sde(sde: Any) -> None:
    """Raise a TypeError unless `sde` is a process that JAX takes for a pytree: an object with alpha, sigma and T."""
    if _is_sde(sde) and not isinstance(sde, type):
        return check_pytree(sde, "the SDE")
    got = f"the class {sde.__name__}: did you mean {sde.__name__}()?" if isinstance(sde, type) else type(sde).__name__
    raise TypeError(f"expected an SDE, such as dj.VP(), before the network or the denoiser; got {got}")


def check_process(denoise: Any, sde: SDE) -> None:
    """Raise unless a denoiser or a flow map, guided or not, was made for the process `sde`; see `process_of`.

    Plain functions do not say what they were made for, and pass. Numbers that are traced are not compared, nor is
    t_min, where sampling stops by default.

    Raises:
      TypeError: it is a Flax network, not a denoiser.
      ValueError: it was made for another SDE, or holds denoisers of two.
    """
    if _is_network(denoise):
        raise TypeError(
            "this is a network, not a denoiser: say what its output stands for, by precondition.from_eps(sde, network),"
            " from_v, from_x0, ..."
        )
    own = process_of(denoise)
    if own is not None and not gaussian.same_process(own, sde):
        raise ValueError(
            f"the denoiser was made for {own}, but is used under {sde}: carry it over by "
            "`dj.rescale(denoise, its_sde, sde)`"
        )


def process_of(denoise: Any) -> SDE | None:
    """The SDE under which a denoiser or a flow map must be run, or None where it does not say: a plain function.

    It is the attribute `sde`, or of a `Partial` the last SDE among its arguments; the denoisers that the Partial holds
    must be made for the first. So a guide has one process with the denoiser that it guides, while `gaussian.rescale`
    leads from one to another.

    Raises:
      ValueError: the parts were made for different processes.
    """
    if _is_sde(getattr(denoise, "sde", None)):
        return denoise.sde
    own = [part for part in _parts(denoise) if _is_sde(part)]
    inner = own[0] if own else None
    for part in _parts(denoise):
        found = None if _is_sde(part) else process_of(part)
        if found is None:
            continue
        inner = found if inner is None else inner
        if not gaussian.same_process(found, inner):
            raise ValueError(
                f"a denoiser made for {found} is combined with {inner}: carry one over by "
                "`dj.rescale(denoise, its_sde, sde)`"
            )
    return own[-1] if own else inner


def check_start(denoise: Any, t: Any) -> None:
    """Raise a ValueError if a denoiser's prediction leaves x_0 undetermined at t, where a run starts: alpha(t) = 0.

    That is so for predictions of eps and of the score. Traced numbers pass.
    """
    if isinstance(denoise, NetworkDenoiser):
        if not denoise.needs_alpha or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((denoise.sde, t))):
            return
        with jax.ensure_compile_time_eval():
            zero = np.any(np.asarray(denoise.sde.alpha(t)) == 0)
        if zero:
            raise ValueError(
                f"at t = {t} alpha of {denoise.sde} is 0, where eps or the score says nothing of x_0: start at an "
                "earlier time, or predict v, the velocity or x_0"
            )
    elif sum(map(_is_sde, _parts(denoise))) < 2:  # two: it is carried to another time
        for part in _parts(denoise):
            check_start(part, t)


def _parts(value: Any) -> Iterator[Any]:
    """What a bound function or an object holds; not the parameters of networks, which are in dicts."""
    if inspect.ismethod(value):
        yield value.__self__
    elif isinstance(value, functools.partial):
        yield from (*value.args, *value.keywords.values(), value.func)
    elif isinstance(value, tuple | list):
        yield from value
    elif hasattr(value, "__wrapped__"):  # a jitted function
        yield value.__wrapped__
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type) and not _is_sde(value):
        if not jax.tree_util.all_leaves([value]):
            yield from (getattr(value, name) for name in value.__dataclass_fields__)


def _is_sde(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("alpha", "sigma", "T"))


def _is_network(value: Any) -> bool:
    fn = value.func if isinstance(value, functools.partial) else None
    return inspect.ismethod(fn) and fn.__name__ == "apply" and hasattr(fn.__self__, "init")

"""The package's types: the decorator `pytree` that makes its classes, and the protocols between its layers.

SDEs, samplers, losses, denoisers and time distributions are frozen dataclasses that are also pytrees: every field is a
leaf, and so an argument of a compiled function, unless it is marked `static()`. Everything else is a pure function;
`jax.tree_util.Partial` binds one to such objects, and the result is a pytree again. Nothing has to inherit from the
protocols: an object with their methods will do.

Time runs from data at t = 0 to noise at t = sde.T. `x` is `[B, ...]`, `t` is a scalar or `[B]`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar, dataclass_transform

import jax
import numpy as np
from jax import Array
from jax.tree_util import GetAttrKey, Partial

from diffjax import printing

T = TypeVar("T")
PyTree = Any
Key = Array  # a new-style PRNG key, [] or [B] (one per example)
Time = Array | float  # [] or [B]
Cond = Any  # any pytree; our networks read a dict with the optional entries "label", "scale" [B] and "attend"


def static(**kwargs: Any) -> Any:
    """A dataclass field that decides the program (an order, a count): part of the tree structure, hence hashable."""
    return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def pytree(cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass whose fields are pytree children, but for those marked `static()`.

    A plain function in a field counts as part of the program, as in `as_partial`.

    `jax.tree_util.register_dataclass` (and `flax.struct.dataclass` above it) leaves the class out of the comparison of
    tree structures, so that `jit` can run the code compiled for one object on another with the same fields. The
    registration used here compares the class.

    Raises:
      TypeError: it decorates no class; and when an object is made: a static field is a list or an array.
    """
    if not isinstance(cls, type):
        raise TypeError(f"@pytree decorates a class, without parentheses; got {cls!r}")
    cls.__post_init__ = _checking_statics(getattr(cls, "__post_init__", None))  # type: ignore[attr-defined]
    cls.__hash__ = _hash_of_fields  # type: ignore[method-assign]
    if cls.__repr__ is object.__repr__:
        cls.__repr__ = printing.fields  # type: ignore[method-assign]
    cls = dataclasses.dataclass(frozen=True, repr=False)(cls)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    leaves = tuple(f.name for f in fields if not f.metadata.get("static"))
    statics = tuple(f.name for f in fields if f.metadata.get("static"))

    def flatten(obj):
        return tuple(as_child(getattr(obj, n)) for n in leaves), tuple(getattr(obj, n) for n in statics)

    def flatten_with_keys(obj):
        children, aux = flatten(obj)
        return tuple(zip(map(GetAttrKey, leaves), children, strict=True)), aux

    def unflatten(aux, children):  # past __init__: JAX rebuilds objects from tracers and from placeholder objects
        obj = object.__new__(cls)
        for name, value in zip(leaves + statics, (*children, *aux), strict=True):
            object.__setattr__(obj, name, value)
        return obj

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def _hash_of_fields(self) -> int:
    """By identity where a field is an array, so that `jax.jit(denoise)` takes an object with parameters."""
    try:
        return hash((type(self), *(getattr(self, field.name) for field in dataclasses.fields(self))))
    except TypeError:
        return object.__hash__(self)


def _checking_statics(post_init: Callable | None) -> Callable:
    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata.get("static") and isinstance(value, list | dict | set | np.ndarray | jax.Array):
                raise TypeError(
                    f"{field.name} of {type(self).__name__} is static, and so must be hashable (a number, a string, a "
                    f"tuple, a function); got {type(value).__name__}"
                )
        if post_init is not None:
            post_init(self)

    return __post_init__


def as_partial(fn: Callable) -> Callable:
    """`fn` as a pytree: itself if it is one, else a Partial that holds it as a constant (see `as_child`).

    Raises:
      TypeError: it is no function, a class, or a Flax module (or its `apply`) without parameters.
    """
    if isinstance(fn, type):
        raise TypeError(f"expected a function, got the class {fn.__name__}: did you mean {fn.__name__}()?")
    if not callable(fn):
        raise TypeError(f"expected a function, got {type(fn).__name__}")
    _check_parameters(fn)
    return as_child(fn)


def as_child(value: Any) -> Any:
    """A number, an array or a pytree as it is, and a plain function, a loss or a schedule say, as a Partial of it.

    A method of a pytree becomes a Partial whose argument is that object, so that its arrays are no constants.
    """
    if not callable(value) or not jax.tree_util.all_leaves([value]):
        return value
    if inspect.ismethod(value) and not jax.tree_util.all_leaves([value.__self__]):
        return Partial(value.__func__, value.__self__)
    return Partial(value)


def parts(value: Any) -> Iterator[Any]:
    """What a bound function or an object holds; not the parameters of networks, which are in dicts."""
    if inspect.ismethod(value):
        yield value.__self__
    elif isinstance(value, functools.partial):
        yield from (*value.args, *value.keywords.values(), value.func)
    elif isinstance(value, tuple | list):
        yield from value
    elif hasattr(value, "__wrapped__"):  # a jitted function
        yield value.__wrapped__
    elif dataclasses.is_dataclass(value) and not isinstance(value, type) and not jax.tree_util.all_leaves([value]):
        yield from (getattr(value, field.name) for field in dataclasses.fields(value))


def _check_parameters(fn: Callable) -> None:
    """Raise a TypeError for a Flax module that is not bound to parameters, and for its `apply` alone."""
    if isinstance(fn, functools.partial) and not fn.args and "variables" not in fn.keywords:
        fn = fn.func
    fn = inspect.unwrap(fn, stop=inspect.ismethod)  # a jitted function
    module = fn.__self__ if inspect.ismethod(fn) and fn.__name__ == "apply" else fn
    if isinstance(module, type) or not (hasattr(module, "apply") and hasattr(module, "init")):
        return
    if getattr(module, "scope", None) is None:
        name = type(module).__name__
        raise TypeError(f"the network {name} has no parameters here: bind them by Partial(net.apply, params)")


def check_takes(fn: Callable, what: str, *names: str) -> None:
    """Raise a ValueError, with `what` is expected, unless `fn` can be called with as many arguments as there are names.

    A denoiser where a flow map is wanted, say, would else fail deep inside.
    """
    try:
        signature = inspect.signature(fn)
    except ValueError:
        return  # a builtin does not say what it takes
    try:
        signature.bind(*names)
    except TypeError:
        raise ValueError(f"expected {what} to be called with ({', '.join(names)}), got {fn}") from None


class SDE(Protocol):
    """A Gaussian process x_t = alpha(t) x_0 + sigma(t) eps; everything else is derived in `sde.gaussian`."""

    @property
    def T(self) -> Any: ...  # the prior's time

    @property
    def t_min(self) -> Any: ...  # where sampling stops by default

    def alpha(self, t: Time) -> Array: ...

    def sigma(self, t: Time) -> Array: ...


class Network(Protocol):
    """Any pure function of its parameters; `train` and `rngs` govern dropout.

    `c_noise` is the noise level of each example, `[B]`, always: in training, sampling and likelihoods. For the network
    of a flow map it is a pair, that of t and that of s, each `[B]` (see `flow_maps`).
    """

    def __call__(
        self, params: PyTree, x: Array, c_noise: Any, cond: Cond = None, *, train: bool = False, rngs: Any = None
    ) -> Array: ...


class Denoiser(Protocol):
    """The posterior mean E[x_0 | x_t], shaped like x.

    One with an attribute `sde` must be run under that process (`precondition.check_process`).
    """

    def __call__(self, x: Array, t: Time, cond: Cond = None) -> Array: ...


class FlowMap(Protocol):
    """The solution of the probability-flow ODE carried from time t to time s <= t; see `flow_maps` for objects."""

    def __call__(self, x: Array, t: Time, s: Time, cond: Cond = None) -> Array: ...


class State(Protocol):
    """What a sampler carries from step to step: a NamedTuple with a field `x`."""

    @property
    def x(self) -> Array: ...


class Sampler(Protocol):
    """One step of a solver from time t to time s < t; it may call the denoiser as often as it likes."""

    def init(self, x: Array) -> Any: ...

    def step(self, key: Key, denoise: Denoiser, sde: SDE, state: Any, t: Array, s: Array, cond: Cond) -> Any: ...


@pytree
class Context:
    """Where training stands: all that a loss may depend on besides parameters, key and batch.

    `train.train_step` makes it. A loss made of losses hands it on (`losses.evaluate`), so it reaches every depth, and a
    loss that follows a schedule or compares with an average of the parameters stays a pure function.

    Attributes:
      step: [] the number of steps before this one; None outside of training.
      ema: the averages of the parameters, one for each decay.
      time_distribution: one that learns from the losses, in the place of the loss's own; None: the loss's own.
      opponent: the other network's latest parameters in adversarial training (`train.adversarial_steps`), or None.
      axis: the name of the mapped axis over whose devices the batch is spread; None where the batch is whole.
    """

    step: Array | None = None
    ema: tuple[PyTree, ...] = ()
    time_distribution: Any = None
    opponent: PyTree = None
    axis: str | None = static(default=None)


NO_CONTEXT = Context()


class Loss(Protocol):
    """The loss of each example `[B]`, and a dict of further per-example figures; the mean is taken in `train`.

    `key` is one key, or in training B keys, one for each example. A loss may leave `context` out.
    """

    def __call__(
        self, params: PyTree, key: Key, batch: PyTree, context: Context = NO_CONTEXT
    ) -> tuple[Array, dict[str, Array]]: ...


class Site(NamedTuple):
    """Where an attention layer stands; static. Self-attention has is_cross False."""

    path: tuple[str, ...]
    height: int
    width: int
    is_cross: bool


class Attend(Protocol):
    """What an attention layer does with q, k, v `[B, N, heads, d]`; a pytree, carried in `cond["attend"]`.

    One that changes with time has a method `at(t) -> Attend`, which the denoiser calls.
    """

    def __call__(self, site: Site, q: Array, k: Array, v: Array) -> Array: ...

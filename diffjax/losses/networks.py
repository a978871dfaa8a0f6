"""The network of a loss: checked when the loss is made, and bound to parameters when it is evaluated.

A network is any function `(params, x, c_noise, cond) -> F`, such as `net.apply` of a Flax module. It gets `train` and
`rngs`, for dropout, if it takes them.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flax import errors
from jax import Array
from jax.tree_util import Partial

from diffjax.typing import Key, PyTree


def check_function(value: Any, what: str) -> None:
    """Raise a TypeError unless `value` is a function: no string, number, class, or module in the place of its apply."""
    if isinstance(value, type):
        raise TypeError(f"expected {what}, got the class {value.__name__}")
    if hasattr(value, "apply") and hasattr(value, "init"):
        name = type(value).__name__
        raise TypeError(f"expected {what}, got the module {name} itself: give its function, `net.apply`")
    if not callable(value):
        raise TypeError(f"expected {what}, got {value!r}")


def check_functions(loss: Any, **signatures: str) -> None:
    """Check that the fields of a loss are functions: `check_functions(self, network="(params, x, ...) -> F")`."""
    for name, signature in signatures.items():
        check_function(getattr(loss, name), f"`{name}` to be a function {signature}")


def bind(network: Callable, params: PyTree, train: bool, rngs: dict[str, Key]) -> Partial:
    """The network with its parameters, `(x, c_noise, cond) -> F`, and with `train` and `rngs` where it takes them."""
    if params is None:
        raise TypeError("the parameters are None: give what `net.init` or `nn.init` returned")
    options = {"train": train, "rngs": rngs}
    network = network if isinstance(network, Partial) else Partial(network)
    return Partial(_call, network, params, **{k: v for k, v in options.items() if k in _taken(network)})


def is_apply(network: Any) -> bool:
    """Whether a network is the bound `apply` of a Flax module, which hands its arguments to the module's own call."""
    owner = getattr(_inner(network), "__self__", None)
    return callable(owner) and hasattr(owner, "apply") and hasattr(owner, "init")


def _call(network, params, *args: Any, **options: Any) -> Array:
    if is_apply(network) and not (isinstance(params, Mapping) and isinstance(params.get("params", {}), Mapping)):
        raise ValueError(f"expected the parameters that `net.init` returned, got {type(params).__name__}")
    _check_call(network, args, options)
    try:
        return network(params, *args, **options)
    except (
        errors.ApplyScopeInvalidVariablesTypeError,
        errors.ApplyScopeInvalidVariablesStructureError,
        errors.ScopeParamNotFoundError,
        errors.ScopeParamShapeError,
        errors.ScopeCollectionNotFound,
    ) as error:
        raise ValueError(f"the parameters are not those of this network: {str(error).split(' (https')[0]}") from error


def _check_call(network: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Raise a TypeError unless a Flax module can be called with these arguments; other functions say so themselves."""
    if not is_apply(network) or network.args or network.keywords:
        return
    call = inspect.signature(_inner(network).__self__.__call__)
    try:
        call.bind(*args, **{name: value for name, value in options.items() if name != "rngs"})
    except TypeError as error:
        name = type(_inner(network).__self__).__name__
        raise TypeError(f"a network is called (x, c_noise, cond), but {name} takes {call}: {error}") from None


def _inner(network: Any) -> Any:
    while isinstance(network, functools.partial):
        network = network.func
    return network


def _taken(network: Any) -> set[str]:
    """Which of `train` and `rngs` a network takes; `apply` hands on what the module's own call takes."""
    names: set[str] = set()
    own = _inner(network)
    if is_apply(network):
        names.add("rngs")
        own = type(own.__self__).__call__
    try:
        parameters = inspect.signature(own).parameters
    except ValueError:
        return names
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return {"train", "rngs"}
    return names | ({"train", "rngs"} & set(parameters))

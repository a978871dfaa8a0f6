"""The process that a denoiser was made for: found in it, however it is guided, and compared with another."""

import functools
import inspect
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from diffjax.checks import check_pytree
from diffjax.sde import gaussian
from diffjax.typing import SDE, parts


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
    own = [part for part in parts(denoise) if _is_sde(part)]
    inner = own[0] if own else None
    for part in parts(denoise):
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


def check_start(denoise: Any, ts: Any) -> None:
    """Raise a ValueError if a denoiser's prediction leaves x_0 undetermined at ts[0], where a run starts: alpha = 0.

    That is so for predictions of eps and of the score. `ts` is a grid or a time. Traced numbers pass.
    """
    if hasattr(denoise, "needs_alpha"):
        if not denoise.needs_alpha or any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((denoise.sde, ts))):
            return
        t = np.ravel(ts)[0]
        with jax.ensure_compile_time_eval():
            zero = np.any(np.asarray(denoise.sde.alpha(t)) == 0)
        if zero:
            raise ValueError(
                f"at t = {t} alpha of {denoise.sde} is 0, where eps or the score says nothing of x_0: start at an "
                "earlier time, or predict v, the velocity or x_0"
            )
    elif sum(map(_is_sde, parts(denoise))) < 2:  # two: it is carried to another time
        for part in parts(denoise):
            check_start(part, ts)


def _is_sde(value: Any) -> bool:
    return all(hasattr(value, name) for name in ("alpha", "sigma", "T"))


def _is_network(value: Any) -> bool:
    fn = value.func if isinstance(value, functools.partial) else None
    return inspect.ismethod(fn) and fn.__name__ == "apply" and hasattr(fn.__self__, "init")

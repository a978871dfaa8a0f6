"""A denoiser whose estimate is corrected: `diffjax.corrections` for every solver."""

from collections.abc import Callable

from jax import Array
from jax.tree_util import Partial

from diffjax.precondition import check_process
from diffjax.typing import SDE, Cond, Denoiser, Time, as_partial, check_takes


def corrected(denoise: Denoiser, *corrections: Callable) -> Denoiser:
    """`denoise` followed by corrections `(x_0, t, cond) -> x_0`, in their order.

    The solver takes the noise from the corrected estimate, so a correction by d moves a step from t to s by
    (alpha_s - alpha_t sigma_s / sigma_t) d: little, if the step is small. MPGD's own step, alpha_s d, is
    `constraints.KeepEps`. Without a correction it is `denoise`.

    Raises:
      TypeError: a correction is no function.
      ValueError: it does not take (x_0, t, cond), or holds another process than the denoiser's.
    """
    for correction in corrections:
        check_takes(as_partial(correction), "a correction", "x0", "t", "cond")
        if hasattr(correction, "sde"):
            check_process(denoise, correction.sde)
    return Partial(_corrected, as_partial(denoise), tuple(as_partial(c) for c in corrections))


def corrected_prediction(
    prediction: Callable, corrections: tuple[Callable, ...], sde: SDE, network: Callable
) -> Denoiser:
    """`corrected(prediction(sde, network), *corrections)`: a `Model`'s prediction, if the first two are bound."""
    return corrected(prediction(sde, network), *corrections)


def _corrected(denoise, corrections, x: Array, t: Time, cond: Cond = None) -> Array:
    x0 = denoise(x, t, cond)
    for correct in corrections:
        x0 = correct(x0, t, cond)
    return x0

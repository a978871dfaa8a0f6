"""The probability-flow ODE by an adaptive Runge-Kutta method on the device (Song et al. 2021, App. D.2; diffrax).

Every example has its own step sizes and its own error control, so that neither its result nor its number of evaluations
depends on its neighbours in the batch.
"""

from typing import NamedTuple

import diffrax
import jax
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.checks import check_number
from diffjax.conditions import as_cond, batch_axes, one_example
from diffjax.precondition import check_start
from diffjax.samplers.arguments import as_state, check_model
from diffjax.sde import gaussian
from diffjax.times.grids import check_times
from diffjax.typing import SDE, Cond, Denoiser, Time, as_partial

MAX_STEPS = 4096


class ODESolution(NamedTuple):
    x: Array  # [B, ...] at the end time
    nfe: Array  # [B] evaluations of the denoiser


def sample_ode(
    denoise: Denoiser,
    sde: SDE,
    x: Array,
    cond: Cond = None,
    *,
    t_start: Time | None = None,
    t_end: Time | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> ODESolution:
    """Solve the probability-flow ODE from t_start (default T) to t_end (default t_min); t_end > t_start inverts.

    The method is Dormand-Prince 5(4): order 5, six evaluations a step, of which `nfe` counts all. Elsewhere:
    Score-SDE's `get_ode_sampler` (SciPy's RK45). Compiled once for each combination of types and shapes.

    Args:
      x: the state at t_start, [B, ...].
      cond: a condition whose arrays have the examples as first axis; scalars and shared entries are for all.
      rtol, atol: tolerances of each step, on the root mean square over an example's entries.

    Raises:
      ValueError: a time lies outside [0, sde.T], a tolerance is not above 0, x is no float array, or the denoiser was
        made for another SDE.
      TypeError: a time or a tolerance is no number, or the denoiser no function.
      FloatingPointError: an example was not solved in 4096 steps, as when the denoiser returns NaN.
    """
    x = as_state(x)
    cond = as_cond(cond)
    check_model(denoise, sde, cond, x)
    t_start = sde.T if t_start is None else t_start
    t_end = sde.t_min if t_end is None else t_end
    for name, t in (("t_start", t_start), ("t_end", t_end)):
        check_number(name, t)
        check_times(t, sde)
        check_start(denoise, t)
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        check_number(name, tolerance, 0, above=True)
    x, nfe, arrived = _solve(as_partial(denoise), sde, x, cond, t_start, t_end, rtol, atol)
    check_arrival(arrived)
    return ODESolution(x, nfe)


@jax.jit
def _solve(denoise, sde, x, cond, t_start, t_end, rtol, atol):
    def one(x, cond):
        def velocity(t, y, _):
            return gaussian.velocity_from_x0(sde, y[None], t, denoise(y[None], t, one_example(cond)))[0]

        return integrate(velocity, x, t_start, t_end, rtol, atol)

    return jax.vmap(one, in_axes=(0, batch_axes(cond)))(x, cond)


def integrate(slope, y, t_start: Time, t_end: Time, rtol, atol):
    """Dormand-Prince 5(4) from t_start to t_end for one example: y at t_end, evaluations, whether it got there."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(slope),
        diffrax.Dopri5(),
        t_start,
        t_end,
        None,
        y,
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=diffrax.PIDController(rtol, atol),
        max_steps=MAX_STEPS,
        throw=False,
    )
    arrived = solution.result == diffrax.RESULTS.successful
    # first-same-as-last: 6 evaluations a step, 1 to begin with, 1 to choose the first step
    return jax.tree.map(lambda leaf: leaf[0], solution.ys), 6 * solution.stats["num_steps"] + 2, arrived


def check_arrival(arrived: Array) -> None:
    """Raise where examples did not reach the end time; traced values pass, and hold what diffrax left (inf or NaN)."""
    if not isinstance(arrived, Tracer) and not np.all(arrived):
        raise FloatingPointError(
            f"the ODE of examples {np.flatnonzero(~np.asarray(arrived)).tolist()} was not solved in {MAX_STEPS} steps: "
            "look for NaN in x and in the denoiser's output, or raise the tolerance"
        )

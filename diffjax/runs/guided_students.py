"""Guidance distilled in: one student for all scales, in few steps and one network call each.

    (1) teacher:  one step of Heun's method, or DDIM's, with D(null) + w (D(cond) - D(null)), from t to s
    (2) student:  f(x, t, cond, w), by consistency distillation of (1), with w drawn for each example

The scale w as an input is Meng et al.'s (2023), consistency distillation of the guided step LCM's (Luo et al. 2023).
The student has the teacher's parameters, and a matrix that embeds w and begins at zero: at first it is the unguided
teacher in one step. It lives in the cosine clock, where f = alpha x - sigma F is x itself at t = 0, as LCM's is by
c_skip and c_out. LCM steps by DDIM over 50 intervals, uniform in its teacher's time, and has a Huber distance of x_0;
here errors are counted in v (`losses.distillation.error_in_v`): in x_0 students of few steps were far worse
(`experiments/few_step.py`).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from diffjax import flow_maps, guidance, losses, nn, precondition, times
from diffjax.losses import distillation as d
from diffjax.model import Model
from diffjax.parameters import graft, takes_scale
from diffjax.runs.student_run import Method, StudentRun
from diffjax.samplers import Renoise
from diffjax.sde import Cosine
from diffjax.train.state import EmaDecay

COSINE = Cosine()
SOLVERS = {"heun": flow_maps.heun_step, "ddim": flow_maps.ddim_step}
EMBEDDED = 256  # LCM's channels of the scale, in networks that have a field for them


def distil(
    model: Model,
    scales: tuple[float, float],
    run: StudentRun,
    ema: tuple[EmaDecay, ...],
    intervals: int = 16,
    solver: Literal["heun", "ddim"] = "heun",
) -> Model:
    """The student of a conditional model's guidance, `sample(..., guidance_scale=w)` for the least w to the greatest.

    Args:
      model: predicts v; its null condition is the guidance's.
      scales: the least and the greatest.
      run: how it is trained, on batches of x_0 and conditions.
      intervals: of the grid, equal steps in angle, of which the teacher takes one.

    Raises:
      ValueError: the model predicts something else, or is a student itself.
    """
    net, params = with_scale(model, next(run.batches(0)))
    if model.prediction is not precondition.from_v:
        raise ValueError(f"guidance is distilled from a model that predicts v at 999 t/T, got {model.prediction}")
    predict = partial(precondition.from_v, c_noise=precondition.clock(model.sde))
    loss = losses.DrawScale(consistency(model, net, predict, intervals, solver), *scales)
    params = run.fit("student", Method(COSINE, loss, predict, ema=ema), params)
    fields: dict[str, Any] = dict(sampler=Renoise(1.0), steps=1, codec=model.codec, scales=tuple(map(float, scales)))
    return Model(net, params, COSINE, predict, model.shape, **fields)


def consistency(model: Model, net: Any, predict: Any, intervals: int, solver: str) -> d.Consistency:
    """The loss of (2) for the network `net`, on batches with a scale for each example."""
    denoise = predict(COSINE, Partial(model.network.apply, model.params))
    teacher = SOLVERS[solver](COSINE, guidance.cfg_of_scale(denoise, model.null))
    pairs = times.Neighbours(times.uniform(COSINE, intervals, t_min=0.0))
    return d.Consistency(COSINE, pairs, net.apply, predict, teacher, weight=d.error_in_v)


def with_scale(model: Model, batch: dict[str, Any]) -> tuple[Any, Any]:
    """The network of a student and its first parameters, the model's; `batch` is one of training.

    Raises:
      ValueError: the model has a scale already.
    """
    if takes_scale(model.params):
        raise ValueError("the model is a student of guidance itself: its network takes a scale already")
    net = model.network.clone(guidance_width=EMBEDDED) if hasattr(model.network, "guidance_width") else model.network
    params = nn.init(net, jax.random.key(0), batch | {"scale": jnp.ones(1)})
    return net, graft(params, model.params)

"""Checks of what constraints are made of: samplers that take a denoiser, and measurements with a decomposition."""

from typing import Any

import jax
from jax import Array

from diffjax.checks import check_has
from diffjax.operators.linear import require_svd
from diffjax.samplers.arguments import check_sampler, held
from diffjax.samplers.jump import Jump


def check_denoises(sampler: Any, method: str) -> None:
    """Raise a TypeError unless `sampler` is a sampler that evaluates a denoiser, which `Jump` does not."""
    check_sampler(sampler)
    if isinstance(sampler, Jump):
        raise TypeError(f"{method} evaluates a denoiser (x, t, cond) -> x_0, and Jump a flow map: take Renoise or DDIM")
    for part in held(sampler):
        check_denoises(part, method)


def check_measurement(measurement: Any, method: str) -> None:
    """Raise a TypeError unless `measurement` is one by a linear operator with its singular value decomposition."""
    check_has(
        measurement,
        f"{method} to get a measurement, such as dj.measure(key, operator, x_0),",
        "operator",
        "y",
        "residual",
    )
    require_svd(measurement.operator, method)


def check_fits(measurement: Any, x: Array) -> None:
    """Raise the operator's or the measurement's ValueError where x [B, ...] and y do not fit in shape."""
    jax.eval_shape(measurement.residual, x)

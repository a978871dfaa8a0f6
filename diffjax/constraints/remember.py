"""What constraints share that look at the clean estimate and then move the sampler's result."""

from typing import Any

from jax import Array

from diffjax.typing import Denoiser, Time


def remember(denoise: Denoiser, x: Array, t: Time, x0: Array) -> Denoiser:
    """`denoise`, but x0 for the very arrays x and t: a sampler's evaluation at the state it is given costs nothing."""

    known_x, known_t = x, t

    def recalled(x, t, cond=None):
        return x0 if x is known_x and t is known_t else denoise(x, t, cond)

    return recalled


def moved(state: Any, by: Array) -> Any:
    """The sampler's state with x, and its mean where it has one, moved by an array."""
    return state._replace(**{name: getattr(state, name) + by for name in ("x", "mean") if hasattr(state, name)})

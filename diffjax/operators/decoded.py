"""A measurement of what a latent stands for: y = A(D(z)), for posterior sampling with a latent model."""

from collections.abc import Callable
from typing import Any

from jax import Array

from diffjax.checks import check_has
from diffjax.typing import pytree


@pytree
class Decoded:
    """`operator(decode(z))`: nonlinear even where the operator is linear, as the decoder is."""

    operator: Callable
    decode: Callable  # [B, h, w, c] -> [B, H, W, C]

    def __post_init__(self):
        check_has(self.operator, "an operator, a function of images,", "__call__")
        check_has(self.decode, "a decoder, a function of latents,", "__call__")

    def __getattr__(self, name: str) -> Any:
        if name in ("s", "V", "Vt", "U", "Ut"):
            raise AttributeError(
                "a measurement of decoded latents is not linear: of a latent model take a method that needs no "
                "decomposition of the operator, such as dps or mpgd"
            )
        raise AttributeError(f"Decoded has no attribute {name!r}")

    def __call__(self, z: Array) -> Array:
        return self.operator(self.decode(z))

"""Replacement: what a measurement knows of the image is put in at every step, with the noise of that step.

    (1) V^T x_s <- alpha_s S^+ U^T y + sigma_s V^T z   where the singular value is positive

For a mask these are the known pixels (inpainting), for colour to grey the grey part of every pixel (colorization), in
any orthonormal basis (Song et al. 2021, Appendix I). Wrap the predictor and the corrector each:
`PC(Known(predictor, m), Known(corrector, m))`. Replacement does not condition the unknown part on the known one, and so
is biased however many steps there are; RePaint repairs it (Lugmayr et al. 2022): `TimeTravel(Known(...))` on the grid
`times.repaint(ts)`.

The mean, which `sample` returns at the end, gets the known part itself, and keeps its own unknown part: the original
code took that part from the noisy x, so that its final denoising did not reach the unknown pixels.
"""

from typing import Any

import jax.numpy as jnp
from jax import Array

from diffjax.arrays import normal, split
from diffjax.operators import Mask, Measurement
from diffjax.operators.channels import grey
from diffjax.operators.linear import divide, require_svd
from diffjax.sde import gaussian
from diffjax.typing import Sampler, pytree


@pytree
class Known:
    """`sampler` with the known part replaced (Eq. 1); the measurement counts as free of noise.

    Raises:
      TypeError: the operator has no decomposition.
    """

    sampler: Sampler
    measurement: Measurement

    def __post_init__(self):
        require_svd(self.measurement.operator, "replacement")

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        k_step, k_known = split(key)
        state = self.sampler.step(k_step, denoise, sde, state, t, s, cond)
        A, (alpha, sigma) = self.measurement.operator, gaussian.curves(sde, s, state.x)
        self.measurement.residual(state.x)  # shapes that do not fit are found here
        known = divide(A.Ut(self.measurement.y), A.s)

        def put(known, x):
            return A.V(jnp.where(A.s > 0, known, A.Vt(x))).astype(x.dtype)

        x = put(alpha * known + sigma * A.Vt(normal(k_known, state.x)), state.x)
        means = {"mean": put(known, state.mean)} if hasattr(state, "mean") else {}
        return state._replace(x=x, **means)


def inpaint(sampler: Sampler, image: Array, mask: Array) -> Known:
    """Fill in `image` [B, H, W, C] where `mask` (broadcasting against it) is 0; 1 is KNOWN, and is kept to the bit."""
    operator = Mask(mask)
    return Known(sampler, Measurement(operator, operator(image)))


def colorize(sampler: Sampler, image: Array) -> Known:
    """Colours for grey images [B, H, W, 1]: each pixel's mean of red, green and blue is kept.

    Raises:
      ValueError: the images do not have one channel.
    """
    if image.ndim != 4 or image.shape[-1] != 1:
        raise ValueError(f"expected grey images [B, H, W, 1], got {image.shape}")
    return Known(sampler, Measurement(grey(), image))

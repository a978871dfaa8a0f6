"""Replacement: the part of the image that a measurement gives is put in at every step, with the noise of that step.

    (1) V^T x_s <- alpha_s S^+ U^T y + sigma_s V^T z   where the singular value is positive

For a mask these are the known pixels (inpainting), for colour to grey the grey part of every pixel (colorization), in
any orthonormal basis (Song et al. 2021, Appendix I). Wrap the predictor and the corrector each:
`PC(Known(predictor, m), Known(corrector, m))`. Replacement does not condition the unknown part on the known one, and so
is biased however many steps there are; RePaint repairs it (Lugmayr et al. 2022): `TimeTravel(Known(...))` on the grid
`times.repaint(ts)`.

At the end, t_min or below, `sample` returns the mean: it gets the known part itself, and keeps its own unknown part.
(The original code took that part from the noisy x, so that its final denoising did not reach the unknown pixels.) A run
that stops above t_min returns x, known part and noise by (1), from which another run goes on.
`KeepNoise(Known(sampler, m))` keeps the noise of both parts at the end too.
"""

from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.arrays import normal, split
from diffjax.checks import check_pictures
from diffjax.constraints.arguments import check_fits, check_measurement
from diffjax.operators import Mask, Measurement
from diffjax.operators.channels import grey
from diffjax.operators.linear import divide
from diffjax.samplers.arguments import check_sampler
from diffjax.samplers.drive import is_end
from diffjax.sde import gaussian
from diffjax.typing import Sampler, pytree


@pytree
class Known:
    """`sampler` with the known part replaced (Eq. 1); the measurement counts as free of noise.

    Raises:
      TypeError: `sampler` is no sampler, or the measurement none by an operator with a decomposition.
    """

    sampler: Sampler
    measurement: Measurement
    invertible: ClassVar[bool] = False

    def __post_init__(self):
        check_sampler(self.sampler)
        check_measurement(self.measurement, "replacement")

    def init(self, x: Array) -> Any:
        return self.sampler.init(x)

    def step(self, key, denoise, sde, state, t, s, cond):
        check_fits(self.measurement, state.x)
        k_step, k_known = split(key)
        state = self.sampler.step(k_step, denoise, sde, state, t, s, cond)
        A, (alpha, sigma) = self.measurement.operator, gaussian.curves(sde, s, state.x)
        known = divide(A.Ut(self.measurement.y), A.s)

        def put(known, x):
            return A.V(jnp.where(A.s > 0, known, A.Vt(x))).astype(x.dtype)

        x = put(alpha * known + sigma * A.Vt(normal(k_known, state.x)), state.x)
        means = {"mean": put(jnp.where(is_end(sde, s), 1, alpha) * known, state.mean)} if hasattr(state, "mean") else {}
        return state._replace(x=x, **means)


def inpaint(sampler: Sampler, image: Array, mask: Array) -> Known:
    """Fill in `image` [B, H, W, C] where `mask` is 0; 1 is KNOWN, and is kept to the bit.

    Args:
      image: floats in [-1, 1]; what it holds where the mask is 0 plays no part. Data [B, ...] of other shapes do too.
      mask: 0 or 1, [H, W, C] or [B, H, W, C], where any of the axes may have length 1.

    Raises:
      TypeError: the image is not of floats.
      ValueError: a known pixel is not finite, or beyond 20; the mask has other values than 0 and 1, or another shape.
    """
    check_sampler(sampler)
    operator, shape = Mask(mask), np.shape(image)
    sizes = np.shape(mask)
    full = (1,) * (len(shape) - len(sizes)) + sizes
    if len(sizes) < len(shape) - 1 or any(n not in (1, N) for n, N in zip(full, shape, strict=True)):
        raise ValueError(
            f"the mask of images {shape} must be {shape[1:]} or {shape}, where axes may have length 1, got {sizes}: "
            "give a mask [H, W] its channel, mask[..., None]"
        )
    if len(shape) == 4:
        image = jnp.asarray(image)
        image = jnp.where(operator.s > 0, image, jnp.zeros((), image.dtype))
        check_pictures(image, "the image")
    return Known(sampler, Measurement(operator, operator(image)))


def colorize(sampler: Sampler, image: Array) -> Known:
    """Colours for grey images [B, H, W, 1]: each pixel's mean of red, green and blue is kept.

    Raises:
      TypeError: the images are not of floats.
      ValueError: they do not have one channel, or values that are not finite or beyond 20, as of 0 ... 255.
    """
    check_pictures(image, "the grey image", channels=(1,))
    return Known(sampler, Measurement(grey(), image))

"""Convolution, differentiated so that a CPU can run its gradients inside a loop.

XLA on CPU has a fast convolution for the operand layouts b01f_01io->b01f only. Other layouts are first transposed into
it, but not inside the body of a `while` or `scan` (jax-ml/jax#12868), and the two gradients that JAX derives from an
NHWC convolution have other layouts: in a scanned training step, or a guided sampler, they run 10 to 100 times slower.
Here the derivative is written so that JAX's own transposition of it lands on the fast layout:

    dx -> conv(dx, w)   with w stored as HWOI, so the transpose reads it, reversed, as HWIO;
    dw -> conv(x, dw)   with x stored as CHWN, dw as IHWO and the result as HWNC, so the transpose reads
                        x as N'HWC', its cotangent as HWI'O' and returns N'HWC'.

A dilation of w stays one in both transposes, on the same layouts (in that of dw it becomes the stride), and as fast.
Values and gradients are the same to the last bit, and jvp, vmap and higher derivatives compose as always.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero
from jax.nn.initializers import variance_scaling

Padding = str | tuple[tuple[int, int], ...]
ZERO = 1e-10  # variance scale of a layer that starts at almost zero


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4))
def conv(x: Array, w: Array, stride: int = 1, padding: Padding = "SAME", dilation: int = 1) -> Array:
    """Cross-correlation of x [B, H, W, I] with w [h, w, I, O], its taps `dilation` pixels apart -> [B, H', W', O]."""
    return _conv(x, w, stride, padding, dilation, ("NHWC", "HWIO", "NHWC"))


@partial(conv.defjvp, symbolic_zeros=True)
def _conv_jvp(stride, padding, dilation, primals, tangents):
    x, w = primals
    dx, dw = tangents
    y = conv(x, w, stride, padding, dilation)
    how = (stride, padding, dilation)
    dy = jnp.zeros_like(y)
    if not isinstance(dx, SymbolicZero):
        dy += _conv(dx, w.swapaxes(2, 3), *how, ("NHWC", "HWOI", "NHWC"))
    if not isinstance(dw, SymbolicZero):
        dz = _conv(x.transpose(3, 1, 2, 0), dw.transpose(2, 0, 1, 3), *how, ("CHWN", "IHWO", "HWNC"))
        dy += dz.transpose(2, 0, 1, 3)
    return y, dy


def _conv(x: Array, w: Array, stride: int, padding: Padding, dilation: int, layouts: tuple[str, str, str]) -> Array:
    dilations = (dilation, dilation)
    return lax.conv_general_dilated(x, w, (stride, stride), padding, rhs_dilation=dilations, dimension_numbers=layouts)


class Conv(nn.Module):
    """A convolution, with bias by default: x [B, H, W, I] -> [B, H / stride, W / stride, features].

    With size 1 it is a dense layer on every pixel, whose gradient a CPU computes faster in this form.

    Attributes:
      scale: the weights start uniform with variance scale / fan_avg (Glorot & Bengio 2010; Ho et al. 2020).
      dilation: distance of neighbouring taps, in pixels.
      fan: "fan_avg" or "fan_in", what `scale` is divided by.
    """

    features: int
    size: int = 3
    scale: float = 1.0
    stride: int = 1
    padding: Padding = "SAME"
    dilation: int = 1
    bias: bool = True
    fan: Literal["fan_avg", "fan_in"] = "fan_avg"
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = variance_scaling(self.scale, self.fan, "uniform")
        w = self.param("kernel", init, (self.size, self.size, x.shape[-1], self.features), self.param_dtype)
        y = conv(x.astype(self.dtype), w.astype(self.dtype), self.stride, self.padding, self.dilation)
        if not self.bias:
            return y
        return y + self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype).astype(self.dtype)

"""The operators of ONNX that `onnx_graph` runs, as functions of arrays; the keyword arguments are the attributes.

What a graph computes of shapes alone stays in NumPy, so that `Reshape` finds numbers when JAX traces it. Convolutions
run on NHWC, the one layout that is fast on a CPU in a loop (`nn.conv`), with kernels that `onnx_graph` has turned once.
`ONLY` lists the attributes that may have one value here, since the graphs read so far have no other.

Source: the operators' specification, onnx/docs/Operators.md, operator sets 18 to 20.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from diffjax.nn.conv import conv as conv_nhwc

ONLY: dict[str, dict[str, Any]] = {
    "AveragePool": {"auto_pad": "NOTSET", "ceil_mode": 0},
    "Conv": {"auto_pad": "NOTSET", "group": 1},
    "Resize": {
        "antialias": 0,
        "coordinate_transformation_mode": "asymmetric",
        "mode": "nearest",
        "nearest_mode": "floor",
        "keep_aspect_ratio_policy": "stretch",
        # of other modes, without effect on the nearest one
        "cubic_coeff_a": -0.75,
        "exclude_outside": 0,
        "extrapolation_value": 0.0,
    },
}


def static(*values: Any) -> bool:
    """Whether all of them are known while JAX traces: NumPy's arrays."""
    return all(isinstance(value, np.ndarray | np.generic) for value in values)


def _np(*values: Any) -> Any:
    return np if static(*values) else jnp


def _ints(value: Any, what: str) -> list[int]:
    if not static(value):
        raise ValueError(f"{what} depends on the values of an input, which are not known while JAX traces")
    return [int(i) for i in np.ravel(value)]


def reshape(x, shape, *, allowzero: int = 0):
    sides = _ints(shape, "the shape")
    return x.reshape([x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(sides)])


def shape(x, *, start: int = 0, end: int | None = None):
    return np.array(x.shape, np.int64)[start:end]


def concat(*values, axis: int):
    return _np(*values).concatenate(values, axis)


def unsqueeze(x, axes):
    return _np(x).expand_dims(x, tuple(_ints(axes, "the axes")))


def squeeze(x, axes=None):
    return _np(x).squeeze(x, None if axes is None else tuple(_ints(axes, "the axes")))


def split(x, sizes=None, *, axis: int = 0, num_outputs: int | None = None):
    if sizes is None:
        if num_outputs is None:
            raise ValueError("Split has neither sizes nor num_outputs")
        each = math.ceil(x.shape[axis] / num_outputs)  # the last one may be smaller
        ends = [min(each * i, x.shape[axis]) for i in range(1, num_outputs)]
    else:
        lengths = _ints(sizes, "the sizes")
        if sum(lengths) != x.shape[axis]:
            raise ValueError(f"the sizes {lengths} of Split do not add up to {x.shape[axis]}")
        ends = list(np.cumsum(lengths)[:-1])
    return tuple(_np(x).split(x, ends, axis))


def gemm(a, b, c=None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0):
    y = (a.T if transA else a) @ (b.T if transB else b)
    y = y if alpha == 1 else alpha * y
    return y if c is None else y + (c if beta == 1 else beta * c)


def divide(a, b):
    if not (jnp.issubdtype(a.dtype, jnp.floating) and jnp.issubdtype(b.dtype, jnp.floating)):
        raise ValueError("Div of integers is not known")
    return a / b


def power(x, e):
    if static(e) and np.size(e) == 1 and float(e) == int(e):
        return lax.integer_pow(jnp.asarray(x), int(e))  # its derivative is right at and below 0
    return x**e


def clip(x, low=None, high=None):
    return jnp.clip(x, low, high)


def softmax(x, *, axis: int = -1):
    return jax.nn.softmax(x, axis)


def einsum(*values, equation: str):
    return jnp.einsum(equation, *values)


def instance_norm(x, scale, bias, *, epsilon: float = 1e-5):
    axes, to = tuple(range(2, x.ndim)), (1, -1) + (1,) * (x.ndim - 2)
    centred = x - x.mean(axes, keepdims=True)
    normal = centred * lax.rsqrt((centred**2).mean(axes, keepdims=True) + epsilon)
    return normal * scale.reshape(to) + bias.reshape(to)


def conv(
    x,
    w,
    b=None,
    *,
    kernel_shape: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    **_,
):
    """x [B, I, ...] with w [..., I, O] (turned, see above) and b [O] -> [B, O, ...], in one or two dimensions."""
    n = x.ndim - 2
    strides, dilations, pads = strides or [1] * n, dilations or [1] * n, pads or [0] * 2 * n
    if w.ndim != x.ndim or w.shape[-2] != x.shape[1] or list(kernel_shape or w.shape[:-2]) != list(w.shape[:-2]):
        raise ValueError(f"a kernel of shape {w.shape} (sizes, inputs, outputs) does not fit {x.shape}")
    if all(k == 1 for k in w.shape[:-2]) and not any(pads) and all(s == 1 for s in strides):
        y = jnp.einsum("bi...,io->bo...", x, w.reshape(w.shape[-2:]))
    elif n == 2 and len(set(strides)) == 1 and len(set(dilations)) == 1:
        padding = ((pads[0], pads[2]), (pads[1], pads[3]))
        y = conv_nhwc(x.transpose(0, 2, 3, 1), w, strides[0], padding, dilations[0]).transpose(0, 3, 1, 2)
    else:
        raise ValueError(f"Conv with a kernel {w.shape[:-2]}, strides {strides} and dilations {dilations} is not known")
    return y if b is None else y + b.reshape(1, -1, *[1] * n)


def average_pool(
    x,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    **_,
):
    """The means of blocks that do not overlap; what is left over at the end of a row or column is dropped."""
    blocks = list(kernel_shape)
    if any(pads or ()) or list(strides or [1] * len(blocks)) != blocks or any(d != 1 for d in dilations or ()):
        raise ValueError("AveragePool is known only with strides like its kernel, without padding and dilation")
    if x.ndim != 2 + len(blocks):
        raise ValueError(f"AveragePool over {blocks} does not fit {x.shape}")
    counts = [side // k for side, k in zip(x.shape[2:], blocks, strict=True)]
    x = x[(..., *(slice(c * k) for c, k in zip(counts, blocks, strict=True)))]
    split_up = [n for pair in zip(counts, blocks, strict=True) for n in pair]
    return x.reshape(*x.shape[:2], *split_up).mean(tuple(range(3, 3 + 2 * len(blocks), 2)))


def resize(x, roi=None, scales=None, sizes=None, **_):
    """Every pixel repeated: `ONLY` leaves the nearest one, whose index is floor(i / scale)."""
    if sizes is not None or scales is None or not static(scales):
        raise ValueError("Resize is known only by scales that are in the file")
    factors = [float(s) for s in np.ravel(scales)]
    if len(factors) != x.ndim or any(f < 1 or f != int(f) for f in factors):
        raise ValueError(f"Resize by {factors} is not known: whole numbers, one for each axis of {x.shape}, are")
    for axis, factor in enumerate(factors):
        x = x if factor == 1 else jnp.repeat(x, int(factor), axis)
    return x


OPERATORS: dict[str, Callable] = {
    "Add": lambda a, b: operator.add(a, b),
    "AveragePool": average_pool,
    "Clip": clip,
    "Concat": concat,
    "Conv": conv,
    "Cos": lambda x: jnp.cos(x),
    "Div": divide,
    "Einsum": einsum,
    "Gemm": gemm,
    "InstanceNormalization": instance_norm,
    "Log": lambda x: jnp.log(x),
    "Mul": lambda a, b: operator.mul(a, b),
    "Pow": power,
    "Reciprocal": lambda x: 1 / x,
    "Reshape": reshape,
    "Resize": resize,
    "Shape": shape,
    "Sigmoid": lambda x: jax.nn.sigmoid(x),
    "Sin": lambda x: jnp.sin(x),
    "Softmax": softmax,
    "Split": split,
    "Sqrt": lambda x: jnp.sqrt(x),
    "Squeeze": squeeze,
    "Sub": lambda a, b: operator.sub(a, b),
    "Unsqueeze": unsqueeze,
}
# the inputs that must be in the file, or follow from shapes: they are no parameters
SHAPES = {"Reshape": (1,), "Resize": (1, 2, 3), "Split": (1,), "Squeeze": (1,), "Unsqueeze": (1,)}

"""Embeddings of the noise level and the class, by which a network is conditioned on them.

A feature map turns c_noise [B] into [B, dim]: `Sinusoidal` (Vaswani et al. 2017, as in Ho et al. 2020) or `Fourier`
(Tancik et al. 2020, as in Song et al. 2021). It has no parameters: it is a value, a field of the network. `Embedding`
adds a row of a class table to the features and sends the sum through the two-layer MLP all our networks share. Adding
before the MLP is the way of Karras et al. (2022), whose linear layer on scaled one-hot labels spans the same functions
as a table: row c is W_c + b, and the null row is b.

The network of a flow map is conditioned on two levels, c_noise = (c_t, c_s). The features of the second enter the first
layer of the MLP through a matrix of their own, "end", which starts at zero: a new network of two levels with the
parameters of one of one level (`parameters.graft`) is the same function, whatever c_s, and learns from there. A student
of a guided teacher is conditioned on the guidance scale, cond["scale"], in the same way by a matrix "guidance" (Meng et
al. 2023).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.nn.initializers import variance_scaling

from diffjax.checks import check_count, check_number


@dataclasses.dataclass(frozen=True)
class Sinusoidal:
    """Sines and cosines of c_noise at `dim // 2` frequencies falling geometrically from 1 to 1 / max_period.

    Meant for c_noise that counts steps, 0..999: frequencies exp(-ln(max_period) i / (dim // 2 - shift)) (Ho et al.
    2020); of one frequency, at dim = 2 or 3, it is 1. An odd dim ends with a feature that is 0, as in their code. They
    are computed in float32 at least, whatever the network's own type: in bfloat16 half of the steps would coincide.

    Attributes:
      shift: 1 in DDPM's code; 0 in Stable Diffusion, where the last frequency is a little above 1 / max_period.
      cosines_first: the order [cos, sin], that of Stable Diffusion, in place of [sin, cos].

    Raises:
      ValueError: dim is below 2, max_period below 1, or shift neither 0 nor 1.
    """

    dim: int = 128
    max_period: float = 1e4
    shift: int = 1
    cosines_first: bool = False

    def __post_init__(self):
        check_count("dim", self.dim, 2, why="a sine and a cosine for each frequency")
        check_number("max_period", self.max_period, 1)
        check_count("shift", self.shift, 0, 1)

    def __call__(self, c_noise: Array) -> Array:  # [B] -> [B, dim]
        half, dtype = self.dim // 2, jnp.promote_types(c_noise.dtype, jnp.float32)
        w = np.exp(-np.log(self.max_period) * np.arange(half) / max(half - self.shift, 1)).astype(dtype)
        waves = sin_cos(c_noise[:, None] * w)
        if self.cosines_first:
            waves = jnp.roll(waves, half, axis=-1)
        return jnp.pad(waves, ((0, 0), (0, self.dim % 2)))


@dataclasses.dataclass(frozen=True)
class Fourier:
    """Random Fourier features sin, cos(2 pi W c_noise), W ~ N(0, scale^2), fixed.

    W is a constant made from `seed`, not a parameter behind a stop-gradient: it stands in no optimizer, average or
    count. Meant for c_noise = ln sigma (NCSN++: scale 16).
    """

    dim: int = 256
    scale: float = 16.0
    seed: int = 0

    def __post_init__(self):
        check_count("dim", self.dim, 2, why="a sine and a cosine for each frequency")
        if self.dim % 2:
            raise ValueError(f"dim must be even, a sine and a cosine for each frequency, got {self.dim}")
        check_number("scale", self.scale, 0)

    def __call__(self, c_noise: Array) -> Array:  # [B] -> [B, dim]
        # NumPy's RandomState never changes its numbers, by policy; jax.random does not, and a checkpoint needs its W
        normal = np.random.RandomState(self.seed).standard_normal(self.dim // 2)
        w = (self.scale * normal).astype(np.float32)
        return sin_cos(2 * jnp.pi * c_noise[:, None] * w)


def sin_cos(angle: Array) -> Array:
    """[B, n] -> [B, 2 n]."""
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Embedding(nn.Module):
    """The vector [B, width] that conditions every block: silu of a two-layer MLP of the noise features and the label.

    Attributes:
      features: the map from c_noise [B] to [B, D].
      width: size of both layers.
      num_classes: 0, or the number of classes; the table has one row more, the null label `num_classes`.

    Raises:
      ValueError: the labels do not fit, or a network initialised with a pair of levels is given one, or one with one
        a pair.
    """

    features: Callable[[Array], Array]
    width: int
    num_classes: int = 0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, c_noise: Array | tuple[Array, Array], label: Array | None, batch: int, scale: Array | None = None
    ) -> Array:
        c_noise, end = c_noise if isinstance(c_noise, tuple) else (c_noise, None)
        if end is None and self.has_variable("params", "end"):
            raise ValueError("this network was initialised for a flow map: c_noise must be a pair (c_t, c_s)")
        if end is not None and not (self.is_initializing() or self.has_variable("params", "end")):
            raise ValueError(
                "this network was initialised with one noise level, but c_noise is a pair (c_t, c_s): initialise it "
                "with a pair; `parameters.graft` carries over parameters that are there"
            )
        if scale is None and self.has_variable("params", "guidance"):
            raise ValueError('this network was initialised with a guidance scale: cond must have a "scale"')
        h = self.features(per_example(c_noise, batch))
        if scale is not None and not (self.is_initializing() or self.has_variable("params", "guidance")):
            raise ValueError(
                'cond has a "scale", but this network was initialised without a guidance scale: initialise it with '
                "one; `dj.parameters.graft` carries over parameters that are there"
            )
        if self.num_classes:
            init = variance_scaling(self.num_classes, "fan_avg", "uniform")  # Karras et al.: rows of W times sqrt(K)
            rows = jnp.broadcast_to(jnp.asarray(self.num_classes if label is None else label), (batch,))
            table = nn.Embed(self.num_classes + 1, h.shape[-1], embedding_init=init, param_dtype=self.param_dtype)
            h = h + table(rows)
        elif label is not None:
            raise ValueError('cond has a "label" but the network has no classes: build it with num_classes > 0')
        for i in range(2):
            init = variance_scaling(1.0, "fan_avg", "uniform")
            types = dict(dtype=self.dtype, param_dtype=self.param_dtype)
            h = nn.Dense(self.width, kernel_init=init, name=f"dense{i}", **types)(h)
            for name, level in (("end", end), ("guidance", scale)):
                if i == 0 and level is not None:
                    to_zero = nn.Dense(self.width, False, kernel_init=nn.initializers.zeros, name=name, **types)
                    h = h + to_zero(self.features(per_example(level, batch)))
            h = nn.silu(h)
        return h


def per_example(c_noise: Array, batch: int) -> Array:
    """c_noise [] or [B] -> [B], float32 at least: in bfloat16 neighbouring levels would coincide.

    Raises:
      ValueError: it has another shape, or is a pair.
    """
    if isinstance(c_noise, tuple):
        raise ValueError("this network takes one noise level, but c_noise is a pair: it cannot be a flow map's")
    c_noise = jnp.asarray(c_noise)
    c_noise = c_noise.astype(jnp.promote_types(c_noise.dtype, jnp.float32))
    if c_noise.shape not in ((), (batch,)):
        raise ValueError(f"c_noise must be a scalar or have shape ({batch},), one per example; got {c_noise.shape}")
    return jnp.broadcast_to(c_noise, (batch,))

"""One transformer block for all: that of Stable Diffusion's U-Net, of CLIP's text tower, and of BERT.

    before   x + f(norm(x)) for each part f: attention to itself, to a context where there is one, a feed-forward layer
             (CLIP, Radford et al. 2021; LDM, Rombach et al. 2022)
    after    norm(x + f(x)) (BERT, Devlin et al. 2019)

The feed-forward layer widens to four times the channels, applies an activation and comes back: `gelu` is the exact one,
x Phi(x); `quick_gelu` x sigmoid(1.702 x), which CLIP-L was trained with; `geglu` splits twice as many channels into a
and b, a gelu(b) (Shazeer 2020).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import variance_scaling

from diffjax.nn.attention import Attention, plain
from diffjax.nn.norm import LayerNorm
from diffjax.typing import Attend

gelu = partial(jax.nn.gelu, approximate=False)  # JAX's default is the tanh form, up to 5e-4 off


def quick_gelu(x: Array) -> Array:
    """x sigmoid(1.702 x), up to 0.02 off `gelu`."""
    return x * jax.nn.sigmoid(1.702 * x)


def geglu(x: Array) -> Array:
    """[..., 2 C] -> [..., C]: the first half times the gelu of the second."""
    value, gate = jnp.split(x, 2, axis=-1)
    return value * gelu(gate)


ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu, "geglu": geglu}


class FeedForward(nn.Module):
    """x [..., C] -> [..., C] through `width` channels (4 C by default)."""

    activation: Literal["gelu", "quick_gelu", "geglu"] = "geglu"
    width: int | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"the activation is one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        init = variance_scaling(1.0, "fan_avg", "uniform")
        types: dict[str, Any] = dict(kernel_init=init, dtype=self.dtype, param_dtype=self.param_dtype)
        width = self.width or 4 * x.shape[-1]
        h = nn.Dense(width * (2 if self.activation == "geglu" else 1), name="wide", **types)(x)
        return nn.Dense(x.shape[-1], name="out", **types)(ACTIVATIONS[self.activation](h))


class TransformerBlock(nn.Module):
    """Tokens x [B, N, C] -> [B, N, C]; `context` [B, M, D] is what the cross-attention of a `cross` block is to.

    Attributes:
      heads: number of heads; C must be a multiple of it.
      cross: whether there is a second attention, to the context; without a context it is to x itself (as in LDM).
      only_cross: whether the first attention is to the context as well (Stable Diffusion's x4 upscaler).
      bias: whether query, key and value layers have one.
      norm: where the normalization stands, see above.
    """

    heads: int
    cross: bool = False
    bias: bool = True
    activation: Literal["gelu", "quick_gelu", "geglu"] = "geglu"
    width: int | None = None
    norm: Literal["before", "after"] = "before"
    epsilon: float = 1e-5
    only_cross: bool = False
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, context: Array | None = None, attend: Attend = plain, size: tuple[int, int] | None = None
    ) -> Array:
        if self.norm not in ("before", "after"):
            raise ValueError(f'norm is "before" or "after", got {self.norm!r}')
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        feed = FeedForward(self.activation, self.width, name="feed", **types)
        first = context if self.only_cross else None
        parts = [lambda h: Attention(self.heads, self.bias, name="self", **types)(h, first, attend, size)]
        if self.cross:
            parts += [lambda h: Attention(self.heads, self.bias, name="cross", **types)(h, context, attend, size)]
        for i, part in enumerate([*parts, feed]):
            norm = LayerNorm(self.epsilon, name=f"norm{i}", **types)
            x = x + part(norm(x)) if self.norm == "before" else norm(x + part(x))
        return x

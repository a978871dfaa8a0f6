"""RefineNet for scores: the networks of NCSN (Song & Ermon 2019, App. A) and NCSNv2 (Song & Ermon 2020, App. B).

A backbone of residual blocks, two to a level, gives maps h_0, h_1, .. h_n. The first levels halve the image; behind
them dilated convolutions widen the view at the same size. From the last level to the first, the cascades of RefineNet
(Lin et al. 2017) join each map with what comes from below:

    r_n = refine(h_n),    r_i = refine(h_i, r_(i+1))                                               (1)

    refine        each map through two residual units; fusion; chained pooling; one residual unit (three for r_0)
    unit(x)       x + conv(elu(conv(elu(x))))                                                      (2)
    fusion        sum over the maps of bilinear(conv(x)), all at the size of h_i                   (3)
    chained pool  x = elu(x);  p_0 = x, p_k = conv(pool(p_(k-1)));  x + p_1 + p_2                  (4)

pool takes 5 x 5 pixels with stride 1. The two papers differ in one field, `levels`:

    levels   network   normalization                      pool      c_noise
    L > 0    NCSN      in every block, a row per level    average   index of the level, 0 the noisiest
    0        NCSNv2    in the backbone, and at the end    maximum   ignored: the network is not conditioned on it

NCSN's output is the score itself, `from_score(sde, net, level(L), scaled=False)`; NCSNv2's is to be divided by sigma
(technique 3), `from_score(sde, net)`. The papers' networks scale data of [0, 1] to 2 x - 1; here x is the network's
input itself. Facts were read from the authors' code (ermongroup/ncsn, ermongroup/ncsnv2); the JAX ncsnv2_64 of
yang-song/score_sde has 2 width channels in r_1 where these have width, and interpolates with aligned pixel centres, not
corners. Two freedoms are taken here: biases start at zero, and a 1 x 1 convolution stands behind a mean, not before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax

from diffjax.checks import check_count
from diffjax.nn import resample
from diffjax.nn.condition import read_cond
from diffjax.nn.conv import Conv
from diffjax.nn.embed import per_example
from diffjax.nn.norm import InstanceNormPlus
from diffjax.nn.unet import check_counts, check_images, check_multipliers
from diffjax.typing import Cond

NCSNConv = partial(Conv, scale=1 / 3, fan="fan_in")  # PyTorch's default for the weights
LINEAR = partial(NCSNConv, bias=False)


def max_pool(x: Array) -> Array:
    """The largest value among 5 x 5 pixels around each: [B, H, W, C], shape kept."""
    return _windows(x, jnp.maximum, -jnp.inf)


def avg_pool(x: Array) -> Array:
    """The mean of 5 x 5 pixels around each, those beyond the border counted as zeros: [B, H, W, C], shape kept."""
    return _windows(x, jnp.add, 0.0) / 25


def _windows(x: Array, op: Callable[[Array, Array], Array], fill: float) -> Array:
    """`op` over windows of 2, 4 and then 5 pixels along H, then W: on a CPU 5 to 15 times faster than XLA's windows."""
    for axis in (1, 2):
        n = x.shape[axis]
        x = jnp.pad(x, [(2, 2) if a == axis else (0, 0) for a in range(4)], constant_values=fill)
        two = op(*(lax.slice_in_dim(x, j, j + n + 2, 1, axis) for j in (0, 1)))
        four = op(*(lax.slice_in_dim(two, j, j + n, 1, axis) for j in (0, 2)))
        x = op(four, lax.slice_in_dim(x, 4, 4 + n, 1, axis))
    return x


class Part(nn.Module):
    """What the parts of the network share: a convolution and a normalization in the right types.

    Attributes:
      levels: as in `RefineNet`.
    """

    levels: int = 0
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @property
    def types(self) -> dict[str, Any]:
        return dict(dtype=self.dtype, param_dtype=self.param_dtype)

    def norm(self, x: Array, level: Array | None) -> Array:
        return InstanceNormPlus(self.levels, **self.types)(x, level)

    def norm_if_ncsn(self, x: Array, level: Array | None) -> Array:
        return self.norm(x, level) if self.levels else x


class Residual(Part):
    """Norm, elu, convolution, twice, and the skip around them: a block of the backbone.

    Attributes:
      features: channels of the result; 0 to keep those of x and the size of the image. Else this is the first block of
        a level: it halves the image, or where dilated keeps its size, and a convolution stands in the skip.
      dilation: of the convolutions.
    """

    features: int = 0
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array, level: Array | None = None) -> Array:
        conv = partial(NCSNConv, dilation=self.dilation, **self.types)
        h = conv(x.shape[-1])(nn.elu(self.norm(x, level)))
        h = conv(self.features or x.shape[-1])(nn.elu(self.norm(h, level)))
        if not self.features:
            return x + h
        if self.dilation > 1:
            return conv(self.features)(x) + h
        # the papers average behind both convolutions; a 1 x 1 convolution may as well stand behind the mean
        return NCSNConv(self.features, 1, **self.types)(resample.down(x, (1, 1))) + resample.down(h, (1, 1))


class Units(Part):
    """`count` residual units, eq. (2), each convolution behind a norm and an elu (NCSN) or an elu (NCSNv2)."""

    count: int = 1

    @nn.compact
    def __call__(self, x: Array, level: Array | None = None) -> Array:
        for _ in range(self.count):
            h = x
            for _ in range(2):
                h = LINEAR(x.shape[-1], **self.types)(nn.elu(self.norm_if_ncsn(h, level)))
            x = x + h
        return x


class Fusion(Part):
    """Maps [B, H_j, W_j, C_j] -> [B, H_0, W_0, features], eq. (3)."""

    features: int = 0

    @nn.compact
    def __call__(self, maps: list[Array], level: Array | None = None) -> Array:
        def adapted(x: Array) -> Array:
            h = NCSNConv(self.features, **self.types)(self.norm_if_ncsn(x, level))
            return resample.bilinear(h, maps[0].shape[1:3])

        first, *rest = map(adapted, maps)
        return sum(rest, first)


class ChainedPool(Part):
    """Chained residual pooling, eq. (4); NCSN normalizes in front of each pool."""

    @nn.compact
    def __call__(self, x: Array, level: Array | None = None) -> Array:
        pool = avg_pool if self.levels else max_pool
        x = path = nn.elu(x)
        for _ in range(2):
            path = LINEAR(x.shape[-1], **self.types)(pool(self.norm_if_ncsn(path, level)))
            x = x + path
        return x


class Refine(Part):
    """One cascade: maps, the largest first, -> [B, H_0, W_0, features], or with the channels of a single map.

    Attributes:
      units: residual units behind the pooling.
    """

    features: int = 0
    units: int = 1

    @nn.compact
    def __call__(self, maps: list[Array], level: Array | None = None) -> Array:
        shared: dict[str, Any] = dict(levels=self.levels, **self.types)
        hs = [Units(count=2, **shared)(x, level) for x in maps]
        h = Fusion(features=self.features, **shared)(hs, level) if len(hs) > 1 else hs[0]
        h = ChainedPool(**shared)(h, level)
        return Units(count=self.units, **shared)(h, level)


class RefineNet(nn.Module):
    """x [B, H, W, C], c_noise [] or [B] -> F [B, H, W, out_channels], float32.

    Attributes:
      levels: the number of noise levels of NCSN, of which c_noise is the index (rounded; outside of 0 .. levels - 1
        the output is NaN); 0 for NCSNv2, which ignores c_noise.
      width: channels of the first level, the papers' ngf; those of level i are width * multipliers[i]. The cascade at
        level i > 0 returns the channels of level i - 1.
      dilations: of the convolutions of each level; a level behind the first halves the image where it is 1.
      out_channels: those of x by default; the number of classes where RefineNet does what it was made for, and
        segments.
      patch: p x p pixels become channels on entry and pixels again on exit: p^2 times less to compute.
      dtype, param_dtype: of the computation and of the parameters.

    Raises:
      ValueError: x is not [B, H, W, C], its sides cannot be halved often enough, c_noise is not [] or [B], `cond` has
        an entry (the network reads none), or there are not as many dilations as multipliers.
    """

    levels: int = 0
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    dilations: tuple[int, ...] = (1, 1, 2, 4)
    out_channels: int | None = None
    patch: int = 1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    cond_keys = frozenset()  # no condition but c_noise, the index of the noise level

    def __post_init__(self):
        check_count("levels", self.levels, 0)
        check_counts(self, "width", "patch")
        check_multipliers(self.multipliers)
        if self.out_channels is not None:
            check_count("out_channels", self.out_channels)
        if len(self.dilations) != len(self.multipliers):
            raise ValueError(f"each level needs a dilation: got {self.dilations} for multipliers {self.multipliers}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, c_noise: Array, cond: Cond = None, train: bool = False) -> Array:
        del train  # there is no dropout
        self._check(x, cond)
        level = jnp.round(per_example(c_noise, x.shape[0])).astype(jnp.int32)
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        shared: dict[str, Any] = dict(levels=self.levels, **types)
        channels = [self.width * m for m in self.multipliers]

        h = NCSNConv(channels[0], name="conv_in", **types)(resample.space_to_depth(x, self.patch))
        maps = []
        for i, dilation in enumerate(self.dilations):
            block = partial(Residual, dilation=dilation, **shared)
            h = block(features=channels[i] if i else 0, name=f"level{i}_block0")(h, level)
            h = block(name=f"level{i}_block1")(h, level)
            maps.append(h)

        below = []
        for i in reversed(range(len(maps))):
            refine = Refine(features=channels[max(i - 1, 0)], units=1 if i else 3, name=f"refine{i}", **shared)
            below = [refine([maps[i], *below], level)]

        h = nn.elu(InstanceNormPlus(name="norm_out", **shared)(below[0], level))
        h = NCSNConv((self.out_channels or x.shape[-1]) * self.patch**2, name="conv_out", **types)(h)
        return resample.depth_to_space(h, self.patch).astype(jnp.float32)

    def _check(self, x: Array, cond: Cond) -> None:
        check_images(x, "the RefineNet")
        factor = self.patch * 2 ** sum(d == 1 for d in self.dilations[1:])
        if x.shape[1] % factor or x.shape[2] % factor:
            raise ValueError(f"height and width must be divisible by {factor} for this RefineNet, got {x.shape[1:3]}")
        read_cond(self, cond, len(x))

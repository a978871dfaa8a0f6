"""The text-conditioned U-Net of latent diffusion: Stable Diffusion 1.x, 2.x and XL, each a configuration of one module.

A pyramid of residual blocks with transformers on their pixels, which attend to the states of a text (Rombach et al.
2022, section 3.3). What the models add to it are fields:

    pooled_width, size_count   one vector for the text and the sizes of image and crop (SDXL, Podell et al. 2023, 2.2)
    guidance_width             the scale of classifier-free guidance as an input (LCM, Luo et al. 2023, section 4.1)
    num_classes, only_cross    the noise level of the small image, and attention to the text alone (x4 upscaler)
    "control" in cond          what a ControlNet adds to the maps (Zhang et al. 2023), see `nn.controlnet`
    in_channels                more than those of x: cond["concat"] holds the rest (inpainting, depth, InstructPix2Pix)

Sides of any length pass: a level down has half of the pixels, rounded up, and on the way up h takes the size of the map
that is joined to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import variance_scaling

from diffjax.checks import check_count, check_number
from diffjax.nn.attention import plain
from diffjax.nn.condition import read_array, read_cond
from diffjax.nn.conv import ZERO, Conv
from diffjax.nn.embed import Sinusoidal, per_example
from diffjax.nn.latent_blocks import ResidualBlock, SpatialTransformer, Upsample
from diffjax.nn.norm import GroupNorm
from diffjax.nn.unet import check_counts, check_images
from diffjax.typing import Attend, Cond, pytree


@pytree
class Control:
    """What is added to a U-Net's maps: those of the way down, that of the first convolution first, and the middle's."""

    down: tuple[Array, ...]
    middle: Array


class ConditionalUNet(nn.Module):
    """x [B, H, W, C], c_noise [] or [B], cond -> F [B, H, W, out_channels], float32 at least.

    c_noise is the index t = 0 .. 999 of the noise level, which may be fractional. Entries of the condition:

        "context" [B, N, context_width]; "attend", an `Attend`, see `diffjax.nn.attention`
        "pooled" [B, pooled_width], "sizes" [B, size_count] where these fields are not 0
        "label" [B] where there are classes; there is no null label
        "scale" [] or [B], the guidance scale s (that of s F(text) + (1 - s) F(no text)), where guidance_width is not 0
        "concat" [B, H, W, in_channels - C], optional
        "control", a ControlNet's `Control`, optional

    Attributes:
      in_channels: those of x and cond["concat"] together.
      channels: of each level.
      layers: residual blocks of each level on the way down; one more on the way up.
      attention: whether a level has transformers; the middle always has one.
      heads, transformers: of each level, or one number for all: attention heads, and blocks of a transformer.
      context_width: channels of the context.
      context_length: 0, or the number N of its states: a model that was trained on captions padded with zeros to N
        answers to others, whose zeros are fewer or more, as to other captions.
      only_cross: of each level, or one for all levels and the middle: whether both attentions are to the context.
      linear_projection: whether published weights store a transformer's first and last layer as matrices (SD 2, SDXL)
        or as 1 x 1 convolutions (SD 1). It changes no number: `pretrained.stable_diffusion` reads and writes by it.
      pooled_width, size_count, size_width: channels of cond["pooled"], number of cond["sizes"], and channels in which
        each of these is embedded.
      num_classes: 0, or the number of labels.
      guidance_width: 0, or the channels in which the guidance scale is embedded (LCM: 256).
      groups, epsilon: of the norms outside of the transformers.
      dtype, param_dtype: of the computation and of the parameters.

    Raises:
      ValueError: x is not [B, H, W, C], `cond` does not fit, or a field has another number of levels.
    """

    in_channels: int = 4
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    attention: tuple[bool, ...] = (True, True, True, False)
    heads: int | tuple[int, ...] = 8
    transformers: int | tuple[int, ...] = 1
    context_width: int = 768
    context_length: int = 0
    only_cross: bool | tuple[bool, ...] = False
    linear_projection: bool = False
    pooled_width: int = 0
    size_count: int = 0
    size_width: int = 256
    num_classes: int = 0
    guidance_width: int = 0
    dropout: float = 0.0
    groups: int | None = 32
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    null_label = False

    @property
    def cond_keys(self) -> frozenset[str]:
        optional = dict(pooled=self.pooled_width, sizes=self.size_count, label=self.num_classes)
        optional |= dict(scale=self.guidance_width)
        return frozenset({"context", "attend", "concat", "control"} | {key for key, there in optional.items() if there})

    def example_cond(self, shape: tuple[int, int, int]) -> dict[str, Array]:
        """A condition of zeros for one x of `shape`, (H, W, C): with it the network makes its parameters."""
        H, W, C = shape
        cond = {"context": jnp.zeros((1, self.context_length or 1, self.context_width))}
        cond |= {"pooled": jnp.zeros((1, self.pooled_width))} if self.pooled_width else {}
        cond |= {"sizes": jnp.zeros((1, self.size_count))} if self.size_count else {}
        cond |= {"label": jnp.zeros(1, jnp.int32)} if self.num_classes else {}
        cond |= {"scale": jnp.ones(1)} if self.guidance_width else {}
        return cond | ({"concat": jnp.zeros((1, H, W, self.in_channels - C))} if C < self.in_channels else {})

    def __post_init__(self):
        check_counts(self, "in_channels", "out_channels", "layers", "context_width", "size_width")
        for name in ("context_length", "pooled_width", "size_count", "num_classes", "guidance_width"):
            check_count(name, getattr(self, name), 0)
        check_number("dropout", self.dropout, 0, 1)
        if not self.channels:
            raise ValueError("a network has one level or more, got channels = ()")
        for name in ("channels", "attention", "heads", "transformers", "only_cross"):
            value = getattr(self, name)
            if isinstance(value, tuple | list) and len(value) != len(self.channels):
                raise ValueError(f"{name} has a value for each of {len(self.channels)} levels, got {value}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Array, c_noise: Any, cond: Cond = None, train: bool = False) -> Array:
        check_images(x, "the U-Net")
        label, attend, scale = read_cond(self, cond, len(x), train)
        emb = embed(self, c_noise, cond, len(x), label, scale)
        context = read_array(self, cond, "context", (len(x), self.context_length or None, self.context_width))
        layers = Layers(self, emb, context, plain if attend is None else attend, train)
        hs = descend(layers, joined(self, x, cond))
        h = middle(layers, hs[-1])
        if (cond or {}).get("control") is not None:
            h, hs = controlled(h, hs, cond["control"])  # type: ignore[index]
        h = ascend(layers, h, hs)
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        h = nn.silu(GroupNorm(self.groups, self.epsilon, name="norm_out", **types)(h))
        h = Conv(self.out_channels, scale=ZERO, name="conv_out", **types)(h)
        return h.astype(jnp.promote_types(self.dtype, jnp.float32))


class Layers(NamedTuple):
    """What every layer of one call needs; the submodules that its functions make are those of `net`."""

    net: ConditionalUNet
    emb: Array  # [B, 4 channels[0]]
    context: Any  # [B, N, D]
    attend: Attend
    train: bool

    @property
    def types(self) -> dict[str, Any]:
        return dict(dtype=self.net.dtype, param_dtype=self.net.param_dtype)

    def block(self, h: Array, level: int, name: str) -> Array:
        net = self.net
        block = ResidualBlock(
            net.channels[level], net.groups, net.epsilon, dropout=net.dropout, name=name, **self.types
        )
        return block(h, self.emb, self.train)

    def transformer(self, h: Array, level: int, name: str, only_cross: bool) -> Array:
        net = self.net
        heads, blocks = of_level(net.heads, level), of_level(net.transformers, level)
        transformer = SpatialTransformer(heads, blocks, only_cross, net.groups, name=name, **self.types)
        return transformer(h, self.context, self.attend)

    def layer(self, h: Array, level: int, way: str, j: int) -> Array:
        """A residual block, and a transformer where the level has them."""
        h = self.block(h, level, f"{way}{level}_block{j}")
        if not self.net.attention[level]:
            return h
        return self.transformer(h, level, f"{way}{level}_attention{j}", of_level(self.net.only_cross, level))


def of_level(value: Any, level: int) -> Any:
    """A field's value at a level: one number for all, or one for each."""
    return value[level] if isinstance(value, tuple | list) else value


def joined(net: ConditionalUNet, x: Array, cond: Cond) -> Array:
    """x and cond["concat"] on channels, in the network's type.

    Raises:
      ValueError: together they do not have `in_channels` channels.
    """
    concat = read_array(net, cond, "concat", (*x.shape[:3], None), required=False)
    more = 0 if concat is None else concat.shape[-1]
    if x.shape[-1] + more != net.in_channels:
        raise ValueError(
            f"this {type(net).__name__} has in_channels = {net.in_channels}, but x has {x.shape[-1]} and "
            f'cond["concat"] {more or "is absent"}: this network needs a cond["concat"] of '
            f"{max(net.in_channels - x.shape[-1], 0)} channels, and this input in_channels = {x.shape[-1] + more}"
        )
    return x.astype(net.dtype) if concat is None else jnp.concatenate([x, concat], -1).astype(net.dtype)


def embed(net: ConditionalUNet, c_noise: Any, cond: Cond, n: int, label: Any, scale: Any) -> Array:
    """The vector [n, 4 channels[0]] that conditions every residual block."""
    types: dict[str, Any] = dict(dtype=net.dtype, param_dtype=net.param_dtype)
    init, width = variance_scaling(1.0, "fan_avg", "uniform"), 4 * net.channels[0]
    features = Sinusoidal(net.channels[0], shift=0, cosines_first=True)(per_example(c_noise, n))
    if net.guidance_width:
        if scale is None:
            raise ValueError(f'this {type(net).__name__} is conditioned on a guidance scale: cond must have a "scale"')
        w = Sinusoidal(net.guidance_width)(1000 * (per_example(scale, n) - 1))
        to_zero = nn.Dense(net.channels[0], False, kernel_init=nn.initializers.zeros, name="guidance", **types)
        features = features + to_zero(w)
    emb = TwoLayers(width, name="time", **types)(features)
    if net.num_classes:
        if label is None:
            raise ValueError(f'this {type(net).__name__} has {net.num_classes} classes: cond must have a "label"')
        emb = emb + nn.Embed(net.num_classes, width, embedding_init=init, name="classes", **types)(label)
    added = []
    if net.pooled_width:
        added.append(read_array(net, cond, "pooled", (n, net.pooled_width)))
    if net.size_count:
        sizes = per_entry(read_array(net, cond, "sizes", (n, net.size_count)))
        sinusoid = Sinusoidal(net.size_width, shift=0, cosines_first=True)
        added.append(sinusoid(sizes.reshape(-1)).reshape(n, net.size_count * net.size_width))
    if added:
        emb = emb + TwoLayers(width, name="added", **types)(jnp.concatenate(added, -1))
    return emb


def per_entry(sizes: Any) -> Array:
    """float32 at least: bfloat16 would round sizes."""
    return jnp.asarray(sizes).astype(jnp.promote_types(jnp.result_type(float, sizes), jnp.float32))


class TwoLayers(nn.Module):
    """[B, D] -> dense(silu(dense)) [B, width]."""

    width: int
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        types: dict[str, Any] = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        types["kernel_init"] = variance_scaling(1.0, "fan_avg", "uniform")
        return nn.Dense(self.width, name="dense1", **types)(nn.silu(nn.Dense(self.width, name="dense0", **types)(x)))


def descend(layers: Layers, x: Array, added: Array | None = None) -> list[Array]:
    """All maps of the way down, that of the first convolution first, to which a ControlNet's hint is added."""
    net = layers.net
    h = Conv(net.channels[0], name="conv_in", **layers.types)(x)
    hs = [h if added is None else h + added]
    for level, width in enumerate(net.channels):
        for j in range(net.layers):
            hs.append(layers.layer(hs[-1], level, "down", j))
        if level < len(net.channels) - 1:
            conv = Conv(width, stride=2, padding=((1, 1), (1, 1)), name=f"down{level}_conv", **layers.types)
            hs.append(conv(hs[-1]))
    return hs


def middle(layers: Layers, h: Array) -> Array:
    """A residual block, a transformer, a residual block at the lowest level."""
    only_cross, level = layers.net.only_cross, len(layers.net.channels) - 1
    h = layers.block(h, level, "mid_block0")
    h = layers.transformer(h, level, "mid_attention", only_cross if isinstance(only_cross, bool) else False)
    return layers.block(h, level, "mid_block1")


def controlled(h: Array, hs: list[Array], control: Any) -> tuple[Array, list[Array]]:
    """The middle's map and those of the way down with a `Control` added.

    Raises:
      TypeError: it is no `Control`.
      ValueError: its maps are of another number or shape: it belongs to another U-Net, or to another x.
    """
    if not isinstance(control, Control):
        raise TypeError(f'cond["control"] is what a ControlNet returns, a Control, got {type(control).__name__}')
    shapes = [[list(x.shape) for x in maps] for maps in ((*hs, h), (*control.down, control.middle))]
    if shapes[0] != shapes[1]:
        raise ValueError(f"this U-Net has maps of the shapes {shapes[0]}, but its control {shapes[1]}")
    return h + control.middle.astype(h.dtype), [a + b.astype(a.dtype) for a, b in zip(hs, control.down, strict=True)]


def ascend(layers: Layers, h: Array, hs: list[Array]) -> Array:
    """Up again: the maps of the way down are joined on, the last one first."""
    net, hs = layers.net, list(hs)
    for level in reversed(range(len(net.channels))):
        for j in range(net.layers + 1):
            h = layers.layer(jnp.concatenate([h, hs.pop()], -1), level, "up", j)
        if level > 0:
            size = (hs[-1].shape[1], hs[-1].shape[2])
            h = Upsample(name=f"up{level}", **layers.types)(h, size)
    return h

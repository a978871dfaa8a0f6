"""A codec: an autoencoder and the scale of its latents, through which a latent diffusion model sees pictures.

    z = scale (E(x) - shift),    x = D(z / scale + shift)                                          (1)

A diffusion model is trained on z, and `scale` = 1 / (standard deviation of E(x)) brings them to the variance that its
noise schedule is meant for (Rombach et al. 2022, App. G). It is kept here, with the parameters, so that nobody has to
remember it: `codec.encode` and `codec.decode` apply it. Where E returns a distribution, a key draws from it, and its
mode is taken without one. Where there is a codebook, D takes the vectors of it that are nearest.

Large pictures: `tile` runs the network on overlapping tiles and blends them linearly, which is close to the whole
picture's result and not equal to it (a norm's statistics are a tile's own). `batch_size` runs so many examples at a
time, with the same result.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from diffjax.checks import check_count, check_key, check_number, check_pictures, known
from diffjax.typing import Key, PyTree, pytree, static


@pytree
class Codec:
    """Pictures [B, *shape] to latents and back.

    Attributes:
      network: a Flax module with the methods `encode` and `decode`.
      params: its parameters.
      shape: of one picture, (H, W, C). The network may take other sizes too; the channels are these.
      scale, shift: see Eq. 1; numbers, or arrays of one for each channel of the latents.
    """

    network: Any = static()
    params: PyTree = dataclasses.field(metadata={"parameters": True})
    shape: tuple[int, ...] = static()
    scale: Any = 1.0
    shift: Any = 0.0

    def __post_init__(self):
        for method in ("encode", "decode"):
            if not callable(getattr(self.network, method, None)):
                raise TypeError(f"a codec's network is a Flax module with `encode` and `decode`, got {self.network!r}")
        if not (isinstance(self.shape, tuple) and len(self.shape) == 3):
            raise TypeError(f"shape must be that of one picture, such as (32, 32, 3), got {self.shape!r}")
        check_number("scale", self.scale)
        check_number("shift", self.shift)
        if known(self.scale) and not np.all(np.asarray(self.scale) > 0):
            raise ValueError(f"scale, 1 / (standard deviation of the latents), must be positive, got {self.scale}")

    @classmethod
    def measured(cls, network: Any, params: PyTree, images: Any, batch_size: int = 64) -> Codec:
        """The codec whose scale is that of the latents' modes of some images [N, H, W, C] in [-1, 1].

        Raises:
          TypeError, ValueError: the images are no pictures, or their latents are all alike.
        """
        check_pictures(images, "images")
        check_count("batch_size", batch_size)
        raw = cls(network, params, tuple(np.shape(images)[1:]))
        encode = jax.jit(raw.encode)
        parts = [encode(jnp.asarray(images[i : i + batch_size])) for i in range(0, len(images), batch_size)]
        z = np.concatenate([np.asarray(z, np.float64) for z in parts])
        std, spread = float(z.std()), float(z.reshape(-1, z.shape[-1]).std(0).max())  # a constant vector spreads not
        if not (np.isfinite(std) and spread > 1e-6 * std):
            raise ValueError(
                f"the latents of these images vary by {spread:g} about one vector: is the network trained? (A codebook "
                "has collapsed if one of its vectors alone is used.)"
            )
        return raw.replace(scale=1 / std)

    def replace(self, **changes: Any) -> Codec:
        """The codec with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of one latent."""
        return jax.eval_shape(self.encode, jax.ShapeDtypeStruct((1, *self.shape), jnp.float32)).shape[1:]

    def encode(
        self, x: Array, key: Key | None = None, *, tile: int | None = None, batch_size: int | None = None
    ) -> Array:
        """x [B, H, W, C] in [-1, 1] -> z [B, h, w, c] by Eq. 1, drawn from E(x) with a key, its mode without.

        Args:
          tile: the side of tiles in pixels; None for the whole picture at once.
          batch_size: so many examples at a time; None for all at once.

        Raises:
          TypeError, ValueError: x are no pictures with the codec's channels.
        """
        check_pictures(x, "x", channels=self.shape[-1:])
        if key is not None:
            check_key(key)

        def run(x: Array, key: Key | None = None) -> Array:
            code = self.network.apply(self.params, x, method="encode")
            if hasattr(code, "mode"):
                code = code.mode() if key is None else code.sample(key)
            code = getattr(code, "z", code)  # the vectors of a codebook
            for name in ("scale", "shift"):
                if (own := np.shape(getattr(self, name))) not in ((), (1,), code.shape[-1:]):
                    raise ValueError(
                        f"{name} is a number, or one for each of {code.shape[-1]} channels, got {list(own)}"
                    )
            return self.scale * (code - self.shift)

        if key is not None and tile is None and batch_size is None:
            return run(x, key)
        if key is not None:
            raise ValueError("a draw takes the whole picture and the whole batch: leave out tile and batch_size")
        return _in_parts(run, jnp.asarray(x), tile, batch_size)

    def decode(self, z: Array, *, tile: int | None = None, batch_size: int | None = None) -> Array:
        """z [B, h, w, c] -> x [B, H, W, C] by Eq. 1; `tile` is the side of tiles of the latent.

        Raises:
          TypeError: z are integers, such as a codebook's indices.
          ValueError: z is no batch of latents, or holds NaN or infinite values.
        """
        z = jnp.asarray(z)
        if not jnp.issubdtype(z.dtype, jnp.floating):
            raise TypeError(f"latents are floats, as `encode` returns them, got {z.dtype}")
        if z.ndim != 4:
            raise ValueError(f"latents are [B, h, w, c], got the shape {list(z.shape)}")
        if known(z) and not jnp.isfinite(z).all():
            raise ValueError("the latents hold NaN or infinite values")
        return _in_parts(self._decode, z, tile, batch_size)

    def _decode(self, z: Array) -> Array:
        z = z / self.scale + self.shift
        if hasattr(self.network, "quantise"):
            z = self.network.apply(self.params, z, method="quantise").z
        return self.network.apply(self.params, z, method="decode")


def _in_parts(fn: Callable, x: Array, tile: int | None, batch_size: int | None) -> Array:
    if tile is not None:
        check_count("tile", tile)
        fn = partial(tiled, fn, tile=tile)
    if batch_size is None:
        return fn(x)
    check_count("batch_size", batch_size)
    return jax.lax.map(lambda one: fn(one[None])[0], x, batch_size=batch_size)


def tiled(fn: Callable[[Array], Array], x: Array, tile: int, overlap: float = 0.25) -> Array:
    """fn of overlapping square tiles of x [B, H, W, C], blended linearly where they overlap.

    `fn` changes the sides by one factor, such as 8 or 1/8, that divides the tile and its overlap into whole pixels.

    Args:
      tile: their side; pictures that are not larger go through as they are.
      overlap: the share of a tile that it has in common with the next.

    Raises:
      ValueError: overlap is not in [0, 1), or the sides do not divide into whole pixels.
    """
    check_number("overlap", overlap, 0, 1)
    H, W = x.shape[1:3]
    if max(H, W) <= tile:
        return fn(x)
    high, wide = min(tile, H), min(tile, W)
    one = jax.eval_shape(fn, jax.ShapeDtypeStruct((x.shape[0], high, wide, x.shape[3]), x.dtype))
    factor = Fraction(one.shape[1], high)
    stride = max(1, int(tile * (1 - overlap)))
    stride -= stride % factor.denominator
    rows, columns = _starts(H, high, stride, factor), _starts(W, wide, stride, factor)
    places = [(i, j) for i in rows for j in columns]
    tiles = jax.lax.map(fn, jnp.stack([x[:, i : i + high, j : j + wide] for i, j in places]))
    total = jnp.zeros((x.shape[0], int(H * factor), int(W * factor), one.shape[3]), one.dtype)
    weight = np.zeros((*total.shape[1:3], 1), np.float32)
    for (i, j), part in zip(places, tiles, strict=True):
        ramps = (_ramp(one.shape[axis], int((side - stride) * factor)) for axis, side in ((1, high), (2, wide)))
        ramp = np.multiply.outer(*ramps)[..., None]
        a, b = int(i * factor), int(j * factor)
        place = slice(a, a + one.shape[1]), slice(b, b + one.shape[2])
        total = total.at[:, *place].add(part * ramp)
        weight[place] += ramp
    return total / weight


def _starts(size: int, tile: int, stride: int, factor: Fraction) -> list[int]:
    """Where tiles begin along an axis; the last one ends with it."""
    if size * factor % 1 or stride < 1 or (size - tile) * factor % 1:
        d = factor.denominator
        raise ValueError(
            f"sides of {size} and tiles of {tile} pixels do not divide into whole pixels by {factor}: take multiples "
            f"of {d}, and of tiles of which a quarter overlaps {4 * d} or more"
        )
    return sorted({*range(0, size - tile, stride), size - tile})


def _ramp(n: int, overlap: int) -> np.ndarray:
    """n weights that rise over `overlap` pixels and fall over as many, all positive."""
    overlap = max(overlap, 1)
    i = np.arange(n) + 1.0
    return (np.minimum(np.minimum(i, i[::-1]), overlap) / overlap).astype(np.float32)

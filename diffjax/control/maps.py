"""Attention maps: which pixels attend to which words, in one evaluation of a denoiser (Tang et al. 2023, "DAAM")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from diffjax.nn.attention import plain, probabilities
from diffjax.typing import Attend, Cond, Denoiser, Site, Time


def attention_maps(denoise: Denoiser, x: Array, t: Time, cond: Cond) -> dict[Site, Array]:
    """The probabilities [B, heads, N, M] of each attention layer under `cond`, an entry "attend" of it included.

    Of a denoiser with guidance they are those under the condition, as the null condition has no "attend". Call it under
    `jax.jit`; it evaluates the denoiser once.

    Raises:
      TypeError: `cond` is no dict.
      ValueError: the denoiser has no attention.
    """
    if not isinstance(cond, dict):
        raise TypeError(f"expected a condition such as {{'context': states}}, got {cond!r}")
    found: dict[Site, Array] = {}
    denoise(x, t, {**cond, "attend": _Record(cond.get("attend", plain), found)})
    if not found:
        raise ValueError("the denoiser evaluated no attention layer, so there are no maps")
    return found


def word_maps(maps: Mapping[Site, Array], height: int) -> Array:
    """Cross-attention to each token, averaged over heads and over the layers of one height: [B, height, width, M].

    Raises:
      ValueError: no cross-attention has that height; the message names those there are.
    """
    chosen = [(site, p) for site, p in maps.items() if site.is_cross and site.height == height]
    if not chosen:
        heights = sorted({site.height for site in maps if site.is_cross})
        raise ValueError(f"no cross-attention is {height} pixels high; there are some of {heights}")
    each = [p.mean(1).reshape(len(p), site.height, site.width, -1) for site, p in chosen]
    return jnp.stack(each).mean(0)


class _Record:
    """An `Attend` that does what `inner` does, and writes down its probabilities."""

    def __init__(self, inner: Attend, found: dict[Site, Array]):
        self.inner, self.found = inner, found

    def at(self, t: Time) -> _Record:
        inner: Any = self.inner
        return _Record(inner.at(t) if hasattr(inner, "at") else inner, self.found)

    def __call__(self, site: Site, q: Array, k: Array, v: Array) -> Array:
        own: Callable | None = getattr(self.inner, "probabilities", None)
        self.found[site] = probabilities(q, k) if own is None else own(site, q, k)
        return self.inner(site, q, k, v)

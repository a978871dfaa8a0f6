"""The networks of the papers, and a small one, as configurations of `UNet`."""

from __future__ import annotations

from typing import Any

from diffjax.nn.embed import Fourier, Sinusoidal
from diffjax.nn.unet import UNet


def small(channels: int = 1, **changes: Any) -> UNet:
    """A net for a CPU"""
    del channels
    fields = dict(features=Sinusoidal(64), width=32, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0, patch=2)
    return UNet(**{**fields, **changes})

"""Corrections `(x_0, t, cond) -> x_0` of a clean estimate: no network of noise levels is differentiated or called.

A correction enters sampling in one of two ways. `guidance.corrected(denoise, correction)` makes a denoiser of it, for
every solver; `constraints.KeepEps(sampler, correction)` keeps the noise that the uncorrected estimate stands
for, as MPGD and DDNM do.
"""

from diffjax.corrections.gradient import Decoded as Decoded
from diffjax.corrections.gradient import Gradient as Gradient
from diffjax.corrections.gradient import LatentGradient as LatentGradient
from diffjax.corrections.gradient import Through as Through
from diffjax.corrections.projection import Project as Project
from diffjax.corrections.projection import Proximal as Proximal
from diffjax.corrections.threshold import Clip as Clip
from diffjax.corrections.threshold import DynamicThreshold as DynamicThreshold
from diffjax.corrections.window import Window as Window

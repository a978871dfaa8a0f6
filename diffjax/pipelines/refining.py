"""XL's base and its refiner: the base draws down to a level of noise, and the refiner goes on from there."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from diffjax.checks import check_number
from diffjax.pipelines.drawing import Settings, draw
from diffjax.pipelines.stable_diffusion import StableDiffusion
from diffjax.typing import Key


def refined_text_to_image(
    base: StableDiffusion,
    refiner: StableDiffusion,
    key: Key,
    prompts: Sequence[str],
    negative: str | Sequence[str] | None = None,
    settings: Settings = Settings(),
    share: float = 0.8,
) -> np.ndarray:
    """`text_to_image` of two models (Podell et al. 2023, section 2.5): [B, H, W, 3] in [-1, 1].

    One grid of times, the base's, is cut where `share` of the noise levels are passed, and the latents are handed over
    as they are: `denoising_end` and `denoising_start` of diffusers. A solver that remembers steps begins again there.

    Args:
      key, prompts, negative, settings: as in `StableDiffusion.text_to_image`.
      share: of the noise levels that are the base's, 0 to 1.

    Raises:
      ValueError: as `text_to_image`; the two were made for other noise levels, latents or uses, or one gets no step.
    """
    check_number("share", share, 0, 1)
    for pipe in (base, refiner):
        pipe.check_purpose("text")
    N = len(base.schedule.betas)
    same = len(refiner.schedule.betas) == N and np.allclose(base.schedule.betas, refiner.schedule.betas)
    if not same or base.model.shape[-1] != refiner.model.shape[-1] or base.factor != refiner.factor:
        raise ValueError("the base and the refiner have other noise levels or latents: they do not belong together")
    size = base.size_of(settings)
    settings = dataclasses.replace(settings, size=size)
    plan, keys = base.plan(settings), base.keys_of(key, prompts)
    n = len(plan.ts) - 1
    first = int((plan.ts[:-1] - 1 >= round(N - share * N)).sum())
    if not 0 < first < n:
        raise ValueError(f"a share of {share:g} leaves {first} of {n} steps to the base: both need one or more")
    cond = base.encode(prompts, negative, settings)
    start = {"keys": keys}
    z = draw(base.model, plan._replace(ts=plan.ts[: first + 1]), size, settings, start, cond, decoded=False)
    start = {"keys": jax.vmap(jax.random.fold_in, (0, None))(keys, 1), "latents": z}
    cond = refiner.encode(prompts, negative, settings)
    return draw(refiner.model, plan._replace(ts=plan.ts[first:]), size, settings, start, cond)

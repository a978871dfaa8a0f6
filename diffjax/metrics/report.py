"""Fréchet and kernel distances of generated samples from real ones, each beside its floor.

A distance means little alone: it depends on the features and, for the Fréchet distance, on the number of samples. The
floor is the same distance, at the same count, between real samples and other real samples: no model of the right
distribution does better on average.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from diffjax.metrics.frechet import check_features, frechet_distance
from diffjax.metrics.kid import kid


@dataclasses.dataclass(frozen=True)
class Report:
    """Distances of `count` generated samples from `count` real ones; floor: of `count` other real ones from these."""

    count: int
    fd: float
    fd_floor: float
    kid: float
    kid_stderr: float
    kid_floor: float
    kid_floor_stderr: float

    def __str__(self) -> str:
        return (
            f"{self.count} samples: FD {self.fd:.3f} (floor {self.fd_floor:.3f}), "
            f"KID {self.kid:.4f} +- {self.kid_stderr:.4f} (floor {self.kid_floor:.4f} +- {self.kid_floor_stderr:.4f})"
        )


def report(real: Any, generated: Any, held_out: Any = None, seed: int = 0) -> Report:
    """Compare generated features [M, d] with real ones [N, d].

    The reference is `count` samples of `real`. The floor compares it with as many samples of `held_out` (a test set),
    or with others of `real` where that is None. `count` is M, or less where there are not enough real samples: N // 2
    of one real set, and the size of the smallest of two. All sets are shuffled by `seed`.

    Raises:
      ValueError: features are not [N, d], hold NaN, or are too few: four, and more than dimensions.
    """
    real = check_features(real, "real")
    generated = check_features(generated, "generated")
    if held_out is None:
        count = min(len(generated), len(real) // 2)
    else:
        held_out = check_features(held_out, "held_out")
        count = min(len(generated), len(real), len(held_out))
    needed = max(4, real.shape[1] + 1)
    if count < needed:
        raise ValueError(f"only {count} samples can be compared; features of {real.shape[1]} dimensions need {needed}")
    rng = np.random.default_rng(seed)
    real = rng.permutation(real)
    generated = rng.permutation(generated)[:count]
    reference = real[:count]
    other = real[count : 2 * count] if held_out is None else rng.permutation(held_out)[:count]
    block_size = min(500, count // 2)
    distance = kid(generated, reference, block_size)
    floor = kid(other, reference, block_size)
    return Report(
        count=count,
        fd=frechet_distance(generated, reference),
        fd_floor=frechet_distance(other, reference),
        kid=distance.value,
        kid_stderr=distance.stderr,
        kid_floor=floor.value,
        kid_floor_stderr=floor.stderr,
    )

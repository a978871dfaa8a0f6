"""Shares of the steps as times: published windows count steps, a denoiser knows the time."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.checks import check_number


def time_after(ts: Any, share: float) -> float:
    """The time at which the first `share` of the steps of a grid ends.

    A control that acts while t is above it acts in the first floor(share n) of n steps; 0: in none, 1: in all.

    Args:
      ts: times [n + 1] that decrease, as `sample` takes them.

    Raises:
      TypeError, ValueError: the share is no number in [0, 1], or there are not two times that decrease.
    """
    check_number("share", share, 0, 1)
    times = np.asarray(ts)
    if times.ndim != 1 or len(times) < 2 or not (np.diff(times) <= 0).all():
        raise ValueError(f"ts must be times [n + 1] that decrease, n at least 1, got an array {list(times.shape)}")
    return float(times[int(share * (len(times) - 1) + 1e-9)])

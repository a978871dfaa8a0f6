"""Losses `(params, key, batch) -> (per_example [B], aux)`; the mean over the batch is taken in `train`."""

from diffjax.losses import couplings as couplings
from diffjax.losses import weightings as weightings
from diffjax.losses.dsm import DSM as DSM
from diffjax.losses.score_matching import ScoreMatching as ScoreMatching

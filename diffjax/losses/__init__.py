"""Losses `(params, key, batch, context) -> (values [B], aux)`; the mean over the batch is taken in `train`."""

from diffjax.losses import autoencoding as autoencoding
from diffjax.losses import couplings as couplings
from diffjax.losses import distillation as distillation
from diffjax.losses import weightings as weightings
from diffjax.losses.autoencoding import Autoencoded as Autoencoded
from diffjax.losses.autoencoding import Autoencoding as Autoencoding
from diffjax.losses.classification import BinaryCrossEntropy as BinaryCrossEntropy
from diffjax.losses.classification import CrossEntropy as CrossEntropy
from diffjax.losses.classification import PixelCrossEntropy as PixelCrossEntropy
from diffjax.losses.condition import DrawScale as DrawScale
from diffjax.losses.condition import DropCondition as DropCondition
from diffjax.losses.contrastive import InfoNCE as InfoNCE
from diffjax.losses.dsm import DSM as DSM
from diffjax.losses.evaluate import evaluate as evaluate
from diffjax.losses.reconstruction import Reconstruction as Reconstruction
from diffjax.losses.score_matching import ScoreMatching as ScoreMatching
from diffjax.losses.sums import Balanced as Balanced
from diffjax.losses.sums import Delayed as Delayed
from diffjax.losses.sums import LearnedWeight as LearnedWeight
from diffjax.losses.sums import Sum as Sum
from diffjax.losses.vdm import VDM as VDM
from diffjax.losses.vlb import VLB as VLB
from diffjax.losses.vlb import Hybrid as Hybrid

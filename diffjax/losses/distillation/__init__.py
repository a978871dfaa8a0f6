"""Losses of few-step models, distilled from a teacher or learnt without one; see `flow_maps` for what they learn."""

from diffjax.losses.distillation import metrics as metrics
from diffjax.losses.distillation.consistency import Consistency as Consistency
from diffjax.losses.distillation.consistency import even as even
from diffjax.losses.distillation.consistency import rate as rate
from diffjax.losses.distillation.continuous import ContinuousConsistency as ContinuousConsistency
from diffjax.losses.distillation.mean_flow import MeanFlow as MeanFlow
from diffjax.losses.distillation.metrics import PseudoHuber as PseudoHuber
from diffjax.losses.distillation.progressive import Progressive as Progressive
from diffjax.losses.distillation.progressive import halve as halve
from diffjax.losses.distillation.progressive import halvings as halvings
from diffjax.losses.distillation.self_distillation import SelfDistillation as SelfDistillation
from diffjax.losses.distillation.self_distillation import eulerian as eulerian
from diffjax.losses.distillation.self_distillation import lagrangian as lagrangian
from diffjax.losses.distillation.self_distillation import middle as middle
from diffjax.losses.distillation.self_distillation import uniform as uniform
from diffjax.losses.distillation.trajectory import Trajectory as Trajectory

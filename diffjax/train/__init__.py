"""Training: one pure step, the ways to run it, and the loop around it."""

from diffjax.train.checkpoint import CheckpointError as CheckpointError
from diffjax.train.checkpoint import Checkpoints as Checkpoints
from diffjax.train.cost import count as count
from diffjax.train.cost import step_cost as step_cost
from diffjax.train.loop import LoopConfig as LoopConfig
from diffjax.train.loop import fit as fit
from diffjax.train.optim import OptimConfig as OptimConfig
from diffjax.train.optim import adam as adam
from diffjax.train.optim import ema_warmup as ema_warmup
from diffjax.train.optim import levels_ema as levels_ema
from diffjax.train.parallel import jit_train_steps as jit_train_steps
from diffjax.train.parallel import make_mesh as make_mesh
from diffjax.train.parallel import pmap_train_steps as pmap_train_steps
from diffjax.train.parallel import replicate as replicate
from diffjax.train.parallel import shard_batch as shard_batch
from diffjax.train.power_ema import Snapshot as Snapshot
from diffjax.train.power_ema import gamma_of_sigma_rel as gamma_of_sigma_rel
from diffjax.train.power_ema import power_ema as power_ema
from diffjax.train.power_ema import read_snapshots as read_snapshots
from diffjax.train.power_ema import reconstruct as reconstruct
from diffjax.train.state import TrainState as TrainState
from diffjax.train.step import train_step as train_step
from diffjax.train.step import train_steps as train_steps

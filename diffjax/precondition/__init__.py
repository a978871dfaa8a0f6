"""Network -> Denoiser: predictions and preconditionings, noise levels in a network's units, and a denoiser's SDE."""

from diffjax.precondition.call import evaluate as evaluate
from diffjax.precondition.call import operands as operands
from diffjax.precondition.denoisers import NetworkDenoiser as NetworkDenoiser
from diffjax.precondition.denoisers import consistency as consistency
from diffjax.precondition.denoisers import edm as edm
from diffjax.precondition.denoisers import from_eps as from_eps
from diffjax.precondition.denoisers import from_score as from_score
from diffjax.precondition.denoisers import from_v as from_v
from diffjax.precondition.denoisers import from_velocity as from_velocity
from diffjax.precondition.denoisers import from_x0 as from_x0
from diffjax.precondition.denoisers import halves as halves
from diffjax.precondition.denoisers import learned_range as learned_range
from diffjax.precondition.denoisers import of_mean as of_mean
from diffjax.precondition.denoisers import to_score as to_score
from diffjax.precondition.noise_levels import Clock as Clock
from diffjax.precondition.noise_levels import CNoise as CNoise
from diffjax.precondition.noise_levels import clock as clock
from diffjax.precondition.noise_levels import level as level
from diffjax.precondition.noise_levels import log_sigma as log_sigma
from diffjax.precondition.noise_levels import noise_level as noise_level
from diffjax.precondition.noise_levels import per_example as per_example
from diffjax.precondition.noise_levels import quarter_log_sigma as quarter_log_sigma
from diffjax.precondition.noise_levels import scaled_by as scaled_by
from diffjax.precondition.noise_levels import scaled_time as scaled_time
from diffjax.precondition.noise_levels import time as time
from diffjax.precondition.noise_levels import time_index as time_index
from diffjax.precondition.process import check_process as check_process
from diffjax.precondition.process import check_sde as check_sde
from diffjax.precondition.process import check_start as check_start
from diffjax.precondition.process import process_of as process_of

# by these names model cards hold `clock`, `level` and `scaled_by`
from diffjax.precondition.noise_levels import _clock as _clock  # isort: skip
from diffjax.precondition.noise_levels import _level as _level  # isort: skip
from diffjax.precondition.noise_levels import _scaled_by as _scaled_by  # isort: skip

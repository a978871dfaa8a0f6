"""Sampler -> Sampler, and samplers that hold a measurement: what acts on a step's noise, its times or its result."""

from diffjax.constraints.churn import Churn as Churn
from diffjax.constraints.ddrm import DDRM as DDRM
from diffjax.constraints.dps import DPS as DPS
from diffjax.constraints.keep_eps import KeepEps as KeepEps
from diffjax.constraints.keep_eps import ddnm as ddnm
from diffjax.constraints.known import Known as Known
from diffjax.constraints.known import colorize as colorize
from diffjax.constraints.known import inpaint as inpaint
from diffjax.constraints.latent import Latent as Latent
from diffjax.constraints.local_blend import LocalBlend as LocalBlend
from diffjax.constraints.padded import Padded as Padded
from diffjax.constraints.padded import pad_grid as pad_grid
from diffjax.constraints.time_travel import TimeTravel as TimeTravel

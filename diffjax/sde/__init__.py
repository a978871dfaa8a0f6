"""Gaussian processes as two curves: each SDE is a class of 15 to 50 lines, `gaussian` derives everything else."""

from diffjax.sde.beta_table import BetaTable as BetaTable
from diffjax.sde.cosine import Cosine as Cosine
from diffjax.sde.edm import EDM as EDM
from diffjax.sde.flow import Flow as Flow
from diffjax.sde.gaussian import diffusion as diffusion
from diffjax.sde.gaussian import drift as drift
from diffjax.sde.gaussian import logsnr as logsnr
from diffjax.sde.gaussian import perturb as perturb
from diffjax.sde.gaussian import prior_logp as prior_logp
from diffjax.sde.gaussian import prior_sample as prior_sample
from diffjax.sde.gaussian import rescale as rescale
from diffjax.sde.gaussian import transition as transition
from diffjax.sde.interpolant import Interpolant as Interpolant
from diffjax.sde.learned import Learned as Learned
from diffjax.sde.subvp import SubVP as SubVP
from diffjax.sde.ve import VE as VE
from diffjax.sde.vp import VP as VP

"""diffjax: diffusion models in JAX and Flax, from score matching to samplers and likelihoods.

A folder is a type: `sde` (two curves), `nn` (networks), `precondition` (Network -> Denoiser), `flow_maps` (Network ->
FlowMap), `samplers` (one solver a file and one driver), `operators` (measurements), `corrections` (x_0 -> x_0),
`guidance` (Denoiser -> Denoiser), `control` (what attention does), `constraints` (Sampler -> Sampler), `posterior`
(one call a paper), `losses`, `likelihoods` (Denoiser -> log p), `oracle` (exact denoisers), and, imported when they are
first used, `train`, `data`, `metrics`, `plots`, `pipelines` (published models, from prompts to pictures).
"""

import importlib
import importlib.metadata

from diffjax import arrays as arrays
from diffjax import constraints as constraints
from diffjax import control as control
from diffjax import corrections as corrections
from diffjax import flow_maps as flow_maps
from diffjax import formats as formats
from diffjax import guidance as guidance
from diffjax import likelihoods as likelihoods
from diffjax import losses as losses
from diffjax import nn as nn
from diffjax import operators as operators
from diffjax import oracle as oracle
from diffjax import parameters as parameters
from diffjax import posterior as posterior
from diffjax import precondition as precondition
from diffjax import samplers as samplers
from diffjax import sde as sde
from diffjax import times as times
from diffjax.codec import Codec as Codec
from diffjax.constraints import DDRM as DDRM
from diffjax.constraints import DPS as DPS
from diffjax.constraints import Churn as Churn
from diffjax.constraints import KeepEps as KeepEps
from diffjax.constraints import Known as Known
from diffjax.constraints import Latent as Latent
from diffjax.constraints import TimeTravel as TimeTravel
from diffjax.constraints import colorize as colorize
from diffjax.constraints import ddnm as ddnm
from diffjax.constraints import inpaint as inpaint
from diffjax.likelihoods.elbo import ELBO as ELBO
from diffjax.likelihoods.elbo import elbo as elbo
from diffjax.likelihoods.ode import bits_per_dim as bits_per_dim
from diffjax.likelihoods.ode import log_likelihood as log_likelihood
from diffjax.model import Model as Model
from diffjax.model import Trained as Trained
from diffjax.model_files import load as load
from diffjax.model_files import read_card as read_card
from diffjax.model_files import save as save
from diffjax.operators import Measurement as Measurement
from diffjax.operators import measure as measure
from diffjax.oracle import Boxes as Boxes
from diffjax.oracle import Empirical as Empirical
from diffjax.oracle import GaussianMixture as GaussianMixture
from diffjax.samplers import DDIM as DDIM
from diffjax.samplers import DEIS as DEIS
from diffjax.samplers import LMS as LMS
from diffjax.samplers import PC as PC
from diffjax.samplers import PLMS as PLMS
from diffjax.samplers import PNDM as PNDM
from diffjax.samplers import ULA as ULA
from diffjax.samplers import Ancestral as Ancestral
from diffjax.samplers import AnnealedLangevin as AnnealedLangevin
from diffjax.samplers import DPMpp2M as DPMpp2M
from diffjax.samplers import DPMpp2S as DPMpp2S
from diffjax.samplers import DPMpp3M as DPMpp3M
from diffjax.samplers import DPMSolver as DPMSolver
from diffjax.samplers import Euler as Euler
from diffjax.samplers import EulerMaruyama as EulerMaruyama
from diffjax.samplers import Heun as Heun
from diffjax.samplers import Jump as Jump
from diffjax.samplers import KeepNoise as KeepNoise
from diffjax.samplers import Langevin as Langevin
from diffjax.samplers import ODESolution as ODESolution
from diffjax.samplers import Renoise as Renoise
from diffjax.samplers import ReverseDiffusion as ReverseDiffusion
from diffjax.samplers import UniPC as UniPC
from diffjax.samplers import invert as invert
from diffjax.samplers import sample as sample
from diffjax.samplers import sample_ode as sample_ode
from diffjax.samplers.sdedit import sdedit as sdedit
from diffjax.sde import EDM as EDM
from diffjax.sde import VE as VE
from diffjax.sde import VP as VP
from diffjax.sde import BetaTable as BetaTable
from diffjax.sde import Cosine as Cosine
from diffjax.sde import Flow as Flow
from diffjax.sde import Interpolant as Interpolant
from diffjax.sde import Learned as Learned
from diffjax.sde import SubVP as SubVP
from diffjax.sde import gaussian as gaussian
from diffjax.sde import prior_logp as prior_logp
from diffjax.sde import prior_sample as prior_sample
from diffjax.sde import rescale as rescale
from diffjax.typing import pytree as pytree
from diffjax.typing import static as static

LAZY = ("data", "metrics", "pipelines", "plots", "train")  # they take a second to import, and samplers do without them


def __getattr__(name: str):
    if name in LAZY:
        return importlib.import_module(f"diffjax.{name}")
    if name == "__version__":
        return importlib.metadata.version("diffjax")
    raise AttributeError(f"module 'diffjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LAZY, "__version__"})

"""Solvers of the reverse process, one a file, and the driver that runs them."""

from diffjax.samplers.adams_bashforth import DEIS as DEIS
from diffjax.samplers.adams_bashforth import LMS as LMS
from diffjax.samplers.adams_bashforth import PNDM as PNDM
from diffjax.samplers.ancestral import Ancestral as Ancestral
from diffjax.samplers.annealed_langevin import AnnealedLangevin as AnnealedLangevin
from diffjax.samplers.ddim import DDIM as DDIM
from diffjax.samplers.default_grids import default_grid as default_grid
from diffjax.samplers.dpm_solver import DPMSolver as DPMSolver
from diffjax.samplers.dpm_solver_pp import DPMpp2M as DPMpp2M
from diffjax.samplers.dpm_solver_pp import DPMpp2S as DPMpp2S
from diffjax.samplers.dpm_solver_pp import DPMpp3M as DPMpp3M
from diffjax.samplers.drive import invert as invert
from diffjax.samplers.drive import sample as sample
from diffjax.samplers.euler import Euler as Euler
from diffjax.samplers.euler_maruyama import EulerMaruyama as EulerMaruyama
from diffjax.samplers.heun import Heun as Heun
from diffjax.samplers.jump import Jump as Jump
from diffjax.samplers.keep_noise import KeepNoise as KeepNoise
from diffjax.samplers.langevin import Langevin as Langevin
from diffjax.samplers.ode import ODESolution as ODESolution
from diffjax.samplers.ode import sample_ode as sample_ode
from diffjax.samplers.pc import PC as PC
from diffjax.samplers.renoise import Renoise as Renoise
from diffjax.samplers.reverse_diffusion import ReverseDiffusion as ReverseDiffusion
from diffjax.samplers.ula import ULA as ULA
from diffjax.samplers.unipc import UniPC as UniPC

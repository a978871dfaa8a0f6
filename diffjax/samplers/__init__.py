"""Solvers of the reverse process, one a file, and the driver that runs them."""

from diffjax.samplers.ancestral import Ancestral as Ancestral
from diffjax.samplers.ddim import DDIM as DDIM
from diffjax.samplers.drive import sample as sample
from diffjax.samplers.euler import Euler as Euler
from diffjax.samplers.euler_maruyama import EulerMaruyama as EulerMaruyama
from diffjax.samplers.heun import Heun as Heun
from diffjax.samplers.keep_noise import KeepNoise as KeepNoise
from diffjax.samplers.langevin import Langevin as Langevin
from diffjax.samplers.ode import ODESolution as ODESolution
from diffjax.samplers.ode import sample_ode as sample_ode
from diffjax.samplers.pc import PC as PC
from diffjax.samplers.reverse_diffusion import ReverseDiffusion as ReverseDiffusion

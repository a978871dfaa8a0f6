"""What is measured of an image: linear operators with their decomposition, and any differentiable callable."""

from diffjax.operators.channels import Channels as Channels
from diffjax.operators.channels import channels as channels
from diffjax.operators.channels import grey as grey
from diffjax.operators.circular_blur import CircularBlur as CircularBlur
from diffjax.operators.circular_blur import circular_blur as circular_blur
from diffjax.operators.linear import adjoint as adjoint
from diffjax.operators.linear import pinv as pinv
from diffjax.operators.mask import Mask as Mask
from diffjax.operators.matrix import CompressedSensing as CompressedSensing
from diffjax.operators.matrix import Matrix as Matrix
from diffjax.operators.matrix import compressed_sensing as compressed_sensing
from diffjax.operators.matrix import matrix as matrix
from diffjax.operators.matrix import random_projection as random_projection
from diffjax.operators.measurement import Measurement as Measurement
from diffjax.operators.measurement import Misfit as Misfit
from diffjax.operators.measurement import measure as measure
from diffjax.operators.nonlinear import HDR as HDR
from diffjax.operators.nonlinear import NonlinearBlur as NonlinearBlur
from diffjax.operators.nonlinear import PhaseRetrieval as PhaseRetrieval
from diffjax.operators.nonlinear import Quantise as Quantise
from diffjax.operators.separable import Separable as Separable
from diffjax.operators.separable import average_pool as average_pool
from diffjax.operators.separable import bicubic as bicubic
from diffjax.operators.separable import gaussian_blur as gaussian_blur
from diffjax.operators.separable import separable as separable

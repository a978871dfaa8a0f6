"""Times to sample at (grids), and times to train at (laws)."""

from diffjax.times.grids import geometric as geometric
from diffjax.times.grids import karras as karras
from diffjax.times.grids import leading as leading
from diffjax.times.grids import leading_quadratic as leading_quadratic
from diffjax.times.grids import quadratic as quadratic
from diffjax.times.grids import repaint as repaint
from diffjax.times.grids import tail as tail
from diffjax.times.grids import trailing as trailing
from diffjax.times.grids import uniform as uniform
from diffjax.times.grids import uniform_logsnr as uniform_logsnr
from diffjax.times.laws import Fixed as Fixed
from diffjax.times.laws import ImportanceSampled as ImportanceSampled
from diffjax.times.laws import Integers as Integers
from diffjax.times.laws import LogitNormal as LogitNormal
from diffjax.times.laws import LogNormal as LogNormal
from diffjax.times.laws import LossSecondMoment as LossSecondMoment
from diffjax.times.laws import LowDiscrepancy as LowDiscrepancy
from diffjax.times.laws import OneOf as OneOf
from diffjax.times.laws import Uniform as Uniform
from diffjax.times.laws import importance as importance

"""From networks to flow maps: the solution of the probability-flow ODE, carried from time t to any time s <= t at once.

    (1) X(x, t, t) = x,   d/ds X(x, t, s) = v(X(x, t, s), s)                v the velocity dx/dt of the flow
    (2) X(X(x, t, u), u, s) = X(x, t, s)   for s <= u <= t                  semigroup
    (3) d/dt X(x, t, s) + grad X(x, t, s) v(x, t) = 0                       the end does not move along the flow
    (4) X = alpha_s g + sigma_s (x - alpha_t g)/sigma_t                     consistency trajectory (CTM), g(x, t, s)
    (5) X = x - (t - s) u                                                   average velocity u(x, t, s)

(4) is DDIM's step with g in the denoiser's place: in y = x/alpha and r = sigma/alpha Kim et al. (2024) write it as
(r_s/r_t) y + (1 - r_s/r_t) g. At s = 0 it is g, and as s -> t, g becomes the denoiser. (5) is at once MeanFlow's map
(Geng et al. 2025), that of shortcut models (Frans et al. 2024, conditioned on t - s in place of s) and that of Boffi et
al. (2025), X = x + (s - t) phi with phi = u. As s -> t, u becomes v. Both satisfy X(x, t, t) = x by construction.

A flow map is an object, a pytree that carries its SDE:

    flow(x, t, s, cond)          X, for a time t and s of the batch, or of each example
    flow.velocity(x, t, cond)    v of (1), dX/ds at s = t: of (4) and (5) by one evaluation of the network
    flow.diagonal(x, t, cond)    the Denoiser whose flow has this velocity: for (4) g(x, t, t)
    flow.to(s)                   X with s fixed, a Denoiser-shaped consistency function

`ctm`, `average_velocity`, `ddim_step`, `heun_step`, `along`, `guided`, `to_end` make them, and `as_flow_map` one of any
function `(x, t, s, cond)`. A flow map stands in the denoiser's place in `sample` with the sampler `Jump`; other
samplers take its `diagonal`, or `to(0.0)`, with which `Renoise(1.0)` is multistep consistency sampling.

A consistency function maps to the end of the flow only; it is shaped like a Denoiser, and so lives in `precondition`:
`consistency` with the boundary at eps, `edm` with that at 0.

A network of two times is conditioned on a pair of noise levels, c_noise = (c_t, c_s), each [B] (see `nn.embed`). Maps
raise a ValueError for s > t or s < 0, unless times are traced, and where a network does not keep the shape of x.
"""

from diffjax.flow_maps.derived import Guided as Guided
from diffjax.flow_maps.derived import ToEnd as ToEnd
from diffjax.flow_maps.derived import guided as guided
from diffjax.flow_maps.derived import to_end as to_end
from diffjax.flow_maps.flow_map import Consistency as Consistency
from diffjax.flow_maps.flow_map import FlowMap as FlowMap
from diffjax.flow_maps.flow_map import Function as Function
from diffjax.flow_maps.flow_map import as_flow_map as as_flow_map
from diffjax.flow_maps.flow_map import check_map as check_map
from diffjax.flow_maps.flow_map import check_no_map as check_no_map
from diffjax.flow_maps.flow_map import check_order as check_order
from diffjax.flow_maps.levels import Both as Both
from diffjax.flow_maps.levels import Duration as Duration
from diffjax.flow_maps.levels import Levels as Levels
from diffjax.flow_maps.parameterised import AverageVelocity as AverageVelocity
from diffjax.flow_maps.parameterised import ConsistencyTrajectory as ConsistencyTrajectory
from diffjax.flow_maps.parameterised import average_velocity as average_velocity
from diffjax.flow_maps.parameterised import ctm as ctm
from diffjax.flow_maps.parameterised import denoiser_of as denoiser_of
from diffjax.flow_maps.parameterised import diagonal_of as diagonal_of
from diffjax.flow_maps.solvers import Along as Along
from diffjax.flow_maps.solvers import DDIMStep as DDIMStep
from diffjax.flow_maps.solvers import HeunStep as HeunStep
from diffjax.flow_maps.solvers import along as along
from diffjax.flow_maps.solvers import ddim_step as ddim_step
from diffjax.flow_maps.solvers import heun_step as heun_step

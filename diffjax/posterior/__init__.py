"""One call a paper: posterior samplers, (measurement, the paper's constants) -> Posterior, all with one signature.

    x = dj.posterior.dps(m, zeta=0.3).sample(key, denoise, sde, noise)            its own number of steps
    denoise, sampler, ts = dj.posterior.ddrm(m).apply(denoise, sde, ts)           the parts, for `dj.sample`

    call                        needs of the operator     evaluations a step       source
    dps                         a derivative              1, and its gradient      Chung et al. 2023
    mpgd                        a derivative              1                        He et al. 2024
    reconstruction_guidance     a derivative              1, and its gradient      Ho et al. 2022
    pigdm                       its decomposition         1, and its gradient      Song et al. 2023
    moment_matching             its decomposition         1, and k gradients       Rozet et al. 2024
    ddrm, ddnm, ddnm_plus       its decomposition         1                        Kawar et al. 2022; Wang et al. 2023
    diffpir                     its decomposition, noise  1                        Zhu et al. 2023
    replacement                 its decomposition         2                        Song et al. 2021
    repaint                     its decomposition         1, `repeats` times       Lugmayr et al. 2022

A measurement is `dj.measure(key, operator, x_0, noise_std)` or `dj.Measurement(operator, y, noise_std)`. Every call is
a composition of public parts, `guidance`, `corrections` and `constraints`, in three lines: copy them to vary one.
"""

from diffjax.posterior.by_decomposition import ddnm as ddnm
from diffjax.posterior.by_decomposition import ddnm_plus as ddnm_plus
from diffjax.posterior.by_decomposition import ddrm as ddrm
from diffjax.posterior.by_decomposition import diffpir as diffpir
from diffjax.posterior.by_decomposition import repaint as repaint
from diffjax.posterior.by_decomposition import replacement as replacement
from diffjax.posterior.by_gradient import dps as dps
from diffjax.posterior.by_gradient import moment_matching as moment_matching
from diffjax.posterior.by_gradient import mpgd as mpgd
from diffjax.posterior.by_gradient import pigdm as pigdm
from diffjax.posterior.by_gradient import reconstruction_guidance as reconstruction_guidance
from diffjax.posterior.method import Posterior as Posterior
from diffjax.posterior.method import constrained as constrained

"""Denoiser -> Denoiser: whatever changes the posterior mean. The functions nest in any order, under any solver."""

from diffjax.guidance.calibrated import Calibrated as Calibrated
from diffjax.guidance.calibrated import calibrate as calibrate
from diffjax.guidance.cfg import autoguidance as autoguidance
from diffjax.guidance.cfg import cfg as cfg
from diffjax.guidance.cfg import cfg_of_scale as cfg_of_scale
from diffjax.guidance.cfg import compose as compose
from diffjax.guidance.cfg import dual_cfg as dual_cfg
from diffjax.guidance.classifier import classifier as classifier
from diffjax.guidance.classifier import label_log_prob as label_log_prob
from diffjax.guidance.corrected import corrected as corrected
from diffjax.guidance.corrected import corrected_prediction as corrected_prediction
from diffjax.guidance.moments import pigdm_exact as pigdm_exact
from diffjax.guidance.posterior import pigdm as pigdm
from diffjax.guidance.posterior import reconstruction as reconstruction
from diffjax.guidance.switch import interval as interval

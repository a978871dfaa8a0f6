"""Writes `loops.safetensors`: where runs of diffusers' schedulers end, with guidance, from given latents.

Run it where PyTorch and diffusers are installed (the extra "parity"); the tests read the file alone:

    python tests/pipelines/make_loops.py

The U-Net is the case "sd1" of tests/pretrained/stable_diffusion.safetensors. All is computed in float64, what diffusers
has in float32 too, and "noise" of each step is 1 everywhere, for the solvers that draw some. The metadata hold the
class, the configuration and the number of steps of each case; arrays are [B, H, W, C].
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch

torch.float32, np.float32 = torch.float64, np.float64  # what schedulers and sinusoids are computed in

import diffusers  # noqa: E402
from diffusers import UNet2DConditionModel  # noqa: E402
from diffusers.models import embeddings  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

TARGET = Path(__file__).with_name("loops.safetensors")
NETWORK = Path(__file__).parents[1] / "pretrained" / "stable_diffusion.safetensors"
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
OLD = dict(steps_offset=1, set_alpha_to_one=False, clip_sample=False)  # version 1's
PNDM = dict(steps_offset=1, set_alpha_to_one=False, skip_prk_steps=True)
SCALE = 7.5
CASES = {
    "ddim": ("DDIMScheduler", OLD, 5),
    "ddim to 1, v": ("DDIMScheduler", OLD | dict(set_alpha_to_one=True, prediction_type="v_prediction"), 4),
    "ddim trailing": ("DDIMScheduler", OLD | dict(timestep_spacing="trailing"), 5),
    "pndm": ("PNDMScheduler", PNDM, 5),
    "pndm, 7 steps": ("PNDMScheduler", PNDM, 7),
    "euler": ("EulerDiscreteScheduler", dict(timestep_spacing="leading", steps_offset=1), 5),
    "euler linspace, 4 steps": ("EulerDiscreteScheduler", {}, 4),
    "euler linspace": ("EulerDiscreteScheduler", {}, 5),
    "euler trailing": ("EulerDiscreteScheduler", dict(timestep_spacing="trailing"), 5),
    "euler_karras": ("EulerDiscreteScheduler", dict(use_karras_sigmas=True), 5),
    "euler_a": ("EulerAncestralDiscreteScheduler", dict(timestep_spacing="trailing"), 5),
    "heun": ("HeunDiscreteScheduler", dict(timestep_spacing="trailing"), 5),
    "lms": ("LMSDiscreteScheduler", dict(timestep_spacing="trailing"), 7),
    "lms leading": ("LMSDiscreteScheduler", dict(timestep_spacing="leading", steps_offset=1), 5),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}, 5),
    "dpmpp_2m leading": ("DPMSolverMultistepScheduler", dict(timestep_spacing="leading", steps_offset=1), 5),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", dict(use_karras_sigmas=True), 5),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++"), 5),
    "lcm": ("LCMScheduler", dict(clip_sample=False), 4),
}  # fmt: skip


def sinusoid(t, dim, flip_sin_to_cos=False, downscale_freq_shift=1, scale=1, max_period=10000):
    """What diffusers computes, in float64."""
    half = dim // 2
    w = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float64) / (half - downscale_freq_shift))
    angle = scale * t.double()[:, None] * w
    parts = [torch.sin(angle), torch.cos(angle)]
    return torch.cat(parts[::-1] if flip_sin_to_cos else parts, -1)


def network():
    with safe_open(NETWORK, "pt") as file:
        config = json.loads(file.metadata()["sd1"])
        weights = {name.removeprefix("sd1/weights/"): file.get_tensor(name) for name in file.keys() if "sd1/w" in name}
    net = UNet2DConditionModel.from_config(config).double().eval()
    net.load_state_dict({name: x.double() for name, x in weights.items()})
    return net


def run(net, scheduler, n, latents, context):
    scheduler.set_timesteps(n)
    x = latents * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(torch.cat([x, x]), t)
        nothing, text = net(scaled, t.double(), context).sample.chunk(2)
        x = scheduler.step(nothing + SCALE * (text - nothing), t, x).prev_sample
    return x


def main(target):
    torch.set_num_threads(1)
    embeddings.get_timestep_embedding = sinusoid
    classes = {name: getattr(diffusers, name) for name, *_ in CASES.values()}  # they are imported when first asked for
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("diffusers.schedulers") and hasattr(module, "randn_tensor"):
            module.randn_tensor = lambda shape, **_: torch.ones(shape, dtype=torch.float64)
    net, rng = network(), np.random.default_rng(0)
    latents, context = (torch.from_numpy(rng.normal(size=shape)) for shape in ((2, 4, 4, 6), (4, 5, 6)))
    arrays = {"latents": latents.permute(0, 2, 3, 1), "null": context[:2], "context": context[2:]}
    for case, (name, options, n) in CASES.items():
        x = run(net, classes[name](**BETAS, **options), n, latents, context)
        assert x.dtype == torch.float64
        arrays[case] = x.permute(0, 2, 3, 1)
        print(f"{case:<26} {float(x.abs().max()):.4f}")
    metadata = {case: json.dumps([name, BETAS | options, n]) for case, (name, options, n) in CASES.items()}
    save_file({name: x.contiguous().clone() for name, x in arrays.items()}, target, metadata)
    print(target, Path(target).stat().st_size)


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1] if len(sys.argv) > 1 else TARGET)

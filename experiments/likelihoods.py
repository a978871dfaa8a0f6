"""Bits per dimension of one trained network, three ways, and the way back: encoding by DDIM.

    python experiments/likelihoods.py

On the committed VP model of Fashion-MNIST (`score_sde.py`, preset cpu-long) and the same dequantised test images, as
densities, so that the three bound one another's subject:

- the variational bound of a chain of n steps (Ho et al. 2020) with a Gaussian decoder, on a grid of equal times;
- the bound in continuous time (Kingma et al. 2021, Eq. 17), at times drawn uniformly in logsnr;
- log p by the probability-flow ODE (Song et al. 2021), from the same least time.

`8-bit` are the two bounds on the images' grey levels themselves, with the papers' discrete decoders: DDPM's at its
first noise level, VDM's at `first`. They bound another quantity, the mass of a grey level, and may be less than the
rows above: half of all pixels are black, and the open bin of black costs a decoder next to nothing, a density much.

`encode n` is the mean squared error of images that were encoded and decoded in n steps, by DDIM (Song et al. 2021,
DDIM, Table 2) and by DPM-Solver++(2M); the mean and the median over images.

64 test images (128 to encode), two CPU cores, jax 0.10.2, 2026-11-25, six minutes of CPU time; bits per dimension:

    density    elbo, 100 steps 5.37 +- 0.09    1000 steps 4.83 +- 0.12    vdm 4.46 +- 0.12    ode 4.05 +- 0.12
    8-bit      elbo, 100 steps 4.11 +- 0.13    1000 steps 4.32 +- 0.13    vdm 4.24 +- 0.11

    encode       25                 50                 100                200
    DDIM         1.9e-2 (6.8e-3)    5.8e-3 (1.9e-3)    3.1e-3 (5.0e-4)    1.8e-3 (1.3e-4)     mean (median)
    DPM++ 2M     5.2e-4 (7.2e-6)    2.4e-5 (1.2e-7)    4.4e-7 (1.9e-9)    5.0e-9 (3.7e-11)

A few images on which Euler's method errs most make DDIM's means.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import diffjax as dj
from diffjax import data, precondition, times
from diffjax.arrays import flat_mean
from diffjax.likelihoods.elbo import Decoder, discretised_gaussian, gaussian_density, level_softmax, prior_kl
from diffjax.losses import DSM, weightings
from diffjax.runs import experiment, judges
from diffjax.typing import SDE, Denoiser


@dataclasses.dataclass(frozen=True)
class Config:
    images: int = 64
    """Test images."""
    chains: tuple[int, ...] = (100, 1000)
    """Steps of the chains."""
    draws: int = 200
    """Noise levels for each image in continuous time."""
    first: float = 1e-3
    """The time of VDM's decoder of grey levels: its noise is 1.3 of them."""
    encode_images: int = 128
    """Test images to encode."""
    encode: tuple[int, ...] = (25, 50, 100, 200)
    """Steps for the way there and back."""
    tol: float = 1e-4
    """Tolerance of the ODE solver."""
    data_dir: Path | None = None
    seed: int = 0
    workdir: Path = Path("runs/likelihoods")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    model = dj.load("fashion-vp")
    sde, denoise = model.sde, model.denoise
    images = data.load("fashion_mnist", config.data_dir)
    key = jax.random.key(config.seed)
    draw = partial(data.batches, images.test_images, images.test_labels, config.images, seed=0)
    x, noisy = (jnp.asarray(next(draw(dequantise=d))["image"]) for d in (False, True))  # those of `judges.bits`
    summary: dict[str, Any] = {}

    def add(name: str, nats: Array, offset: int = 0) -> None:
        values = nats / (x[0].size * np.log(2)) + offset
        summary.update({name: float(values.mean()), f"{name} +-": float(values.std(ddof=1) / np.sqrt(len(x)))})
        print(f"{name:<24}{summary[name]:.3f} +- {summary[f'{name} +-']:.3f}", flush=True)

    def chain(n: int, x: Array, decoder: Decoder) -> Array:
        return dj.elbo(key, denoise, sde, times.uniform(sde, n, 0.0), x, decoder=decoder).total

    def continuous(t_min: float, x: Array, decoder: Decoder) -> Array:
        distribution = times.UniformLogSNR(sde, t_min)
        loss = DSM(sde, distribution, model.network.apply, precondition.from_v, weightings.simple, train=False)
        return continuous_bound(key, loss, model.params, x, config.draws, decoder)

    for n in config.chains:
        add(f"elbo, {n} steps", chain(n, noisy, gaussian_density), 7)  # 8 bits on [-1, 1]
    add("vdm", continuous(1e-5, noisy, gaussian_density), 7)
    ode = judges.bits(key, denoise, sde, images, config.images, tol=config.tol, t_min=1e-5)
    summary |= {"ode": ode["bits_per_dim"], "ode +-": ode["bits_per_dim_stderr"]}
    for n in config.chains:
        add(f"8-bit elbo, {n} steps", chain(n, x, discretised_gaussian))
    add("8-bit vdm", continuous(config.first, x, level_softmax))
    many = jnp.asarray(data.to_float(images.test_images[: config.encode_images]))
    summary |= there_and_back(config, sde, denoise, many)
    experiment.finish(config.workdir, summary)
    return summary


def there_and_back(config: Config, sde: SDE, denoise: Denoiser, x: Array) -> dict[str, float]:
    """The mean squared error of images encoded and decoded, its mean and median over images."""
    result = {}
    for name, sampler, grid in ("DDIM", dj.DDIM(), times.uniform), ("DPM++ 2M", dj.DPMpp2M(), times.uniform_logsnr):
        for n in config.encode:
            ts = grid(sde, n)
            latent = dj.invert(denoise, sde, sampler, ts, x)
            error = flat_mean((dj.sample(jax.random.key(0), denoise, sde, sampler, ts, latent) - x) ** 2)
            result[f"{name}, encode {n}"] = float(error.mean())
            result[f"{name}, encode {n}, median"] = float(jnp.median(error))
    return result


def continuous_bound(key: Array, loss: DSM, params: Any, x: Array, draws: int, decoder: Decoder) -> Array:
    """VDM's bound in nats, [B]: prior + decoder at t_min + z/2 E |eps - eps_hat|^2, logsnr uniform."""
    distribution, sde = loss.time_distribution, loss.sde

    @jax.jit
    def diffusion(key):
        return 0.5 * distribution.z() * loss(params, key, x)[0] * x[0].size

    nats = jnp.stack([diffusion(k) for k in jax.random.split(key, draws)]).mean(axis=0)
    alpha, sigma = sde.alpha(distribution.t_min), sde.sigma(distribution.t_min)
    z_0 = x + sigma / alpha * jax.random.normal(key, x.shape)
    return nats + prior_kl(sde, x) + decoder(x, z_0, jnp.log(sigma / alpha))


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

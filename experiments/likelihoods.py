"""Bits per dimension of one trained network, three ways, and the way back: encoding by DDIM.

    python experiments/likelihoods.py

On the committed VP model of Fashion-MNIST (`score_sde.py`, preset cpu-long) and the same test images:

- the variational bound of a chain of n steps (Ho et al. 2020), n = 100 and 1000, with a discretised Gaussian decoder;
- the bound in continuous time (Kingma et al. 2021, Eq. 17), at times drawn uniformly in logsnr, with their decoder;
- log p by the probability-flow ODE of dequantised images (Song et al. 2021): the likelihood itself, so the least.

`encode n` is the mean squared error of images that were encoded and decoded by n DDIM steps (Song et al. 2021, DDIM).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

import diffjax as dj
from diffjax import data, evaluate, experiment, precondition, times
from diffjax.elbo import level_softmax, prior_kl
from diffjax.losses import DSM, weightings
from diffjax.nn import presets
from diffjax.weights import load_params

WEIGHTS = Path(__file__).parents[1] / "notebooks" / "fashion_vp.safetensors"


@dataclasses.dataclass(frozen=True)
class Config:
    images: int = 64
    """Test images."""
    chains: tuple[int, ...] = (100, 1000)
    """Steps of the chains."""
    draws: int = 200
    """Noise levels for each image in continuous time."""
    encode: tuple[int, ...] = (25, 50, 100, 200)
    """Steps of DDIM for the way there and back."""
    tol: float = 1e-4
    """Tolerance of the ODE solver."""
    data_dir: Path | None = None
    seed: int = 0
    workdir: Path = Path("runs/likelihoods")


def main(config: Config) -> dict[str, Any]:
    experiment.start(config.workdir, config)
    sde, net, params = dj.VP(), presets.small(), load_params(WEIGHTS)
    denoise = precondition.from_v(sde, Partial(net.apply, params))
    images, key = data.load("fashion_mnist", config.data_dir), jax.random.key(config.seed)
    x = jnp.asarray(data.to_float(images.test_images[: config.images]))
    summary: dict[str, Any] = {}

    def add(name: str, bits: Array) -> None:
        summary.update({name: float(bits.mean()), f"{name} +-": float(bits.std(ddof=1) / np.sqrt(len(bits)))})
        print(f"{name:<16}{summary[name]:.3f} +- {summary[f'{name} +-']:.3f}", flush=True)

    for n in config.chains:
        add(f"elbo, {n} steps", dj.elbo(key, denoise, sde, times.uniform(sde, n, 0.0), x).bits_per_dim(x[0].size).total)
    loss = DSM(sde, times.ImportanceSampled(sde), net.apply, precondition.from_v, weightings.simple, train=False)
    add("vdm", continuous_bound(key, loss, params, x, config.draws))
    ode = evaluate.bits(key, denoise, sde, images, config.images, tol=config.tol)
    summary |= {"ode": ode["bits_per_dim"], "ode +-": ode["bits_per_dim_stderr"]}
    for n in config.encode:
        ts = times.uniform(sde, n)
        latent = dj.encode(denoise, sde, dj.DDIM(), ts, x)
        summary[f"encode {n}"] = float(jnp.mean((dj.sample(key, denoise, sde, dj.DDIM(), ts, latent) - x) ** 2))
    experiment.finish(config.workdir, summary)
    return summary


def continuous_bound(key: Array, loss: DSM, params: Any, x: Array, draws: int) -> Array:
    """VDM's bound in bits per dimension, [B]: prior + decoder at t_min + z/2 E |eps - eps_hat|^2, logsnr uniform."""
    law, sde = loss.law, loss.sde

    @jax.jit
    def diffusion(key):
        return 0.5 * law.z() * loss(params, key, x)[0] * x[0].size

    nats = jnp.stack([diffusion(k) for k in jax.random.split(key, draws)]).mean(axis=0)
    alpha, sigma = sde.alpha(law.t_min), sde.sigma(law.t_min)
    z_0 = x + sigma / alpha * jax.random.normal(key, x.shape)
    nats += prior_kl(sde, x) + level_softmax(x, z_0, jnp.log(sigma / alpha))
    return nats / (x[0].size * jnp.log(2))


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config}, __doc__))

"""Autoencoders: the latents of a latent diffusion model, and the manifold that MPGD-AE and MPGD-Z stay on.

    python experiments/autoencoder.py                       # preset cpu: Fashion-MNIST, for `inverse_problems.py`
    python experiments/autoencoder.py --preset kl           # scenes and emoji, 32 x 32 to 8 x 8 x 4: `text_to_image.py`
    python experiments/autoencoder.py --preset vq           # the same with a codebook
    python experiments/autoencoder.py --preset kl-gan       # with a patch discriminator from step 2,000 on

cpu: 28 x 28 pixels to 7 x 7 x 4 numbers and back, the mean of squared errors. The committed one is
`weights/fashion-autoencoder.safetensors`: 62,000 parameters, 24.9 dB on 1,000 test images, 16 minutes on two busy CPU
cores, jax 0.10.2, 2026-11-27.

kl: LDM's layout, L1 and a perceptual distance in EfficientNet-Lite0 (`make data`), KL of weight 1e-6. The run leaves a
`Codec`, the autoencoder with the scale that brings its latents to unit variance. One serves both sets:
`weights/codec.safetensors`, 0.52 M parameters, 30.0 dB on held-out scenes and 26.2 dB on held-out emoji after 8,500
steps and 2,100 more (`--begin FILE --lr 6e-4 --lr-end 1e-5`), 80 minutes on two shared CPU cores, 2026-11-30. vq and
kl-gan have only been run in tests.

The weights go to the run's folder as `ema.safetensors`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from tyro.conf import OmitArgPrefixes, Suppress

import diffjax as dj
from diffjax import data, losses, metrics, nn, plots, pretrained, train
from diffjax.data import packages
from diffjax.formats import load_params
from diffjax.losses import distillation as adversarial
from diffjax.model_files import IN_A_RUN
from diffjax.runs import experiment, image_run
from diffjax.runs.own_pictures import OwnPictures
from diffjax.runs.student_run import in_rounds
from diffjax.typing import Loss, PyTree

OPTIM = train.OptimConfig(lr=2e-3, lr_end=2e-5, warmup=50, clip=1.0, ema=(0.99,))
LOOP = train.LoopConfig(steps=4000, log_every=100, checkpoint_every=500, sample_every=0)
LATENT: dict[str, Any] = dict(
    channels=(24, 48, 48), layers=1, groups=8, attention=False
)  # 0.52 M parameters: a small file


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures):
    sets: tuple[str, ...] = ("fashion_mnist",)
    """The sets to train on, in equal shares."""
    net: Suppress[linen.Module] = nn.Autoencoder()
    perceptual: float = 0.0
    """Weight of the distance in EfficientNet-Lite0's features, of RGB pictures."""
    gan_weight: float = 0.0
    """Weight of the patch discriminator's term; 0 for none."""
    gan_start: int = 2000
    """The step from which on it counts."""
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = OPTIM
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = LOOP
    batch_size: int = 64
    begin: Path | None = None
    """The weights of an autoencoder to begin from."""
    seed: int = 20
    workdir: Path = Path("runs/autoencoder")


def main(config: Config) -> dict[str, Any]:
    check(config)
    experiment.start(config.workdir, config)
    sets = [config.load(name) for name in (config.sets if config.data is None else ("folder",))]
    if len({images.shape for images in sets}) > 1:
        raise SystemExit(f"the sets differ in shape: {', '.join(f'{i.name} {i.shape}' for i in sets)}")
    net = sized(config.net, sets[0].shape)
    key = jax.random.key(config.seed)
    params = jax.jit(net.init)(key, jnp.zeros((1, *sets[0].shape)))
    params = params if config.begin is None else load_params(config.begin, params)
    params, summary = fit(config, net, params, partial(mixed, config, sets))
    trained: Any = dj.Trained(net, params, (sets[0].shape,))
    if not isinstance(net, nn.Autoencoder):
        some = np.concatenate([data.to_float(images.test_images[:500]) for images in sets])
        trained = dj.Codec.measured(net, params, some)
        summary["scale"] = trained.scale
    summary |= {"parameters": train.count(params)} | judged(config, net, params, sets)
    dj.save(config.workdir / IN_A_RUN, trained, image_run.about(sets[0], summary, config.workdir), "float16")
    experiment.finish(config.workdir, summary)
    return summary


def check(config: Config) -> None:
    """Raise a SystemExit for options that the network or the sets cannot have."""
    weights = {"perceptual": config.perceptual, "gan-weight": config.gan_weight}
    for name, weight in weights.items():
        if not weight >= 0:
            raise SystemExit(f"--{name} must be 0 or more, got {weight}")
        if weight and isinstance(config.net, nn.Autoencoder):
            raise SystemExit(f"--{name} is not for the preset cpu: take --preset kl, vq or kl-gan")
    if config.batch_size < max(1, len(config.sets)):
        raise SystemExit(f"--batch-size must be {max(1, len(config.sets))} or more, one of each set")


def sized(net: linen.Module, shape: tuple[int, ...]) -> Any:
    """The network for images of this shape."""
    channels: Any = {"channels" if isinstance(net, nn.Autoencoder) else "image_channels": shape[-1]}
    return net.clone(**channels)


def mixed(config: Config, sets: list[data.ImageData], start: int) -> Iterator[PyTree]:
    """Batches with equal shares of the sets."""
    share = config.batch_size // len(sets)
    streams = [
        data.batches(s.train_images, batch_size=share, seed=config.seed + i, start_step=start)
        for i, s in enumerate(sets)
    ]
    for parts in zip(*streams, strict=True):
        yield {"image": np.concatenate([part["image"] for part in parts])}


def fit(config: Config, net: Any, params: PyTree, batches: Callable) -> tuple[PyTree, dict[str, Any]]:
    """The averaged parameters and the summary of training, with a discriminator where there is one."""
    key, tx, optim = jax.random.key(config.seed), config.optim.build(config.loop.steps), config.optim
    student = train.TrainState.create(key, params, tx, optim.ema)
    if not config.gan_weight:
        step = train.jit_train_steps(loss_of(config, net), tx, optim.ema)
        state, summary = experiment.fit(step, student, batches, config.workdir, config.loop)
        return state.ema[0], summary
    critic: Any = nn.PatchDiscriminator(width=32, layers=2)
    shape = next(batches(0))["image"].shape
    opponent = jax.jit(critic.init)(jax.random.key(config.seed + 1), jnp.zeros((1, *shape[1:])))
    tx_d, judge = train.adam(1e-4), adversarial.Discriminator(critic.apply)
    coded = losses.Autoencoded(net)
    term = adversarial.GeneratorLoss(coded, (adversarial.AdversarialTerm(judge),), (1.0,))
    loss = losses.Balanced(
        (loss_of(config, net), losses.Delayed(term, config.gan_start)), last_layer, weights=(config.gan_weight,)
    )
    turns = (
        partial(train.adversarial_steps, adversarial.DiscriminatorLoss(coded, judge), tx_d, ()),
        partial(train.adversarial_steps, loss, tx, optim.ema),
    )
    both = train.AdversarialState(train.TrainState.create(jax.random.key(config.seed + 2), opponent, tx_d), student)
    steps = train.jit_steps(partial(train.alternating_steps, *turns))
    state, summary = experiment.fit(steps, both, batches, config.workdir, in_rounds(config.loop, 2))
    return state.generator.ema[0], summary


def loss_of(config: Config, net: Any) -> Loss:
    if isinstance(net, nn.Autoencoder):
        return losses.Reconstruction(net.apply)
    if not config.perceptual:
        return losses.Autoencoding(net)
    network = pretrained.load_efficientnet_lite0(packages.find(*pretrained.EFFICIENTNET_LITE0))
    return losses.Autoencoding(net, Partial(shallow, network), config.perceptual)


def shallow(network: Callable, x: jax.Array) -> tuple[jax.Array, ...]:
    """The maps of 16 x 16 to 4 x 4 pixels of a picture of 32 x 32; the deeper ones are of single pixels."""
    return network(x).stages[:4]


def last_layer(params: PyTree) -> PyTree:
    return params["params"]["decoder"]["conv_out"]["kernel"]


def judged(config: Config, net: Any, params: PyTree, sets: list[data.ImageData]) -> dict[str, Any]:
    """PSNR on up to 1,000 test images of each set, and a picture of sixteen of them."""
    apply, figures, rows = jax.jit(net.apply), {}, {}
    for images in sets:
        x = data.to_float(images.test_images[:1000])
        parts = [np.asarray(apply(params, x[i : i + 100])) for i in range(0, len(x), 100)]
        y = np.clip(np.concatenate(parts), -1, 1)
        name = "psnr" if len(sets) == 1 else f"psnr of {images.name}"
        figures[name] = float(metrics.psnr(jnp.asarray(y), jnp.asarray(x)).mean())
        rows |= {images.name: x[:16], f"{images.name}, through": y[:16]}
    plots.image_rows(config.workdir / "autoencoder.png", rows)
    return figures


def kl() -> Config:
    return Config(
        sets=("scenes", "emoji"),
        net=nn.KLAutoencoder(**LATENT),
        perceptual=0.1,
        optim=dataclasses.replace(OPTIM, lr=1e-3, ema=(0.999,)),
        loop=dataclasses.replace(LOOP, steps=6000),
        batch_size=32,
        workdir=Path("runs/autoencoder_kl"),
    )


def vq() -> Config:
    return dataclasses.replace(kl(), net=nn.VQAutoencoder(**LATENT, codes=1024), workdir=Path("runs/autoencoder_vq"))


def kl_gan() -> Config:
    return dataclasses.replace(kl(), gan_weight=0.1, workdir=Path("runs/autoencoder_kl_gan"))


if __name__ == "__main__":
    main(experiment.configure({"cpu": Config, "kl": kl, "vq": vq, "kl-gan": kl_gan}, __doc__))

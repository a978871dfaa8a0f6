"""The run that all image experiments share: data, training, pictures, distances, bits per dimension.

An experiment names its process, objective and prediction, and hands them over as a `Recipe`; the rest is here.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tyro.conf import OmitArgPrefixes, Suppress, arg

from diffjax import data, nn, plots, samplers, times, train
from diffjax.arrays import example_keys
from diffjax.data import folder
from diffjax.model import Model
from diffjax.model_files import IN_A_RUN, save
from diffjax.runs import experiment, judges, record
from diffjax.samplers import DDIM
from diffjax.typing import SDE, Denoiser, Loss, PyTree, Sampler


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageRun:
    """The options of an image experiment."""

    net: Suppress[Any]
    optim: Annotated[train.OptimConfig, OmitArgPrefixes] = train.OptimConfig()
    loop: Annotated[train.LoopConfig, OmitArgPrefixes] = train.LoopConfig()
    sampler: Suppress[Sampler] = DDIM()
    grid: Suppress[Callable] = times.uniform
    sampling_steps: int = 100
    """Steps of the sampler."""
    samples: int = 1024
    """Images to generate for the distances, more than 64; 0 for a picture alone."""
    likelihoods: int = 64
    """Test images whose bits per dimension are computed; 0 for none."""
    likelihood_tol: float = 1e-5
    """Tolerance of the ODE solver for them."""
    likelihood_t_min: float = 1e-5
    """The time that stands for the data."""
    data: str = "auto"
    """fashion_mnist, digits, cifar10, emoji, faces, olivetti, scenes, folder, or auto: Fashion-MNIST, else digits."""
    data_path: Annotated[Path | None, arg(aliases=["--data.path"])] = None
    """The folder of your own pictures, with --data folder."""
    data_size: Annotated[int, arg(aliases=["--data.size"])] = 32
    """Height and width of emoji, faces, olivetti, scenes and of a folder's pictures."""
    data_dir: Path | None = None
    """Where prepared data are kept; default: DIFFJAX_DATA or ~/.cache/diffjax."""
    flip: bool = False
    """Mirror half of the training images."""
    batch_size: int = 64
    seed: int = 0
    workdir: Path = Path("runs/images")
    dry_run: bool = False
    """Only print the parameters, FLOPs and memory of a training step."""

    FREE: ClassVar[frozenset[str]] = frozenset(
        {"sampler", "grid", "sampling_steps", "likelihoods", "likelihood_tol", "likelihood_t_min"}
    )  # what is not trained by; see `record`

    def __post_init__(self):
        if self.samples and self.samples <= 64:
            raise ValueError(f"distances in 64 dimensions need more than 64 samples (or 0: none), got {self.samples}")
        if self.data == "folder" and self.data_path and getattr(self.net, "num_classes", 0):
            path = self.data_path.expanduser()
            classes = set(folder.classes_of(path, list(folder.find_pictures(path))))
            object.__setattr__(self, "net", self.net.clone(num_classes=len(classes)))  # the folder's, not the preset's


class Recipe(NamedTuple):
    """What an experiment trains: a process, a loss, and what the network's output means."""

    sde: SDE
    loss: Loss
    prediction: Callable[[SDE, Callable], Denoiser]
    sampler: Callable[[Model], Sampler] | None = None  # where it depends on the parameters; else the configuration's
    batches: Callable[[int], Iterator[PyTree]] | None = None  # where they are not the data set's; see `train.fit`


TIMINGS = ("seconds", "examples_per_s")  # of the machine: a resumed run leaves the same file without them
Judge = Callable[[data.ImageData, Model], dict[str, Any]]  # further figures, of the averaged parameters


def run(config: ImageRun, recipe: Recipe, judge: Judge | None = None) -> dict[str, Any]:
    """Train, sample and judge; the run's summary, or of a dry run its costs. Raises as `train.fit` and `data.load`.

    The folder of the run then holds the model with its card, for `dj.load(folder)`.
    """
    tx, key = config.optim.build(config.loop.steps), jax.random.key(config.seed)
    if config.dry_run:
        return dry_run(config, recipe)
    images = data.load(config.data, config.data_dir, size=config.data_size, path=config.data_path)
    needed = judges.dimensions(images.name, images.shape) or 0
    if 0 < config.samples <= needed:
        raise ValueError(f"distances in {needed} dimensions need more samples (or 0: none), got {config.samples}")
    config = dataclasses.replace(config, data=images.name)  # what "auto" has found
    experiment.start(config.workdir, config)
    params = init(config, key, images.shape)
    state = train.TrainState.create(key, params, tx, config.optim.ema)
    step = train.jit_train_steps(recipe.loss, tx, config.optim.ema)

    def batches(start: int):
        arrays = images.train_images, images.train_labels, config.batch_size
        return data.batches(*arrays, seed=config.seed, start_step=start, flip=config.flip)

    def model(params: PyTree) -> Model:
        how = {"sampler": config.sampler, "steps": config.sampling_steps}
        return Model(config.net, params, recipe.sde, recipe.prediction, images.shape, **how)  # pyright: ignore

    def grid(state: train.TrainState) -> dict[str, np.ndarray]:
        return {"ema": plots.image_grid(generate(config, recipe, model(state.ema[0]), 36))}

    figures = watched(config, recipe, images)
    state, summary = experiment.fit(step, state, recipe.batches or batches, config.workdir, config.loop, grid, figures)
    trained, rate = model(state.ema[0]), summary["examples_per_s"]
    summary |= {"parameters": train.count(params), "data": images.name}
    summary |= measure(config, recipe, images, trained, rate)
    summary |= judge(images, trained) if judge else {}
    keep(config.workdir / IN_A_RUN, trained, about(images, summary, config.workdir))
    experiment.finish(config.workdir, summary)
    return summary


def keep(path: Path, trained: Model, about: dict[str, Any]) -> None:
    """Save a model with its card, and say on the console what a card cannot describe."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        save(path, trained, about, "float16")
    for warning in said:
        print(f"{path.name}: {warning.message}")


def watched(config: ImageRun, recipe: Recipe, images: data.ImageData) -> Callable[[train.TrainState], dict[str, float]]:
    """The learning rate, and the loss of the averaged parameters on test images: one batch with the same noise."""
    steps = config.loop.steps
    value = jax.jit(lambda params, keys, batch: recipe.loss(params, keys, batch)[0].mean())
    n = min(config.batch_size, len(images.test_images))
    batch = next(data.batches(images.test_images, images.test_labels, n, seed=config.seed))
    keys = example_keys(jax.random.key(config.seed), n)

    def figures(state: train.TrainState) -> dict[str, float]:
        rate = {"lr": config.optim.rate(steps, int(state.step))}
        own = recipe.batches is not None  # other data than the set's
        return rate if own else rate | {"val_loss": float(value(state.ema[0], keys, batch))}

    return figures


def about(images: data.ImageData, figures: dict[str, Any], workdir: Path | None = None) -> dict[str, Any]:
    """What the card of a run's model says besides what the model is, and nothing that a resumed run would change."""
    own = {"data": images.name, "range": [-1, 1], "classes": list(images.class_names)}
    return {**own, **made_by(workdir), "figures": untimed(figures)}


def made_by(workdir: Path | None = None) -> dict[str, str]:
    """The command of a run, its date, and the versions and devices that it depends on."""
    return {"command": _command(sys.argv), "date": record.begun(workdir), **experiment.versions()}


def untimed(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures without those of the machine's speed; the infinite ones and NaN as text, for JSON has none."""
    kept = {name: value for name, value in figures.items() if name not in TIMINGS}
    return {n: repr(v) if isinstance(v, float) and not math.isfinite(v) else v for n, v in kept.items()}


def _command(argv: list[str]) -> str:
    """The command of a run without the folders of this machine, and without what only says how it was resumed."""
    script, kept, skip = Path(argv[0]), [], False
    for option in argv[1:]:
        name = option.partition("=")[0].replace("_", "-")
        folder = name in ("--workdir", "--data-dir")
        if not (skip or folder or name in ("--resume", "--override")):
            kept.append(option)
        skip = folder and "=" not in option
    return shlex.join(["python", f"{script.parent.name}/{script.name}", *kept])


def init(config: ImageRun, key: jax.Array, shape: tuple[int, ...]) -> PyTree:
    """The network's first parameters, for images of `shape`."""
    return nn.init(config.net, key, jax.ShapeDtypeStruct((1, *shape), jnp.float32))


def generate(config: ImageRun, recipe: Recipe, model: Model, n: int) -> np.ndarray:
    """n images from fixed noise, [n, H, W, C]."""
    ts = config.grid(model.sde, config.sampling_steps)
    key = jax.random.key(config.seed + 1)
    sampler = recipe.sampler(model) if recipe.sampler else config.sampler
    return samplers.generate(key, model.denoise, model.sde, sampler, ts, (n, *model.shape))


def measure(
    config: ImageRun, recipe: Recipe, images: data.ImageData, model: Model, rate: float | None = None
) -> dict[str, Any]:
    """A picture, distances beside their floors, and bits per dimension by the probability-flow ODE.

    `rate`, the examples a second in training, tells how long that will take: a training step costs three evaluations.
    """
    few = images.name == "folder" and len(images.test_images) <= 112
    if config.samples and few:
        print(f"No distances: {len(images.test_images)} pictures are held out, and 112 dimensions need more than 112.")
    samples = 0 if few else config.samples
    n = samples or 64
    with experiment.stage(f"Drawing {n:,} samples", n * config.sampling_steps / (3 * rate) if rate else None):
        x = generate(config, recipe, model, n)
    plots.save_image(config.workdir / "samples.png", plots.image_grid(x[:64]), scale=3)
    result, key = {}, jax.random.key(config.seed)
    if samples:
        with experiment.stage("Judging them"):
            result = judges.distances(images, x)
    if config.likelihoods < 2:
        return result
    options = {"tol": config.likelihood_tol, "t_min": config.likelihood_t_min}
    with experiment.stage(f"Likelihoods of {config.likelihoods} test images, by an adaptive ODE solver"):
        return result | judges.bits(key, model.denoise, model.sde, images, config.likelihoods, **options)


def dry_run(config: ImageRun, recipe: Recipe) -> dict[str, float]:
    """Build the training step from shapes alone, and print what it takes."""
    tx = config.optim.build(config.loop.steps)
    shape = data.image_shape(config.data, config.data_size)
    batch = {"image": jax.ShapeDtypeStruct((config.batch_size, *shape), jnp.float32)}
    if getattr(config.net, "num_classes", 0):
        batch["label"] = jax.ShapeDtypeStruct((config.batch_size,), jnp.int32)

    def create(key):
        return train.TrainState.create(key, init(config, key, shape), tx, config.optim.ema)

    state = jax.eval_shape(create, jax.random.key(0))
    step = partial(train.train_step, recipe.loss, tx, config.optim.ema)
    cost = train.step_cost(step, state, batch, compile=True)
    mib = {name: cost[name] / 2**20 for name in ("state_bytes", "memory_bytes")}
    print(f"{cost['parameters']:,} parameters")
    print(f"a step on a batch of {config.batch_size}: {cost['flops'] / 1e9:,.0f} GFLOP")
    print(f"memory: {mib['state_bytes']:,.0f} MiB for parameters, optimiser and averages,")
    print(f"        {mib['memory_bytes']:,.0f} MiB for the whole step as compiled for {jax.default_backend()}")
    return cost

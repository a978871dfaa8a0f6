"""The run that all image experiments share: data, training, pictures, distances, bits per dimension.

An experiment names its process, network, objective and sampler, and hands them over as a `Model`; the rest is here.
Experiments on a set and a model of their own take `OwnPictures` for options, to run on a folder and its model as well.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from tyro.conf import OmitArgPrefixes, Suppress, arg

from diffjax import data, plots, precondition, samplers, times, train
from diffjax.runs import experiment, judges
from diffjax.data import folder
from diffjax.data.image_data import ImageData
from diffjax.formats import load_params, save_params
from diffjax.nn import presets
from diffjax.samplers import DDIM
from diffjax.sde import VP
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
    """fashion_mnist, digits, cifar10, emoji, faces, olivetti, folder, or auto: Fashion-MNIST, else digits."""
    data_path: Annotated[Path | None, arg(aliases=["--data.path"])] = None
    """The folder of your own pictures, with --data folder."""
    data_size: Annotated[int, arg(aliases=["--data.size"])] = 32
    """Height and width of emoji, faces, olivetti and of a folder's pictures."""
    data_dir: Path | None = None
    """Where prepared data are kept; default: DIFFJAX_DATA or ~/.cache/diffjax."""
    flip: bool = False
    """Mirror half of the training images."""
    batch_size: int = 64
    seed: int = 0
    workdir: Path = Path("runs/images")
    dry_run: bool = False
    """Only print the parameters, FLOPs and memory of a training step."""

    def __post_init__(self):
        if self.samples and self.samples <= 64:
            raise ValueError(f"distances in 64 dimensions need more than 64 samples (or 0: none), got {self.samples}")
        if self.data == "folder" and self.data_path and getattr(self.net, "num_classes", 0):
            path = self.data_path.expanduser()
            classes = set(folder.classes_of(path, list(folder.find_pictures(path))))
            object.__setattr__(self, "net", self.net.clone(num_classes=len(classes)))  # the folder's, not the preset's


class Model(NamedTuple):
    """What an experiment trains: a process, a loss, and the denoiser that parameters make."""

    sde: SDE
    loss: Loss
    denoiser: Callable[[PyTree], Denoiser]
    sampler: Callable[[PyTree], Sampler] | None = None  # where it has parameters; else the configuration's
    batches: Callable[[int], Iterator[PyTree]] | None = None  # where they are not the data set's; see `train.fit`


Judge = Callable[[data.ImageData, PyTree], dict[str, Any]]  # further figures, of the averaged parameters


def run(config: ImageRun, model: Model, judge: Judge | None = None) -> dict[str, Any]:
    """Train, sample and judge; the run's summary, or of a dry run its costs. Raises as `train.fit` and `data.load`."""
    tx, key = config.optim.build(config.loop.steps), jax.random.key(config.seed)
    if config.dry_run:
        return dry_run(config, model)
    experiment.start(config.workdir, config)
    images = data.load(config.data, config.data_dir, size=config.data_size, path=config.data_path)
    if images.shape[-1] == 3 and 0 < config.samples <= 112:
        raise ValueError(f"distances of RGB images, in 112 dimensions, need more samples (or 0), got {config.samples}")
    params = init(config, key, images.shape)
    state = train.TrainState.create(key, params, tx, config.optim.ema)
    step = train.jit_train_steps(model.loss, tx, config.optim.ema)

    def batches(start: int):
        arrays = images.train_images, images.train_labels, config.batch_size
        return data.batches(*arrays, seed=config.seed, start_step=start, flip=config.flip)

    def grid(state: train.TrainState) -> dict[str, np.ndarray]:
        return {"ema": plots.image_grid(generate(config, model, state.ema[0], 36, images.shape))}

    state, summary = train.fit(step, state, model.batches or batches, config.workdir, config.loop, grid)
    save_params(config.workdir / "ema.safetensors", state.ema[0], dtype="float16")
    summary |= {"parameters": train.count(params), "data": images.name, **measure(config, model, images, state.ema[0])}
    summary |= judge(images, state.ema[0]) if judge else {}
    experiment.finish(config.workdir, summary)
    return summary


def init(config: ImageRun, key: jax.Array, shape: tuple[int, ...]) -> PyTree:
    """The network's first parameters, for images of `shape`."""
    return jax.jit(config.net.init)(key, jnp.zeros((1, *shape)), jnp.zeros(1))


def generate(config: ImageRun, model: Model, params: PyTree, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """n images from fixed noise, [n, ...]."""
    ts, key = config.grid(model.sde, config.sampling_steps), jax.random.key(config.seed + 1)
    sampler = model.sampler(params) if model.sampler else config.sampler
    return samplers.generate(key, model.denoiser(params), model.sde, sampler, ts, (n, *shape))


def measure(config: ImageRun, model: Model, images: data.ImageData, params: PyTree) -> dict[str, Any]:
    """A picture, distances beside their floors, and bits per dimension by the probability-flow ODE."""
    few = images.name == "folder" and len(images.test_images) <= 112
    if config.samples and few:
        print(f"No distances: {len(images.test_images)} pictures are held out, and 112 dimensions need more than 112.")
    samples = 0 if few else config.samples
    x = generate(config, model, params, samples or 64, images.shape)
    plots.save_image(config.workdir / "samples.png", plots.image_grid(x[:64]), scale=3)
    result = judges.distances(images, x) if samples else {}
    key, denoise = jax.random.key(config.seed), model.denoiser(params)
    options = {"tol": config.likelihood_tol, "t_min": config.likelihood_t_min}
    return result | judges.bits(key, denoise, model.sde, images, config.likelihoods, **options)


def dry_run(config: ImageRun, model: Model) -> dict[str, float]:
    """Build the training step from shapes alone, and print what it takes."""
    tx = config.optim.build(config.loop.steps)
    shape = data.image_shape(config.data, config.data_size)
    x = jax.ShapeDtypeStruct((config.batch_size, *shape), jnp.float32)

    def create(key):
        return train.TrainState.create(key, init(config, key, shape), tx, config.optim.ema)

    state, step = jax.eval_shape(create, jax.random.key(0)), partial(train.train_step, model.loss, tx, config.optim.ema)
    cost = train.step_cost(step, state, {"image": x}, compile=True)
    mib = {name: cost[name] / 2**20 for name in ("state_bytes", "memory_bytes")}
    print(f"{cost['parameters']:,} parameters")
    print(f"a step on a batch of {config.batch_size}: {cost['flops'] / 1e9:,.0f} GFLOP")
    print(f"memory: {mib['state_bytes']:,.0f} MiB for parameters, optimiser and averages,")
    print(f"        {mib['memory_bytes']:,.0f} MiB for the whole step as compiled for {jax.default_backend()}")
    return cost


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnPictures:
    """The options of an experiment that has a set of its own, and runs on a folder of the user's pictures instead."""

    data: Literal["folder"] | None = None
    """folder: your own pictures, in place of the experiment's."""
    data_path: Annotated[Path | None, arg(aliases=["--data.path"])] = None
    """The folder, with --data folder."""
    data_size: Annotated[int | None, arg(aliases=["--data.size"])] = None
    """Height and width of its pictures; 32 by default."""
    data_dir: Path | None = None
    """Where prepared data are kept; default: DIFFJAX_DATA or ~/.cache/diffjax."""

    @property
    def size(self) -> int:
        return 32 if self.data_size is None else self.data_size

    def load(self, own: str, *, classes: bool = False, held_out: int = 1) -> ImageData:
        """The folder's pictures, or the set named `own`.

        Raises:
          SystemExit: there is no such folder, or it cannot be read; it has no `classes`, or fewer held-out pictures.
        """
        if self.data is None:
            for option, value in (("path", self.data_path), ("size", self.data_size)):
                if value is not None:
                    raise SystemExit(f"--data.{option} {value} needs --data folder")
            return data.load(own, self.data_dir)
        try:
            images = data.load("folder", size=self.size, path=self.data_path)
        except (FileNotFoundError, ValueError) as error:
            raise SystemExit(str(error)) from error
        if classes and images.n_classes < 2:
            raise SystemExit(f"there are no classes in {self.data_path}: put the pictures of each into a folder in it")
        if len(images.test_images) < held_out:
            few = f"{len(images.test_images)} of {self.data_path}'s pictures are held out, a tenth of them"
            raise SystemExit(f"{few}; this experiment needs {held_out}, so about {10 * held_out} pictures")
        return images.shuffled(seed=0)  # the first few of a folder's would be of one class

    def weights(self, given: Path | None, own: Path, option: str, recipe: str) -> Path:
        """The file of weights that was `given` by an option, or the experiment's `own`, which serve no folder.

        Raises:
          SystemExit: there are none; the message names the command that makes them, `recipe`.
        """
        path = own if given is None and self.data is None else given
        if path is not None and path.is_file():
            return path
        where = f" --data folder --data.path {shlex.quote(str(self.data_path))} --data.size {self.size}"
        missing = f"your own pictures need {option} PATH" if path is None else f"{option}: there is no {path}"
        raise SystemExit(f"{missing}. `python experiments/{recipe}{where if self.data else ''}` makes these weights.")


def denoiser(path: Path, shape: tuple[int, ...], num_classes: int = 0) -> Denoiser:
    """The model that a preset for CPUs of `score_sde.py` trained for images of `shape`. Raises as `network`."""
    return precondition.from_v(VP(), network(path, shape, num_classes))


def network(path: Path, shape: tuple[int, ...], num_classes: int = 0) -> Partial:
    """The network of that model, which predicts v, from its weights: `Partial(net.apply, params)`.

    They fit one network alone. That it was trained with another process, its shapes do not tell, but the configuration
    that the run left beside them does.

    Raises:
      FileNotFoundError: there are no such weights.
      ValueError: they belong to another network, or to another process.
    """
    kept, needed = path.with_name("config.json"), {"sde": experiment.describe(VP()), "precondition": "from_v"}
    trained = json.loads(kept.read_text()) if kept.is_file() else {}
    for name, used in needed.items():
        if "loop" in trained and trained.get(name) != used:  # the configuration of a run that trained
            of = f"{kept} says {name} {trained.get(name)}, but this experiment needs {used}"
            raise ValueError(f"{path} is not of score_sde.py's presets for CPUs: {of}")
    classes = {"num_classes": num_classes} if num_classes else {}
    reasons = []
    for levels in ({}, {"multipliers": (1, 2, 3)}):
        net = presets.small(**levels, **classes)
        try:
            like = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros(1))
            return Partial(net.apply, load_params(path, like))
        except ValueError as error:
            reasons.append(str(error))
    of = f"images {shape}" + (f" of {num_classes} classes" if num_classes else ", without classes")
    raise ValueError(f"{path} fits no network of score_sde.py for {of}: {'; or '.join(dict.fromkeys(reasons))}")

"""Latent models with a condition: what their experiments share, from latents and conditions to pictures.

    model, summary = fit(config, net, {"image": latents, "context": states}, codec, {"context": 0.0})
    x = draw(model, key, {"context": states}, steps=20, guidance_scale=3.0)

`fit` can begin from another model, whose network may have fewer inputs, and `keep` leaves the file of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import data, losses, nn, precondition, times, train
from diffjax.checks import check_count, check_number
from diffjax.codec import Codec
from diffjax.conditions import cond_keys
from diffjax.losses import weightings
from diffjax.model import Model
from diffjax.model_files import IN_A_RUN, load
from diffjax.parameters import widen
from diffjax.runs import experiment, image_run
from diffjax.runs.judges import SceneJudge
from diffjax.runs.own_pictures import model_of
from diffjax.sde import VP
from diffjax.typing import Cond, Key

MINILM_WIDTH = 384
SMALL = nn.ConditionalUNet(
    channels=(48, 56), layers=1, attention=(True, True), heads=4, groups=8, context_width=MINILM_WIDTH
)  # 1.4 M parameters


class Options(Protocol):
    """The fields of an experiment's configuration that are used here."""

    @property
    def drop(self) -> float: ...
    @property
    def length(self) -> int: ...
    @property
    def samples(self) -> int: ...
    @property
    def scales(self) -> tuple[float, ...]: ...
    @property
    def optim(self) -> train.OptimConfig: ...
    @property
    def loop(self) -> train.LoopConfig: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def sampling_steps(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def workdir(self) -> Path: ...


def check(config: Options) -> None:
    """Raise a SystemExit before hours of training for options that would be wrong after them."""
    try:
        check_count("--samples", config.samples)
        check_count("--sampling-steps", config.sampling_steps)
        check_count("--batch-size", config.batch_size)
        check_count("--length", config.length, 2)
        check_number("--drop", config.drop, 0, 1)
        check_number("--scales", config.scales)
    except (TypeError, ValueError) as error:
        raise SystemExit(str(error)) from error
    if not config.scales:
        raise SystemExit("--scales needs one scale of guidance or more")


def scene_judge(path: Path) -> SceneJudge:
    """The judge of scenes in a file; raises a SystemExit where it holds none."""
    try:
        return SceneJudge(load(path))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"--judge {path}: {error}") from error


def fit(
    config: Options, net: Any, fields: Mapping[str, Any], codec: Codec, null: Cond, begin: Model | None = None
) -> tuple[Model, dict[str, Any]]:
    """A model of the latents fields["image"] under the other fields, and the summary of its training.

    Args:
      net: an `nn.ConditionalUNet`; its context_length becomes that of fields["context"].
      null: the null condition, for which a share `config.drop` of the examples trades its own.
      begin: a model to begin from: the parameters that fit are taken, and those of further inputs begin as zeros
        (`parameters.widen`); the console says which.

    Raises:
      ValueError: the network does not take these fields, such as in_channels that do not fit; as `data.batches`.
    """
    key, sde, prediction = jax.random.key(config.seed), VP(), precondition.from_v
    net = net.clone(context_length=fields["context"].shape[1])
    model = Model.init(
        key, net, sde, prediction, {name: value[:1] for name, value in fields.items()},
        null=null, steps=config.sampling_steps, codec=codec,
    )  # fmt: skip
    if begin is not None:
        model = model.replace(params=_begun(model.params, begin.params))
    levels = times.LogNormal(sde, -0.3, 1.5)  # EDM's, of data of variance 1; uniform times are mostly noise
    loss = losses.DSM(sde, levels, net.apply, prediction, weightings.v)
    loss = losses.DropCondition(loss, model.null, config.drop)
    tx = config.optim.build(config.loop.steps)
    state = train.TrainState.create(key, model.params, tx, config.optim.ema)

    def batches(start: int):
        return data.batches(fields, batch_size=config.batch_size, seed=config.seed, start_step=start, as_is=True)

    steps = train.jit_train_steps(loss, tx, config.optim.ema)
    state, summary = experiment.fit(steps, state, batches, config.workdir, config.loop)
    return model.replace(params=state.ema[0]), summary | {"parameters": train.count(model.params)}


def _begun(params: Any, kept: Any) -> Any:
    params, done = widen(params, kept)
    print(f"Of the parameters {len(done['taken'])} arrays are those of the model to begin from.")
    for how, what in (("widened", "have further inputs, which begin as zeros"), ("new", "are new")):
        if done[how]:
            print(f"These {what}: {', '.join(name.removeprefix('params/') for name in done[how])}")
    return params


def text_model(path: Path, width: int | None = MINILM_WIDTH) -> Model:
    """The latent model with a context, of texts or of layouts, in a file or in the folder of a run.

    Args:
      width: of the context's states: MiniLM's of texts; None for any.

    Raises:
      SystemExit: there is no such file, or it is of another kind; the message says what it is.
    """
    model = model_of(path, VP(), None, prediction=precondition.from_v)
    if model.codec is None or "context" not in (cond_keys(model.network) or ()):
        raise SystemExit(f"{path} holds no model of latents with a context: `text_to_image.py` makes one")
    if width not in (None, model.network.context_width):
        kinds = {MINILM_WIDTH: "texts"}
        wanted, own = (f"{kinds.get(w, 'layouts')}, of {w} numbers" for w in (width, model.network.context_width))
        raise SystemExit(f"the context of the model in {path} is of {own}, here it is to be of {wanted}")
    if not getattr(model.network, "context_length", 0):
        raise SystemExit(
            f"{path} does not say how many states a context has: set it, `model.replace(network=model.network.clone("
            "context_length=N))` with the N of its training, and save the model again"
        )
    return model


def draw(model: Model, key: Key, cond: Mapping[str, np.ndarray], **how: Any) -> np.ndarray:
    """A picture for each example of a condition, by `model.sample(..., **how)`: [N, S, S, 3] clipped to [-1, 1]."""
    n = len(next(iter(cond.values())))
    given = {name: jnp.asarray(value, jnp.float32) for name, value in cond.items()}
    return np.clip(np.asarray(model.sample(key, n, cond=given, batch_size=125, **how)), -1, 1)


def keep(workdir: Path, model: Model, name: str, summary: Mapping[str, Any]) -> None:
    """Save a run's model with its card, for `dj.load(workdir)`."""
    about = {
        "data": name,
        "range": [-1, 1],
        **image_run.made_by(workdir),
        "figures": image_run.untimed(dict(summary)),
    }
    image_run.keep(workdir / IN_A_RUN, model, about)


def in_batches(fn: Callable[..., Any], *arrays: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """fn of some examples at a time, as one NumPy array."""
    n = len(arrays[0])
    parts = [np.asarray(fn(*(a[i : i + batch_size] for a in arrays))) for i in range(0, n, batch_size)]
    return np.concatenate(parts)

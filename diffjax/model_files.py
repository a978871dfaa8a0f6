"""Models as files: safetensors with a model card, which says what the parameters belong to.

    dj.save("mine", model, {"data": "my own pictures"})     # mine.safetensors, and its card as mine.json
    model = dj.load("mine")                                 # or "fashion-vp", of the package; or the folder of a run

`cards` has the form of a card. Loading builds what it says or raises; nothing is tried until it fits.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cards
from diffjax.codec import Codec
from diffjax.files import replacing
from diffjax.formats import load_params, read_metadata, save_params
from diffjax.model import Model, Trained
from diffjax.parameters import compare, flatten, takes_scale
from diffjax.printing import short
from diffjax.samplers import Jump
from diffjax.typing import PyTree

SHIPPED = Path(__file__).with_name("weights")
SAVED = Model | Trained | Codec
IN_A_RUN = "ema.safetensors"  # the averaged parameters in the folder of a run


def save(path: str | Path, model: Any, about: Mapping[str, Any] | None = None, dtype: Any = None) -> Path:
    """Write a `Model` (a `Trained` network, a `Codec`) as a safetensors file with its card, and that beside it as JSON.

    A card cannot describe a network, an SDE or another part of your own (see `cards`): a UserWarning then names the
    part, and the file is read by `dj.load(path, like=model)`.

    Args:
      path: the file; ".safetensors" is added where it has no such ending.
      about: what a reader should know: data, licence, command, figures; any JSON.
      dtype: parameters are stored as this floating type, "float16" halves the file; by default each as it is.

    Returns:
      The path of the file.

    Raises:
      TypeError: the path or the model is none, `about` is no dict that JSON can hold, or a parameter is no array.
      ValueError: a number in the card is NaN, or an array in it is too large.
      FileExistsError: a file that is no card lies where the card would be.
    """
    path = _path(path)
    if not isinstance(model, SAVED):
        raise TypeError(
            f"dj.save(path, model) writes a dj.Model, a dj.Trained or a dj.Codec, got {short(model)[:200]}: of "
            "parameters alone dj.formats.save_params(path, params) makes a file"
        )
    about = _json(about)
    path = path if path.suffix == ".safetensors" else path.with_name(f"{path.name}.safetensors")
    beside = path.with_suffix(".json")
    if beside.exists() and '"diffjax"' not in beside.read_text(errors="replace")[:100]:
        raise FileExistsError(f"the card would replace {beside}, which is none: choose another name")
    card = {"format": "diffjax", "version": cards.VERSION, "made_with": _version()}
    card |= {"object": cards.describe(model), "about": about}
    for why in cards.own_parts(card["object"]).values():
        warnings.warn(f"{why}: dj.load(path, like=model) reads the file", stacklevel=2)
    save_params(path, _params(model), {"card": json.dumps(card)}, dtype)
    with replacing(beside) as part:
        part.write_text(json.dumps(card, indent=2) + "\n")
    return path


def load(path: str | Path, like: Any = None) -> Any:
    """The model of a file: exactly what its card says, or an error.

    Args:
      path: a safetensors file, with or without its ending, the folder of a run, or the name of a model in the package,
        `dj.load("fashion-vp")`, where no such file is here.
      like: a model that the parameters belong to, for a file without a card, or for a network of your own. What the
        card says of network, SDE, prediction and shape must be as there.

    Parameters of half precision become float32; `formats.load_params` reads them as they are stored.

    Raises:
      FileNotFoundError: there is no such file; the message lists the models of the package.
      ValueError: the file is damaged or has no card, or its parameters do not fit the network of the card.
    """
    file = find(path)
    if like is not None:
        if not isinstance(like, SAVED):
            raise TypeError(f"like must be a dj.Model, a dj.Trained or a dj.Codec, got {short(like)[:200]}")
        _check_like(file, like)
        return _filled(like, load_params(file, _params(like)))
    card = _card(file)
    if own := cards.own_parts(card.get("object")):
        why = "; ".join(own.values())
        raise ValueError(f"the card of {file} does not describe its model whole ({why}): dj.load(path, like=model)")
    params = load_params(file)
    model = cards.from_json(card.get("object"), params)
    if not isinstance(model, SAVED):
        raise ValueError(f"the card of {file} describes no model but a {type(model).__name__}")
    if hasattr(model.network, "init"):
        compare(file, flatten(params), flatten(_shapes(model)))
    return _filled(model, params)


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of a model file: its version, its object, and what it says about itself. Raises as `load`."""
    return _card(find(path))


def shipped() -> list[str]:
    """The names of the models in the package."""
    return sorted(p.stem for p in SHIPPED.glob("*.safetensors"))


def find(path: str | Path) -> Path:
    """The safetensors file that a path, with or without its ending, a folder or a name of the package stands for.

    Raises:
      FileNotFoundError: there is none.
    """
    given = _path(path).expanduser()
    own = SHIPPED / f"{path}.safetensors"
    for file in (given, given / IN_A_RUN, given.with_name(f"{given.name}.safetensors"), own):
        if file.is_file():
            return file
    if given.is_dir():
        raise FileNotFoundError(
            f"{given} holds no {IN_A_RUN}, which an experiment leaves there when it has finished; after train.fit save "
            "the model yourself: dj.save(path, model.replace(params=state.ema[0]))"
        )
    raise FileNotFoundError(f"there is no {path}, and the models of the package are: {', '.join(shipped())}")


def _check_like(file: Path, like: Any) -> None:
    """Raise a ValueError where the file has a card that describes another object than `like`."""
    if "card" not in read_metadata(file):
        return
    own, kept = cards.describe(like), _card(file).get("object") or {}
    ours, theirs = own["fields"], kept.get("fields", {})
    hidden = {"null", "sampler", "steps", *cards.own_parts(own), *cards.own_parts(kept)}  # of use, not of training
    differ = [n for n in sorted({**ours, **theirs}) if n not in hidden and ours.get(n) != theirs.get(n)]
    if own["class"] != kept.get("class") or differ:
        raise ValueError(f"the card of {file} describes another model than `like`: they differ in {', '.join(differ)}")


def _card(file: Path) -> dict[str, Any]:
    try:
        card = json.loads(read_metadata(file)["card"])
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} has a damaged model card, which is no JSON ({error})") from error
    except KeyError:
        raise ValueError(
            f"{file} has no model card, so that nothing says which network its parameters belong to: "
            "give one, dj.load(path, like=model)"
        ) from None
    card = card if isinstance(card, dict) else {}
    if card.get("format") != "diffjax" or card.get("version") != cards.VERSION:
        made = f"format {card.get('format')!r}, version {card.get('version')!r}, made with {card.get('made_with')}"
        raise ValueError(f"{file} has a card of {made}; this diffjax {_version()} reads version {cards.VERSION}")
    return card


def _params(model: Model | Trained | Codec) -> PyTree:
    """The parameters as they are in a file: of a latent model those of both networks."""
    codec = getattr(model, "codec", None)
    return model.params if codec is None else {"model": model.params, "codec": codec.params}


def _filled(model: Any, params: PyTree) -> Any:
    """The model with the parameters of a file."""
    if getattr(model, "codec", None) is None:
        return dataclasses.replace(model, params=params)
    return model.replace(params=params["model"], codec=model.codec.replace(params=params["codec"]))


def _shapes(model: Model | Trained | Codec) -> PyTree:
    """The shapes of the parameters in the file of a model; of a student of guidance they have the scale's matrix."""
    own = jax.eval_shape(model.network.init, jax.random.key(0), *_example(model))
    codec = getattr(model, "codec", None)
    if codec is None:
        return own
    picture = jnp.zeros((1, *codec.shape))
    return {"model": own, "codec": jax.eval_shape(codec.network.init, jax.random.key(0), picture)}


def _example(model: Model | Trained | Codec) -> tuple[Any, ...]:
    """What the network is initialised with."""
    if isinstance(model, Codec):
        return (jnp.zeros((1, *model.shape)),)
    if isinstance(model, Trained):
        return tuple(jnp.zeros((1, *shape)) for shape in model.inputs)
    level = jnp.zeros(1)
    levels = (level, level) if isinstance(model.sampler, Jump) else level
    if hasattr(model.network, "example_cond"):
        cond = model.network.example_cond(model.shape)
    else:
        cond = {"scale": jnp.ones(1)} if takes_scale(model.params) else None
    return jnp.zeros((1, *model.shape)), levels, cond


def _path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise TypeError(f"expected a path or a name as the first argument, got {short(path)[:200]!r}")
    return Path(path)


def _json(about: Any) -> dict[str, Any]:
    """`about` as JSON can hold it: NumPy's numbers and arrays are converted, other objects raise a TypeError."""
    if about is not None and not isinstance(about, Mapping):
        raise TypeError(f'about must be a dict, such as {{"data": "my own pictures"}}, got {about!r}')
    try:
        return json.loads(json.dumps(dict(about or {}), default=lambda v: np.asarray(v).tolist(), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"about must hold what JSON can hold (text, finite numbers, lists, dicts), got {about!r}"
        ) from error


def _version() -> str:
    return importlib.metadata.version("diffjax")

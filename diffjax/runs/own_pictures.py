"""Experiments on a set and models of their own, which run on a folder of the user's pictures and its models as well."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from diffjax import data, precondition
from diffjax.data.image_data import ImageData
from diffjax.model import Model, Trained
from diffjax.model_files import IN_A_RUN, load
from diffjax.typing import SDE


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
          SystemExit: there is no such set or folder, it cannot be read, or has no `classes` or fewer held-out pictures.
        """
        if self.data is None:
            for option, value in (("path", self.data_path), ("size", self.data_size)):
                if value is not None:
                    raise SystemExit(f"--data.{option} {value} needs --data folder")
        try:
            if self.data is None:
                return data.load(own, self.data_dir)
            images = data.load("folder", size=self.size, path=self.data_path)
        except (FileNotFoundError, ValueError) as error:
            raise SystemExit(str(error)) from error
        if classes and images.n_classes < 2:
            raise SystemExit(f"there are no classes in {self.data_path}: put the pictures of each into a folder in it")
        if len(images.test_images) < held_out:
            few = f"{len(images.test_images)} of {self.data_path}'s pictures are held out, a tenth of them"
            raise SystemExit(f"{few}; this experiment needs {held_out}, so about {10 * held_out} pictures")
        return images.shuffled(seed=0)  # the first few of a folder's would be of one class

    def model_of(self, *asked: Any, **needs: Any) -> Model:
        """The model of `find(*asked)`, checked for what it needs as by the function `model_of`.

        Raises:
          SystemExit: there are no such weights, or they are of another kind; the message says what they are.
        """
        return model_of(self.find(*asked), **needs)

    def trained(self, *asked: Any, inputs: tuple[tuple[int, ...], ...], classes: int | None = None) -> Trained:
        """The network of `find(*asked)`, which must take `inputs` of these shapes, and classify in so many classes.

        Raises:
          SystemExit: there are no such weights, or they are of another network; the message says what they are.
        """
        path = self.find(*asked)
        network = _read(path)
        if not isinstance(network, Trained):
            raise SystemExit(f"{path} holds no such network but a diffusion model: is it the file of another option?")
        if network.inputs != inputs:
            raise SystemExit(f"{path} holds a network of inputs {network.inputs}, but this experiment needs {inputs}")
        if classes is not None and _classes(network) != classes:
            raise SystemExit(
                f"{path} holds a network of {_classes(network)} classes, but this experiment needs {classes}"
            )
        return network

    def find(self, given: Path | None, own: Path, option: str, recipe: str) -> Path:
        """The file of weights that was `given` by an option, or the experiment's `own`, which serve no folder.

        Raises:
          SystemExit: there are none; the message names the command that makes them, `recipe`.
        """
        path = own if given is None and self.data is None else given
        if path is not None and (path.is_file() or (path / IN_A_RUN).is_file()):
            return path
        where = f" --data folder --data.path {shlex.quote(str(self.data_path))} --data.size {self.size}"
        missing = f"your own pictures need {option} PATH" if path is None else f"{option}: there is no {path}"
        raise SystemExit(f"{missing}. `python experiments/{recipe}{where if self.data else ''}` makes these weights.")


def model_of(
    path: Path, sde: SDE, shape: tuple[int, ...] | None, classes: int = 0, prediction: Callable | None = None
) -> Model:
    """The model of a file, or of a run's folder, that an experiment of these images and this process can use.

    Args:
      shape: of its examples; None: any.
      classes: how many it is conditioned on; 0 for none.
      prediction: the model's, where a student learns with the same network; by default any.

    Raises:
      SystemExit: there is no such file, or it is of another kind; the message says what it is.
    """
    model = _read(path)
    if not isinstance(model, Model):
        raise SystemExit(f"{path} holds no diffusion model but a network {type(model.network).__name__}")
    try:
        precondition.check_process(model.denoise, sde)
    except ValueError as error:
        raise SystemExit(f"{path} does not fit this experiment: {error}") from error
    if shape is not None and model.shape != shape:
        raise SystemExit(f"{path} is a model of images of shape {model.shape}, but this experiment needs {shape}")
    if _classes(model) != classes:
        raise SystemExit(f"{path} is a model of {_classes(model)} classes, but this experiment needs {classes}")
    if prediction is not None and model.prediction is not prediction:
        raise SystemExit(f"{path} is a model of {model.prediction}, but this experiment needs {prediction.__name__}")
    return model


def _classes(model: Model | Trained) -> int:
    """How many classes a network is conditioned on, or tells apart."""
    network = model.network
    return getattr(network, "num_classes", getattr(network, "n_classes", 0))


def _read(path: Path) -> Any:
    try:
        return load(path)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error

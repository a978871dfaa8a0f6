"""What the losses of this folder share: a batch with its noise, the student's network, its target, and its teacher."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import Partial

from diffjax.arrays import fold, normal
from diffjax.typing import SDE, Cond, Key, PyTree


class Draw(NamedTuple):
    """A batch and what its keys give."""

    x0: Array  # [B, ...]
    eps: Array  # [B, ...]
    cond: Cond
    k_time: Key
    rngs: dict[str, Key]  # one dropout for the student and its target: they differ by nothing else


def read(key: Key, batch: PyTree) -> Draw:
    """A batch as in `DSM`: x_0 itself, or a dict with "image" and optionally "cond" and "noise".

    Raises:
      ValueError: the noise has another shape than the images.
    """
    batch = batch if isinstance(batch, dict) else {"image": batch}
    k_time, k_noise, k_dropout = (fold(key, i) for i in range(3))
    x0 = batch["image"]
    eps = batch["noise"] if "noise" in batch else normal(k_noise, x0)
    if eps.shape != x0.shape:
        raise ValueError(f"the noise has shape {eps.shape}, the images {x0.shape}: each image needs its own eps")
    return Draw(x0, eps, batch.get("cond"), k_time, {"dropout": k_dropout if k_dropout.ndim == 0 else k_dropout[0]})


def bound(loss: Any, params: PyTree, draw: Draw) -> Partial:
    """The loss's network with these parameters."""
    return Partial(loss.network, params, train=loss.train, rngs=draw.rngs)


def target(loss: Any, params: PyTree) -> PyTree:
    """The parameters of the loss's target, stopped: those of the student, or of its average number `loss.target`.

    Raises:
      ValueError: the average is not known.
    """
    if loss.target is None:
        return jax.lax.stop_gradient(params)
    ema = () if loss.progress is None else loss.progress.ema
    if loss.target >= len(ema):
        raise ValueError(
            f"the loss compares with average {loss.target} of the student, but knows of {len(ema)}: train with that "
            "many `ema_decays`, or give `progress=Progress(step, ema)`"
        )
    return jax.lax.stop_gradient(ema[loss.target])


def training_step(loss: Any) -> Array | None:
    """How many steps were taken, if that is known."""
    return None if loss.progress is None else loss.progress.step


def check_teacher(teacher: Any, sde: SDE) -> None:
    """Raise a ValueError if the teacher says that it was made for another process: a `Partial` that holds its SDE.

    The outermost SDE counts (`gaussian.rescale` changes it), guided denoisers are looked into, and plain functions
    pass. Numbers that are traced are not compared.
    """
    own = _process(teacher)
    if own is None:
        return
    same = jax.tree.structure(own) == jax.tree.structure(sde)
    for a, b in zip(jax.tree.leaves(own), jax.tree.leaves(sde), strict=False):
        same = same and (isinstance(a, Tracer) or isinstance(b, Tracer) or bool(np.all(np.asarray(a) == b)))
    if not same:
        raise ValueError(
            f"the teacher was made for {own}, but the student's process is {sde}: carry the teacher over by "
            "`gaussian.rescale(denoise, its_sde, sde)`"
        )


def _process(teacher: Any) -> Any:
    if not isinstance(teacher, Partial):
        return None
    args = (*teacher.args, *teacher.keywords.values())
    own = [a for a in args if all(hasattr(a, name) for name in ("alpha", "sigma", "T"))]
    inner = (_process(a) for a in args)
    return own[-1] if own else next((found for found in inner if found is not None), None)

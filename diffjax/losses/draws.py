"""What losses share: a batch with its noise, its times, the network with its parameters, and a student's target."""

from typing import Any, NamedTuple

import jax
from jax import Array
from jax.tree_util import Partial

from diffjax.arrays import fold, normal
from diffjax.times.grids import check_times
from diffjax.typing import Cond, Key, PyTree, check_takes


class Draw(NamedTuple):
    """A batch and what its keys give."""

    x0: Array  # [B, ...]
    eps: Array  # [B, ...]
    cond: Cond
    k_time: Key
    rngs: dict[str, Key]  # one dropout for the student and its target: they differ by nothing else


def read(key: Key, batch: PyTree) -> Draw:
    """A batch: x_0 [B, ...] itself, or a dict with "image" and optionally "cond" and "noise", the eps [B, ...].

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


def times(loss: Any, law: Any, draw: Draw) -> tuple[Array, ...]:
    """The times of the batch's examples, of a law of pairs or of stops.

    Raises:
      ValueError: the law draws single times, holds a grid of times that the process has not, or needs the training
        step, and that is not known.
    """
    check_takes(law, "a law of pairs, such as `times.Sorted(law)`,", "key", "n", "step")
    if hasattr(law, "ts"):
        check_times(law.ts, loss.sde)
    return law(draw.k_time, len(draw.x0), training_step(loss))


def target(loss: Any, params: PyTree) -> PyTree:
    """The parameters of the loss's target, stopped: those of the student, or of its average number `loss.target`.

    Raises:
      ValueError: the average is not known.
    """
    if loss.target is None:
        return jax.lax.stop_gradient(params)
    ema = () if loss.progress is None else loss.progress.ema
    if not 0 <= loss.target < len(ema):
        raise ValueError(
            f"the loss compares with average {loss.target} of the student, but knows of {len(ema)}: train with that "
            "many `ema_decays`, or give `progress=Progress(step, ema)`"
        )
    return jax.lax.stop_gradient(ema[loss.target])


def training_step(loss: Any) -> Array | None:
    """How many steps were taken, if that is known."""
    return None if loss.progress is None else loss.progress.step

"""Data parallelism: the batch is spread over the devices, the state is whole on each.

`jit_train_steps` is the way: one program over arrays with a placement (`NamedSharding`), the same for one device or
many. `pmap_train_steps` runs the same `train_step` under `jax.pmap` and an explicit mean over the devices. `jit_steps`
and `pmap_steps` do so with any steps, such as adversarial ones. All have one signature and give the same parameters:

    (state, batches [k, B, ...]) -> (state, metrics [k])

The state that goes in is *donated*: its buffers become those of the state that comes out. So use only the state
returned. A state that does not lie on the devices yet (a new one, one read from disk) is copied to them first, and
stays the caller's.

With several processes (`jax.distributed.initialize()` before anything else) each passes its own share of the batch, in
the order of `jax.process_index()`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from diffjax.conditions import check_fields, classes_of
from diffjax.losses.evaluate import check_loss
from diffjax.printing import short
from diffjax.train.optim import EmaDecay, check_decays
from diffjax.train.state import is_key
from diffjax.train.step import Metrics, batch_size, train_steps
from diffjax.typing import Loss, PyTree

TrainSteps = Callable[[Any, PyTree], tuple[Any, Metrics]]  # (state, batches [k, B, ...]) -> (state, metrics)


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis, "data", over `devices` (all of them by default)."""
    n = len(jax.devices() if devices is None else devices)
    return jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """A fresh copy of `tree`, whole on every device of `mesh`; every process must pass the same values."""
    whole = NamedSharding(mesh, PartitionSpec())

    def put(x):
        if is_key(x):
            return jax.random.wrap_key_data(put(jax.random.key_data(x)), impl=jax.random.key_impl(x))
        return jax.device_put(np.array(x), whole)

    return jax.tree.map(put, tree)


def shard_batch(mesh: Mesh, batch: PyTree, axis: int = 0) -> PyTree:
    """The examples, along `axis` of every leaf, spread over the devices of `mesh`.

    Raises:
      ValueError: the devices cannot share the examples evenly.
    """
    sharding = NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))
    for x in jax.tree.leaves(batch):
        _check_divisible(x.shape[axis], mesh.local_mesh.size)
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


def jit_train_steps(
    loss: Loss, tx: optax.GradientTransformation, ema_decays: Sequence[EmaDecay] = (), mesh: Mesh | None = None
) -> TrainSteps:
    """`train_steps` compiled for the devices of `mesh` (all by default): `(state, batches [k, B, ...]) -> ...`.

    A call takes k steps, on the k batches along the first axis. `jit_train_step` takes one, on a batch [B, ...].
    """
    return _checked(jit_steps, loss, tx, ema_decays, mesh)


def jit_train_step(
    loss: Loss, tx: optax.GradientTransformation, ema_decays: Sequence[EmaDecay] = (), mesh: Mesh | None = None
) -> TrainSteps:
    """One step compiled for the devices of `mesh` (all by default): `(state, batch [B, ...]) -> (state, metrics)`."""
    check_loss(loss)
    check_decays(ema_decays)
    steps, classes = jit_steps(partial(train_steps, loss, tx, tuple(ema_decays)), mesh), classes_of(loss)

    def run(state: Any, batch: PyTree) -> tuple[Any, Metrics]:
        batch_size(batch)
        check_fields(batch, classes)
        state, metrics = steps(state, jax.tree.map(lambda x: np.asarray(x)[None], batch))
        return state, jax.tree.map(lambda m: m[0], metrics)

    return run


def jit_steps(steps: TrainSteps, mesh: Mesh | None = None) -> TrainSteps:
    """Any steps `(state, batches [k, B, ...]) -> (state, metrics)` compiled in that way: `alternating_steps`."""
    mesh = make_mesh() if mesh is None else mesh
    whole = NamedSharding(mesh, PartitionSpec())
    spread = NamedSharding(mesh, PartitionSpec(None, "data"))
    step = jax.jit(steps, in_shardings=(whole, spread), out_shardings=whole, donate_argnums=0)

    def run(state: Any, batches: PyTree) -> tuple[Any, Metrics]:
        check_batches(batches)
        return step(_place(mesh, state), shard_batch(mesh, batches, axis=1))

    return run


def pmap_train_steps(
    loss: Loss,
    tx: optax.GradientTransformation,
    ema_decays: Sequence[EmaDecay] = (),
    devices: Sequence[Any] | None = None,
) -> TrainSteps:
    """The same under `jax.pmap`, for one process; gradients are averaged over the axis "batch"."""
    return _checked(pmap_steps, loss, tx, ema_decays, devices, axis="batch")


def pmap_steps(steps: TrainSteps, devices: Sequence[Any] | None = None) -> TrainSteps:
    """Any steps under `jax.pmap`, those of `adversarial_steps` with `axis="batch"`, say.

    They must average over the axis "batch" themselves: without it every device would train on its own share alone, and
    one of the states would be returned.
    """
    devices = jax.local_devices() if devices is None else devices
    n = len(devices)
    mesh = Mesh(np.asarray(devices), ("batch",), axis_types=(AxisType.Auto,))
    options: Any = dict(axis_name="batch", in_axes=(None, 1), out_axes=(None, None), devices=devices)
    step = jax.pmap(steps, donate_argnums=0, **options)

    def divide(x):  # [k, B, ...] -> [k, n, B / n, ...]
        _check_divisible(x.shape[1], n)
        return x.reshape(x.shape[0], n, x.shape[1] // n, *x.shape[2:])

    def run(state: Any, batches: PyTree) -> tuple[Any, Metrics]:
        check_batches(batches)
        return step(_place(mesh, state), jax.tree.map(divide, batches))

    return run


def _place(mesh: Mesh, state: Any) -> Any:
    """The state itself where it lies on the mesh (it came from `replicate` or from a step), else a copy that does."""
    leaves = jax.tree.leaves(state)
    if not leaves or not isinstance(leaves[0], jax.Array):
        raise TypeError(f"expected a state, such as TrainState.create(key, params, tx), got {short(state)[:200]}")
    here = leaves[0].sharding
    placed = isinstance(here, NamedSharding) and here.device_set == set(mesh.devices.flat)
    return state if placed else replicate(mesh, state)


def check_batches(batches: PyTree) -> None:
    """Raise a ValueError unless the leaves of `batches` are [k, B, ...], of one k and one B.

    A single batch [B, ...] would be B steps of strange examples. It is seen where an array has fewer than two axes.
    """
    shapes = [np.shape(x) for x in jax.tree.leaves(batches)]
    if not shapes or len({shape[:2] for shape in shapes}) > 1 or len(shapes[0]) < 2:
        found = jax.tree.map(np.shape, batches)
        raise ValueError(
            "every array of the batches needs the same first two axes, the steps and the examples [k, B, ...], got "
            f"shapes {found}: for one step on a batch [B, ...] use `jit_train_step`"
        )


def check_step_axis(batches: PyTree) -> None:
    """Raise a ValueError where `batches` looks like a single batch [B, ...]: of vectors [B, D], or of square images.

    `jit_steps(partial(train_steps, ...))` takes what is refused here: examples that are numbers, [k, B], or that are
    vectors of few channels, as many as a batch has examples, [k, B, B, 3].
    """
    shapes = [np.shape(x) for x in jax.tree.leaves(batches)]
    images = [s for s in shapes if len(s) == 4 and s[1] == s[2] and s[3] in (1, 3, 4)]
    if images or max(map(len, shapes)) < 3:
        raise ValueError(
            f"batches have an axis of steps before that of the examples, [k, B, ...]; got {(images or shapes)[0]}, "
            "which looks like one batch: use `jit_train_step`, or give `batch[None]`"
        )


def _checked(way: Callable, loss: Any, tx: Any, ema_decays: Any, where: Any, **options: Any) -> TrainSteps:
    check_loss(loss)
    check_decays(ema_decays)
    steps, classes = way(partial(train_steps, loss, tx, tuple(ema_decays), **options), where), classes_of(loss)

    def run(state: Any, batches: PyTree) -> tuple[Any, Metrics]:
        check_batches(batches)
        check_step_axis(batches)
        check_fields(batches, classes)
        return steps(state, batches)

    return run


def _check_divisible(examples: int, devices: int) -> None:
    if examples % devices:
        raise ValueError(
            f"a batch of {examples} examples cannot be shared evenly by {devices} devices: choose a multiple of "
            f"{devices}, or fewer devices with make_mesh(jax.devices()[:n])"
        )

"""The run that all distillation experiments share: a student, alone or against an opponent, trained and counted.

An experiment names its methods as `Method`s; a `StudentRun` trains them, each in a folder of its own; on images an
`EqualNoise` draws from them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from diffjax import train
from diffjax.losses.distillation import halvings
from diffjax.runs import experiment
from diffjax.runs.experiment import Table
from diffjax.samplers import Jump, Renoise, generate
from diffjax.train.state import EmaDecay
from diffjax.typing import SDE, Key, PyTree, Sampler


class Method(NamedTuple):
    """What a few-step model is made of; the loss is the student's."""

    sde: SDE
    loss: Any
    model: Callable  # (sde, network) -> Denoiser or FlowMap
    sampler: Sampler = Renoise(1.0)
    ema: tuple[EmaDecay, ...] = (0.999,)  # the last one is sampled
    opponent: Any = None  # the loss of a discriminator or a fake score, if there is one
    turns: int = 1  # its steps for each of the student's

    @property
    def two_times(self) -> bool:
        """Whether the network is a flow map's, which takes a pair of levels."""
        return isinstance(self.sampler, Jump)


@dataclasses.dataclass(frozen=True)
class StudentRun:
    """How students are trained. Numbers are of the student's steps: with an opponent, of rounds."""

    optimiser: Callable[[int], optax.GradientTransformation]  # of the number of steps
    batches: Callable[[int], Iterator[PyTree]]  # see `train.fit`
    loop: train.LoopConfig
    workdir: Path
    key: Key
    opponent_optimiser: Callable[[int], optax.GradientTransformation] | None = (
        None  # of an opponent's steps; None: the same
    )

    def fit(self, name: str, method: Method, params: PyTree, opponent: PyTree = None) -> PyTree:
        """The last average of the student's parameters, trained from `params`, and its opponent from `opponent`.

        Raises as `train.fit`.
        """
        folder, tx = self.workdir / name, self.optimiser(self.loop.steps)
        if method.opponent is None:
            steps = train.jit_train_steps(method.loss, tx, method.ema)
            student = train.TrainState.create(self.key, params, tx, method.ema)
            return experiment.fit(steps, student, self.batches, folder, self.loop)[0].ema[-1]
        k_student, k_opponent = jax.random.split(self.key)
        tx_opponent = (self.opponent_optimiser or self.optimiser)(self.loop.steps * method.turns)
        state = train.AdversarialState(
            train.TrainState.create(k_opponent, opponent, tx_opponent),
            train.TrainState.create(k_student, params, tx, method.ema),
        )
        turns = (
            partial(train.adversarial_steps, method.opponent, tx_opponent, ()),
            partial(train.adversarial_steps, method.loss, tx, method.ema),
        )
        steps = train.jit_steps(partial(train.alternating_steps, *turns, n_d=method.turns))
        loop = in_rounds(self.loop, method.turns + 1)
        return experiment.fit(steps, state, self.batches, folder, loop)[0].generator.ema[-1]

    def progressive(self, method: Method, params: PyTree, ts: Array) -> dict[int, PyTree]:
        """Progressive distillation down to one step: the last averages of the students by their steps, parts of ts.

        Each is the next one's teacher and first parameters, and they share the steps evenly. The method's loss, a
        `Progressive`, is the first one's, but for its grid.

        Raises:
          ValueError: the number of steps of ts is no power of two.
        """
        grids, students, loss = halvings(ts), {}, method.loss
        call = self.loop.steps_per_call
        steps = max(self.loop.steps // len(grids) // call, 1) * call
        share = dataclasses.replace(self, loop=dataclasses.replace(self.loop, steps=steps))
        for grid in grids:
            n = len(grid) // 2
            loss = dataclasses.replace(loss, ts=grid)
            params = share.fit(f"PD{n}", method._replace(loss=loss), params)
            students[n] = params
            loss = dataclasses.replace(loss, teacher=method.model(method.sde, Partial(loss.network, params)))
        return students


class EqualNoise(NamedTuple):
    """Samples of many models from one noise: judged, and seen side by side."""

    key: Key
    shape: tuple[int, ...]  # of an image
    samples: int
    judge: Callable[[np.ndarray], dict[str, Any]]
    table: Table
    pictures: dict[str, np.ndarray]  # ten samples by model

    def measure(self, name: str, *how: Any) -> None:
        """Judge samples of `how`, (sde, model, sampler, ts), in a row of the table."""
        self.table.measure(name, lambda: self.judge(self._draw(self.samples, *how)))

    def look(self, name: str, *how: Any) -> None:
        """Keep the first ten of them."""
        self.pictures[name] = self._draw(10, *how)

    def _draw(self, n: int, sde: SDE, model: Any, sampler: Sampler, ts: Array) -> np.ndarray:
        return generate(self.key, model, sde, sampler, ts, (n, *self.shape))


def in_rounds(loop: train.LoopConfig, k: int) -> train.LoopConfig:
    """The same loop, where each of its steps has become a round of k."""
    counts = ("steps", "steps_per_call", "log_every", "checkpoint_every", "sample_every", "keep_every")
    return dataclasses.replace(loop, **{name: k * getattr(loop, name) for name in counts})


def evaluations(method: Method, network: Callable, params: PyTree, opponent: PyTree, batch: PyTree) -> float:
    """What a step of the student (with an opponent, a round) costs an example, in evaluations of its network.

    Multiplications (`train.products`) in the losses and their gradients are divided by those in the network: a backward
    pass counts two, and a teacher that steps along a grid counts each of its evaluations.
    """
    levels = jnp.zeros(len(batch["image"]))

    def cost(loss: Any, own: PyTree, other: PyTree) -> float:
        def step(state: train.TrainState, batches: PyTree) -> Any:
            if method.opponent is None:
                return train.train_steps(loss, optax.identity(), method.ema, state, batches)
            return train.adversarial_steps(loss, optax.identity(), method.ema, state, other, batches)

        create = partial(train.TrainState.create, jax.random.key(0), tx=optax.identity(), ema_decays=method.ema)
        state = jax.eval_shape(lambda: create(params=own))
        return train.products(step, state, jax.tree.map(lambda x: x[None], batch))

    total = cost(method.loss, params, opponent)
    if method.opponent is not None:
        total += method.turns * cost(method.opponent, opponent, params)
    return total / train.products(network, params, batch["image"], (levels, levels) if method.two_times else levels)

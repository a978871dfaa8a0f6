"""The run that all distillation experiments share: a student, alone or against a rival, trained, resumed and counted.

An experiment names its methods as `Method`s; a `StudentRun` trains them, each in a folder of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import Partial

from diffjax import train
from diffjax.losses.distillation import Progressive, halvings
from diffjax.samplers import Jump, Renoise
from diffjax.train.state import EmaDecay
from diffjax.typing import SDE, Denoiser, Key, PyTree, Sampler


class Method(NamedTuple):
    """What a few-step model is made of; the loss is the student's."""

    sde: SDE
    loss: Any
    model: Callable  # (sde, network) -> Denoiser or FlowMap
    sampler: Sampler = Renoise(1.0)
    ema: tuple[EmaDecay, ...] = (0.999,)  # the last one is sampled
    rival: Any = None  # the loss of a second player, if there is one
    turns: int = 1  # its steps for each of the student's


@dataclasses.dataclass(frozen=True)
class StudentRun:
    """How students are trained. With a rival, `loop.steps` are those of both, down to whole rounds."""

    optimiser: Callable[[int], optax.GradientTransformation]  # of the number of steps
    batches: Callable[[int], Iterator[PyTree]]  # see `train.fit`
    loop: train.LoopConfig
    workdir: Path
    key: Key

    def fit(self, name: str, method: Method, params: PyTree, rival: PyTree = None) -> PyTree:
        """The last average of the student's parameters, trained from `params` (against a rival, that from `rival`).

        Raises as `train.fit`.
        """
        loop = self.loop if method.rival is None else in_rounds(self.loop, method.turns + 1)
        tx = self.optimiser(loop.steps)
        student = train.TrainState.create(self.key, params, tx, method.ema)
        if method.rival is None:
            steps = train.jit_train_steps(method.loss, tx, method.ema)
            return train.fit(steps, student, self.batches, self.workdir / name, loop)[0].ema[-1]
        turns = partial(train.against, method.rival, tx, ()), partial(train.against, method.loss, tx, method.ema)
        players = train.Players(train.TrainState.create(jax.random.fold_in(self.key, 1), rival, tx), student)
        steps = train.jit_steps(partial(train.alternate, *turns, n_d=method.turns))
        return train.fit(steps, players, self.batches, self.workdir / name, loop)[0].g.ema[-1]

    def progressive(
        self, method: Method, network: Callable, params: PyTree, teacher: Denoiser, ts: Array
    ) -> dict[int, Denoiser]:
        """Progressive distillation down to one step: the students by their numbers of steps, on parts of the grid ts.

        Each is the next one's teacher and first parameters, and the rounds share the steps. The method's loss is not
        read.

        Raises:
          ValueError: the number of steps of ts is no power of two.
        """
        grids, students = halvings(ts), {}
        call = self.loop.steps_per_call
        steps = max(self.loop.steps // len(grids) // call, 1) * call
        share = dataclasses.replace(self, loop=dataclasses.replace(self.loop, steps=steps))
        for grid in grids:
            n = len(grid) // 2
            loss = Progressive(method.sde, grid, teacher, network, method.model)
            params = share.fit(f"PD{n}", method._replace(loss=loss), params)
            students[n] = teacher = method.model(method.sde, Partial(network, params))
        return students

    def evaluations(self, method: Method, network: Callable, params: PyTree, rival: PyTree = None) -> float:
        """What training costs, in evaluations of the network on one example: FLOPs by FLOPs, as lowered.

        A backward pass through the network counts as two; the work on parameters counts too.
        """
        batch, tx, turns = next(self.batches(0)), optax.identity(), 0 if method.rival is None else method.turns
        levels = jnp.zeros(len(batch["image"]))
        pair = isinstance(method.sampler, Jump)

        def flops(loss: Any, own: PyTree, other: PyTree) -> float:
            def step(state: train.TrainState, batches: PyTree) -> Any:
                if turns:
                    return train.against(loss, tx, (), state, other, batches)
                return train.train_steps(loss, tx, (), state, batches)

            state = jax.eval_shape(lambda: train.TrainState.create(self.key, own, tx))
            return train.step_cost(step, state, jax.tree.map(lambda x: x[None], batch))["flops"]

        once = jax.jit(network).lower(params, batch["image"], (levels, levels) if pair else levels)
        a_round = flops(method.loss, params, rival) + (turns * flops(method.rival, rival, params) if turns else 0)
        rounds = self.loop.steps // (turns + 1)
        return a_round / float((once.cost_analysis() or {})["flops"]) * len(levels) * rounds


def in_rounds(loop: train.LoopConfig, k: int) -> train.LoopConfig:
    """The same for rounds of k steps: whole rounds in a call, fewer steps where they do not divide evenly."""
    call = max(loop.steps_per_call // k, 1) * k
    every = {name: -(-getattr(loop, name) // call) * call for name in ("log_every", "checkpoint_every", "sample_every")}
    return dataclasses.replace(loop, steps=max(loop.steps // call, 1) * call, steps_per_call=call, **every)

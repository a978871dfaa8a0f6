"""Adversarial training: a discriminator and a generator in turn, each by the ordinary training step.

A round on n_d + n_g batches is

    d = train_step(loss_d, d, batch_i, opponent = g.params)     for i = 1, ..., n_d                   (1)
    g = train_step(loss_g, g, batch_i, opponent = d.params)     for i = n_d + 1, ..., n_d + n_g       (2)

for the states d of the discriminator and g of the generator (Goodfellow et al. 2014, Algorithm 1). In distribution
matching d is the fake score. DMD2 (Yin et al. 2024) takes n_d = 5, n_g = 1.

The opponent's parameters are data: they reach a loss by `Context.opponent`, at any depth, and no gradient is taken with
respect to them. Nothing else is shared. Each of the two has an optimiser, averages and a key of its own, so that the
two states together decide all that follows, and a resumed run ends with the same bits. With equal keys both would draw
the same noise. Where d is several networks its parameters are a tree of several and its loss a `Sum`.

    step_d = partial(adversarial_steps, loss_d, tx_d, ())
    step_g = partial(adversarial_steps, loss_g, tx_g, (0.999,))
    steps = jit_steps(partial(alternating_steps, step_d, step_g, n_d=5))  # or `pmap_steps`, with axis="batch" in both
    fit(steps, AdversarialState(state_d, state_g), batches, workdir, LoopConfig(steps_per_call=6, ...))
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from diffjax.losses.evaluate import takes_context
from diffjax.train.optim import EmaDecay
from diffjax.train.state import AdversarialState, TrainState
from diffjax.train.step import Metrics, train_steps
from diffjax.typing import Loss, PyTree

Turn = Callable[[TrainState, PyTree, PyTree], tuple[TrainState, Metrics]]  # (own state, opponent, batches [n, B, ...])


def adversarial_steps(
    loss: Loss,
    tx: optax.GradientTransformation,
    ema_decays: Sequence[EmaDecay],
    state: TrainState,
    opponent: PyTree,
    batches: PyTree,
    *,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """`train_steps` with the other network's parameters as `Context.opponent`.

    Raises:
      ValueError: the loss has no parameter `context`, by which it could use them.
    """
    if not takes_context(loss):
        raise ValueError(
            f"an adversarial loss uses the other network, but {loss} has no parameter `context` with the opponent"
        )
    return train_steps(loss, tx, ema_decays, state, batches, axis=axis, opponent=opponent)


def alternating_steps(
    step_d: Turn, step_g: Turn, state: AdversarialState, batches: PyTree, *, n_d: int = 1, n_g: int = 1
) -> tuple[AdversarialState, Metrics]:
    """Rounds of n_d steps of d (Eq. 1) and then n_g of g (Eq. 2), on batches [k, B, ...], k a multiple of n_d + n_g.

    The metrics are "loss" and "grad_norm" [k] in the order of the steps, and those of each under "d_" and "g_".

    Raises:
      ValueError: one of the two has no steps, or the batches are not whole rounds.
    """
    n, k = n_d + n_g, jax.tree.leaves(batches)[0].shape[0]
    if min(n_d, n_g) < 1 or k % n or not k:
        raise ValueError(f"a round takes {n_d} + {n_g} batches, at least one for each; got {k} batches")

    def one_round(state: AdversarialState, batches: PyTree) -> tuple[AdversarialState, Metrics]:
        d, of_d = step_d(state.discriminator, state.generator.params, jax.tree.map(lambda x: x[:n_d], batches))
        g, of_g = step_g(state.generator, d.params, jax.tree.map(lambda x: x[n_d:], batches))
        both = {name: jnp.concatenate([of_d[name], of_g[name]]) for name in ("loss", "grad_norm")}
        own = {f"d_{name}": m for name, m in of_d.items()} | {f"g_{name}": m for name, m in of_g.items()}
        return AdversarialState(d, g), both | own

    if k == n:  # as in `train_steps`, a scan of length 1 would still be a loop
        return one_round(state, batches)
    rounds = jax.tree.map(lambda x: x.reshape(k // n, n, *x.shape[1:]), batches)
    state, metrics = jax.lax.scan(one_round, state, rounds)
    return state, {name: m.reshape(-1) for name, m in metrics.items()}

"""Adversarial training: a discriminator and a generator in turn, each by the ordinary step against the other.

A round on n_d + n_g batches is

    d = train_step(loss_d, d, batch_i, opponent = g.params)     for i = 1, ..., n_d                   (1)
    g = train_step(loss_g, g, batch_i, opponent = d.params)     for i = n_d + 1, ..., n_d + n_g       (2)

The opponent's parameters are data: they reach a loss by `Context.opponent`, at any depth, and no gradient is taken with
respect to them. Nothing else
is shared. Each player has an optimiser, averages and a key of its own (different ones, or both draw the same noise), so
the two states together decide all that follows, and a resumed run ends with the same bits. DMD2 takes n_d = 5, n_g = 1;
where d is several networks its parameters are a tree of several and its loss a `Sum`.

    step_d = partial(against, loss_d, tx_d, ())
    step_g = partial(against, loss_g, tx_g, (0.999,))
    steps = jit_steps(partial(alternate, step_d, step_g, n_d=5))  # or `pmap_steps`, with axis="batch" in both turns
    fit(steps, Players(state_d, state_g), batches, workdir, LoopConfig(steps_per_call=6, ...))
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from diffjax.losses.evaluate import takes_context
from diffjax.train.optim import EmaDecay
from diffjax.train.state import Players, TrainState
from diffjax.train.step import Metrics, train_steps
from diffjax.typing import Loss, PyTree

Turn = Callable[[TrainState, PyTree, PyTree], tuple[TrainState, Metrics]]  # (own state, opponent, batches [n, B, ...])


def against(
    loss: Loss,
    tx: optax.GradientTransformation,
    ema_decays: Sequence[EmaDecay],
    state: TrainState,
    opponent: PyTree,
    batches: PyTree,
    *,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """`train_steps` with the other player's parameters as `Context.opponent`.

    Raises:
      ValueError: the loss has no parameter `context`, by which it could use them.
    """
    if not takes_context(loss):
        raise ValueError(
            f"the players train against each other, but {loss} has no parameter `context` with the opponent"
        )
    return train_steps(loss, tx, ema_decays, state, batches, axis=axis, opponent=opponent)


def alternate(
    step_d: Turn, step_g: Turn, state: Players, batches: PyTree, *, n_d: int = 1, n_g: int = 1
) -> tuple[Players, Metrics]:
    """Rounds of n_d steps of d (Eq. 1) and then n_g of g (Eq. 2), on batches [k, B, ...], k a multiple of n_d + n_g.

    The metrics are "loss" and "grad_norm" [k] in the order of the steps, and those of each player under "d_" and "g_".

    Raises:
      ValueError: a player has no steps, or the batches are not whole rounds.
    """
    n, k = n_d + n_g, jax.tree.leaves(batches)[0].shape[0]
    if min(n_d, n_g) < 1 or k % n or not k:
        raise ValueError(f"a round takes {n_d} + {n_g} batches, at least one for each player; got {k} batches")

    def one_round(state: Players, batches: PyTree) -> tuple[Players, Metrics]:
        d, of_d = step_d(state.d, state.g.params, jax.tree.map(lambda x: x[:n_d], batches))
        g, of_g = step_g(state.g, d.params, jax.tree.map(lambda x: x[n_d:], batches))
        both = {name: jnp.concatenate([of_d[name], of_g[name]]) for name in ("loss", "grad_norm")}
        own = {f"{player}_{name}": m for player, of in (("d", of_d), ("g", of_g)) for name, m in of.items()}
        return Players(d, g), both | own

    if k == n:  # as in `train_steps`, a scan of length 1 would still be a loop
        return one_round(state, batches)
    rounds = jax.tree.map(lambda x: x.reshape(k // n, n, *x.shape[1:]), batches)
    state, metrics = jax.lax.scan(one_round, state, rounds)
    return state, {name: m.reshape(-1) for name, m in metrics.items()}

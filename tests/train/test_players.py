"""Two players in turn: each against the other as it stands, and a resumed game is the same game."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax.arrays import normal
from diffjax.losses import Sum
from diffjax.train import (
    Checkpoints,
    LoopConfig,
    Players,
    TrainState,
    adam,
    against,
    alternate,
    fit,
    jit_steps,
    train_step,
)
from diffjax.typing import pytree


@pytree
class Chase:
    """|w - sign opponent w'|^2 at jittered points: d runs after g, and g away from d."""

    sign: float

    def __call__(self, params, keys, batch, context):
        x = batch["x"] + 0.1 * normal(keys, batch["x"])
        return (x @ (params["w"] - self.sign * context.opponent["w"]) + params["b"]) ** 2, {"one": jnp.ones(len(x))}


TX_D, TX_G, EMA = adam(0.05, clip=1.0), optax.sgd(0.02), (0.9,)
LOSS_D, LOSS_G = Sum((Chase(1.0),), (0.5,)), Chase(-1.0)
GAME = partial(alternate, partial(against, LOSS_D, TX_D, ()), partial(against, LOSS_G, TX_G, EMA), n_d=5)


@pytest.fixture
def start(line):
    other = jax.tree.map(lambda p: p + 0.5, line.params)
    return Players(
        TrainState.create(jax.random.key(1), line.params, TX_D), TrainState.create(jax.random.key(2), other, TX_G, EMA)
    )


def stacked(line, start, k):
    return jax.tree.map(lambda *x: np.stack(x), *(line.batch(n) for n in range(start, start + k)))


def close(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_two_rounds_are_five_steps_and_one_and_again(line, start):
    """Against `train_step` called by hand, each loss with the other's latest parameters."""
    together, metrics = jax.jit(GAME)(start, stacked(line, 0, 12))
    d, g, losses = start.d, start.g, []
    by_hand = {
        "d": jax.jit(lambda s, o, b: train_step(LOSS_D, TX_D, (), s, b, opponent=o)),
        "g": jax.jit(lambda s, o, b: train_step(LOSS_G, TX_G, EMA, s, b, opponent=o)),
    }
    for n in range(12):
        if n % 6 < 5:
            d, seen = by_hand["d"](d, g.params, line.batch(n))
        else:
            g, seen = by_hand["g"](g, d.params, line.batch(n))
        losses.append(seen["loss"])
    close((together.d.params, together.g.params, together.g.ema), (d.params, g.params, g.ema))
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    assert metrics["d_part0"].shape == (10,) and metrics["g_one"].shape == (2,) and metrics["grad_norm"].shape == (12,)
    assert (int(together.d.step), int(together.g.step), int(together.step)) == (10, 2, 12)


def test_a_resumed_game_ends_with_the_same_bits(line, start, tmp_path):
    steps = jit_steps(GAME)
    state, at_six = start, None
    for n in range(0, 18, 6):
        state, _ = steps(state, stacked(line, n, 6))
        if n == 0:
            with Checkpoints(tmp_path / "by_hand") as saved:
                saved.save(state)
    with Checkpoints(tmp_path / "by_hand") as saved:
        at_six = saved.restore(jax.eval_shape(lambda: start))
    for n in range(6, 18, 6):
        at_six, _ = steps(at_six, stacked(line, n, 6))
    line.equal(at_six, state)

    config = dict(steps_per_call=6, log_every=6, checkpoint_every=6, sample_every=0)
    fit(steps, start, line.batches, tmp_path / "run", LoopConfig(steps=6, **config))
    ended, summary = fit(steps, start, line.batches, tmp_path / "run", LoopConfig(steps=18, resume=True, **config))
    line.equal(ended, state)
    assert summary["steps"] == 18
    assert "g_loss" in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_what_is_no_game_is_refused(line, start):
    with pytest.raises(ValueError, match=r"a round takes 5 \+ 1 batches.*got 5"):
        GAME(start, stacked(line, 0, 5))
    with pytest.raises(ValueError, match="at least one for each player"):
        alternate(GAME.args[0], GAME.args[1], start, stacked(line, 0, 1), n_g=0)
    with pytest.raises(ValueError, match="no parameter `context`"):
        against(line.loss, TX_G, EMA, start.g, start.d.params, stacked(line, 0, 1))

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax import times
from diffjax.arrays import example_keys
from diffjax.train import TrainState, ema_warmup, train_step, train_steps
from diffjax.typing import pytree


def flat(params):
    return np.append(np.asarray(params["w"], np.float64), float(params["b"]))


def test_a_step_of_gradient_descent_is_that_of_numpy(line, key):
    tx, batch = optax.sgd(0.1), line.batch(0)
    state, metrics = train_step(line.quiet_loss, tx, (), TrainState.create(key, line.params, tx), batch)
    x = np.c_[batch["x"], np.ones(8)].astype(np.float64)
    theta = flat(line.params)
    error = x @ theta - batch["y"]
    gradient = 2 * x.T @ error / 8
    np.testing.assert_allclose(flat(state.params), theta - 0.1 * gradient, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], np.mean(error**2), rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(gradient), rtol=1e-5)
    assert int(state.step) == 1


def test_example_i_of_step_n_has_the_key_of_i_and_n(key):
    def draw(params, keys, batch):
        u = jax.vmap(jax.random.uniform)(keys)
        return u * params, {"third": u * (jnp.arange(4) == 3)}

    tx = optax.sgd(0.0)
    state = TrainState.create(key, jnp.ones(()), tx)
    for step in range(2):
        state, metrics = train_step(draw, tx, (), state, jnp.zeros((4, 1)))
        base = jax.random.fold_in(key, step)
        u = [float(jax.random.uniform(jax.random.fold_in(base, i))) for i in range(4)]
        np.testing.assert_allclose(metrics["loss"], np.mean(u), rtol=1e-6)
        np.testing.assert_allclose(metrics["third"], u[3] / 4, rtol=1e-6)


def test_averages_follow_their_recursion(line, key):
    tx, decays = optax.sgd(0.1), (0.9, ema_warmup(0.25), ema_warmup(0.999))
    state = TrainState.create(key, line.params, tx, decays)
    expected = [flat(line.params)] * 3
    step = jax.jit(lambda state, batch: train_step(line.loss, tx, decays, state, batch)[0])
    for n in range(1, 7):
        state = step(state, line.batch(n))
        warm = (1 + n) / (10 + n)
        used = [0.9, min(0.25, warm), min(0.999, warm)]
        expected = [d * old + (1 - d) * flat(state.params) for d, old in zip(used, expected, strict=True)]
    np.testing.assert_allclose([flat(e) for e in state.ema], expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected[0] - expected[2]).max() > 0.01  # the decays make a difference


def test_averages_keep_their_type(key):
    tx, decays = optax.sgd(0.1), (0.9, ema_warmup(0.9))
    state = TrainState.create(key, jnp.ones(3, jnp.bfloat16), tx, decays)
    loss = lambda params, keys, x: ((params * x).sum(1), {})  # noqa: E731
    state, _ = train_step(loss, tx, decays, state, jnp.ones((2, 3)))
    assert state.params.dtype == jnp.bfloat16 and {e.dtype for e in state.ema} == {jnp.dtype(jnp.float32)}


def test_k_steps_in_one_call_are_k_calls(line, key):
    tx, decays = optax.adam(0.1), (0.9,)
    chunk = [line.batch(n) for n in range(4)]
    stacked = jax.tree.map(lambda *x: np.stack(x), *chunk)
    start = TrainState.create(key, line.params, tx, decays)
    together, metrics = jax.jit(lambda s, b: train_steps(line.loss, tx, decays, s, b))(start, stacked)
    one, losses, state = jax.jit(lambda s, b: train_steps(line.loss, tx, decays, s, b)), [], start
    for batch in chunk:
        state, single = one(state, jax.tree.map(lambda x: x[None], batch))
        losses.append(single["loss"][0])
    assert int(together.step) == 4 and metrics["abs"].shape == (4,)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=1e-5)
    for a, b in zip(
        jax.tree.leaves((together.params, together.ema)), jax.tree.leaves((state.params, state.ema)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, k, b: (jnp.mean(p * b["x"]), {}),
        lambda p, k, b: (p * b["x"], {}),
        lambda p, k, b: (p * b["x"][:, 0], {"extra": jnp.zeros(())}),
    ],
    ids=["mean taken", "not summed", "aux"],
)
def test_a_loss_that_is_not_per_example_is_refused(loss, key, line):
    tx = optax.sgd(0.1)
    with pytest.raises(ValueError, match="one value per example"):
        train_step(loss, tx, (), TrainState.create(key, jnp.ones(()), tx), line.batch(0))


def test_batches_and_decays_that_do_not_fit_are_refused(line, key):
    tx = optax.sgd(0.1)
    state = TrainState.create(key, line.params, tx)
    with pytest.raises(ValueError, match="same first axis"):
        train_step(line.loss, tx, (), state, {"x": np.zeros((4, 3)), "y": np.zeros(5)})
    with pytest.raises(ValueError, match="same first axis"):
        train_step(line.loss, tx, (), state, {})
    with pytest.raises(ValueError, match="1 EMA decays, but the state holds 0"):
        train_step(line.loss, tx, (0.9,), state, line.batch(0))


@pytree
class Timed:
    """A loss that is t params^2 at times of the context's distribution."""

    def __call__(self, params, keys, batch, context):
        p = context.time_distribution
        t = p(keys, len(keys))
        return p.weight(t) * t * params**2, {"t": t}


def test_a_time_distribution_in_the_state_learns_from_the_losses_and_is_used(key):
    """One call of 6 steps is 6 calls, and those are its updates; the losses of time t are t, without weights."""
    first, tx = times.LossSecondMoment.create(3, 4), optax.sgd(0.0)
    start = TrainState.create(key, jnp.ones(()), tx, time_distribution=first)
    together, _ = jax.jit(lambda s, b: train_steps(Timed(), tx, (), s, b))(start, jnp.zeros((6, 8, 1)))
    step, state = jax.jit(lambda s: train_step(Timed(), tx, (), s, jnp.zeros((8, 1)))[0]), start

    @jax.jit
    def updated(distribution, keys):
        t = distribution(keys, 8)
        return distribution.update(t, t)

    for n in range(6):
        keys = example_keys(jax.random.fold_in(key, n), 8)
        expected, state = updated(state.time_distribution, keys), step(state)
        np.testing.assert_allclose(state.time_distribution.history, expected.history, rtol=1e-5)
        np.testing.assert_array_equal(state.time_distribution.count, expected.count)
    np.testing.assert_allclose(together.time_distribution.history, state.time_distribution.history, rtol=1e-5)
    learnt = state.time_distribution.probabilities()
    np.testing.assert_allclose(learnt, 0.999 * np.array([1, 2, 3]) / 6 + 0.001 / 3, rtol=1e-5)


def test_a_time_distribution_needs_a_loss_that_takes_it(line, key):
    state = TrainState.create(key, line.params, optax.sgd(0.1), time_distribution=times.LossSecondMoment.create(3))
    with pytest.raises(ValueError, match="cannot use it"):
        train_step(line.loss, optax.sgd(0.1), (), state, line.batch(0))

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax.train import TrainState, train_steps


def test_a_new_state_is_a_copy_and_every_average_starts_at_the_parameters(line, key):
    state = TrainState.create(key, line.params, optax.adam(1e-3), (0.9, 0.99))
    assert state.step.dtype == jnp.int32 and int(state.step) == 0
    line.equal(state.ema, (line.params, line.params))
    line.equal(state.opt_state, optax.adam(1e-3).init(line.params))
    arrays = [x for x in jax.tree.leaves((line.params, state.params, state.ema, state.opt_state))]
    assert len({x.unsafe_buffer_pointer() for x in arrays}) == len(arrays)  # so that each may be donated


@pytest.mark.parametrize(
    "key", [np.zeros(2, np.uint32), jax.random.split(jax.random.key(0), 3)], ids=["raw", "several"]
)
def test_what_is_not_one_key_is_refused(line, key):
    with pytest.raises(ValueError, match=r"jax\.random\.key"):
        TrainState.create(key, line.params, optax.sgd(1e-3))


@pytest.mark.parametrize(
    ("params", "decays", "error", "message"),
    [
        ({}, (), ValueError, "no parameter to train"),
        ({"w": jnp.ones((), int)}, (), TypeError, "arrays of floats, but .'w'. is int32"),
        ({"w": jnp.ones(2)}, 0.99, TypeError, "a tuple with one decay"),
        ({"w": jnp.ones(2)}, (1.5,), ValueError, "an EMA decay must be"),
    ],
)
def test_parameters_and_decays_that_cannot_be_trained_are_refused(key, params, decays, error, message):
    with pytest.raises(error, match=message):
        TrainState.create(key, params, optax.sgd(0.1), decays)


def test_averages_of_half_precision_move_in_float32(key):
    """From 2 to 1 at decay 0.99: 200 updates leave 1 + 0.99^200; in bfloat16 the average would stay near 2."""
    tx, decays = optax.sgd(0.5), (0.99,)
    loss = lambda params, keys, x: ((params - x) ** 2, {})  # noqa: E731
    start = TrainState.create(key, jnp.asarray(2.0, jnp.bfloat16), tx, decays)
    state, _ = jax.jit(lambda s, b: train_steps(loss, tx, decays, s, b))(start, jnp.ones((200, 4), jnp.bfloat16))
    assert state.params.dtype == jnp.bfloat16 and state.ema[0].dtype == jnp.float32
    np.testing.assert_allclose(state.ema[0], 1 + 0.99**200, rtol=0.01)

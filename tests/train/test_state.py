import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax.train import TrainState


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

import json
import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import optax
import pytest

from diffjax.train import TrainState, adam, ema_warmup, jit_train_step, jit_train_steps, pmap_train_steps

WAYS = ["jit on 8", "jit on 8, 5 steps a call", "pmap on 8"]


@pytest.fixture(scope="module")
def eight():
    """What `eight_devices.py` found; XLA reads the number of devices once, hence another process."""
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"  # compiled fast, run once
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    script = str(Path(__file__).with_name("eight_devices.py"))
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_devices_do_not_change_the_parameters(eight, way):
    assert eight["devices"] == 8 and eight["moved"] > 0.01
    assert eight[way] < 1e-5


@pytest.mark.slow
def test_devices_do_not_change_what_a_time_distribution_learns(eight):
    assert eight["learned"] > 0.01 and eight["distribution"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("way", ["jit", "pmap"])
def test_devices_do_not_change_losses_that_look_at_the_whole_batch(eight, way):
    assert eight[f"kinds on {way}"] < 2e-5


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (np.zeros((4, 8, 8, 1), np.float32), "looks like one batch"),
        (np.zeros((64, 2), np.float32), "looks like one batch"),
        ({"x": np.zeros((8, 3)), "y": np.zeros(8)}, r"the steps and the examples \[k, B"),
    ],
)
def test_a_batch_without_the_axis_of_steps_is_refused_and_has_a_step_of_its_own(line, key, batches, message):
    tx = adam(0.1)
    for way in (jit_train_steps, pmap_train_steps):
        with pytest.raises(ValueError, match=message):
            way(line.loss, tx)(TrainState.create(key, line.params, tx), batches)
    if isinstance(batches, dict):
        start = TrainState.create(key, line.params, tx)
        state, metrics = jit_train_step(line.loss, tx)(start, line.batch(0))
        many, _ = jit_train_steps(line.loss, tx)(start, jax.tree.map(lambda x: x[None], line.batch(0)))
        line.equal(state, many)
        assert metrics["loss"].shape == ()


@pytest.mark.slow
def test_devices_do_not_change_a_game_of_two_players(eight):
    assert eight["trained"] > 1e-3 and eight["adversarial"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jit", "pmap"])
def test_examples_that_cannot_be_shared_evenly_are_refused(eight, name):
    assert "12 examples cannot be shared evenly by 8 devices" in eight[f"uneven {name}"]


@pytest.mark.parametrize("way", [jit_train_steps, pmap_train_steps])
def test_the_callers_arrays_survive_and_the_buffers_of_a_state_are_reused(line, key, way):
    tx, decays = adam(0.1), (0.9,)
    start = TrainState.create(key, line.params, tx, decays)
    steps = way(line.loss, tx, decays)
    batch = jax.tree.map(lambda x: x[None], line.batch(0))
    first, _ = steps(start, batch)
    again, _ = steps(start, batch)
    line.equal(first, again)
    steps(first, batch)
    assert all(x.is_deleted() for x in jax.tree.leaves((first.params, first.opt_state, first.ema)))
    assert np.isfinite(np.asarray(start.params["w"])).all() and jax.random.uniform(key) >= 0


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("way", [jit_train_steps, pmap_train_steps])
def test_a_run_is_traced_once(line, key, way, accumulate):
    chex.clear_trace_counter()
    loss = chex.assert_max_traces(line.loss, n=1)
    tx, decays = (
        adam(optax.cosine_decay_schedule(0.1, 10), warmup=2, clip=1.0, accumulate=accumulate),
        (0.9, ema_warmup(0.9)),
    )
    state, steps = TrainState.create(key, line.params, tx, decays), way(loss, tx, decays)
    for n in range(4):
        state, _ = steps(state, jax.tree.map(lambda x: x[None], line.batch(n)))
    assert int(state.step) == 4

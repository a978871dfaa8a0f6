"""What a run survives, with real processes and real bits: a kill while it saves, a full disk, and both resumed.

Flipped bits, two runs at once and signals are in `tests/train/test_loop.py`, changed options in
`tests/runs/test_experiment.py`.
"""

import itertools
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from diffjax import train
from diffjax.arrays import normal

TX = train.adam(0.01, warmup=3)
LOOP = train.LoopConfig(steps=10, log_every=1, checkpoint_every=1, sample_every=0)


def loss(params, keys, batch):
    noise = normal(keys, batch)
    return ((batch + 0.1 * noise - params.mean()) ** 2).mean(-1), {}


def run(workdir, pause=0.0, resume=False):
    def batches(start):
        for n in itertools.count(start):
            time.sleep(pause)
            yield np.random.default_rng(n).normal(size=(4, 2)).astype(np.float32)

    params = jax.random.normal(jax.random.key(3), (200_000,))  # 0.8 MB, that a save takes a while
    start = train.TrainState.create(jax.random.key(1), params, TX, (0.9,))
    loop = train.LoopConfig(**{**vars(LOOP), "resume": resume})
    return train.fit(train.jit_train_steps(loss, TX, (0.9,)), start, batches, workdir, loop)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"))


def same(a, b):
    for x, y in zip(
        jax.tree.leaves((a.params, a.opt_state, a.ema)), jax.tree.leaves((b.params, b.opt_state, b.ema)), strict=True
    ):
        np.testing.assert_array_equal(x, y)


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_saved_ends_with_the_same_bits(whole, tmp_path):
    process = subprocess.Popen([sys.executable, __file__, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        end, saving = time.time() + 100, []
        while time.time() < end and process.poll() is None and not saving:
            saving = [p for p in tmp_path.glob("checkpoints/*.orbax-checkpoint-tmp*") if int(p.name.split(".")[0]) > 3]
            time.sleep(0.002)  # a save takes longer
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    kept = [int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]
    assert 0 < max(kept) < LOOP.steps
    same(run(tmp_path, resume=True), whole)
    assert all(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())


def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(whole, tmp_path):
    """No file may become larger than 100 kB, for which the system says "File too large"."""
    process = signal.getsignal(signal.SIGXFSZ)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(train.DiskError, match=r"could not write the checkpoint of step 1 to .* MB free\. .*again"):
            run(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, process)
    same(run(tmp_path, resume=True), whole)


if __name__ == "__main__":
    run(Path(sys.argv[1]), pause=0.1)

import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffjax.train import CheckpointError, Checkpoints, TrainState, adam
from diffjax.train.checkpoint import CHECKSUMS


def at(state, step):
    return dataclasses.replace(state, step=jnp.int32(step))


@pytest.fixture(scope="module")
def state():
    """A state with everything: several types, a nested optimiser, two averages, an unusual key."""
    rng = np.random.default_rng(0)
    params = {"net": {"w": jnp.asarray(rng.normal(size=(40, 50)), jnp.float32), "b": jnp.ones(5, jnp.bfloat16) / 3}}
    tx = adam(optax.cosine_decay_schedule(1e-3, 10), warmup=2, clip=1.0, accumulate=3)
    return TrainState.create(jax.random.key(7, impl="rbg"), params, tx, (0.9, 0.99))


@pytest.fixture
def folder(tmp_path, state):
    """Two checkpoints, of steps 5 and 10."""
    with Checkpoints(tmp_path / "checkpoints") as saved:
        saved.save(at(state, 5))
        saved.save(at(state, 10), {"seconds": 1.5})
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("abstract", [False, True])
def test_what_comes_back_is_what_was_saved(line, state, folder, abstract):
    like = jax.eval_shape(lambda: state) if abstract else jax.tree.map(jnp.zeros_like, state)
    with Checkpoints(folder) as saved:
        assert saved.steps() == [5, 10] and saved.notes() == {"seconds": 1.5} and saved.notes(5) == {}
        line.equal(saved.restore(like), at(state, 10))
        line.equal(saved.restore(like, 5), at(state, 5))


def test_the_latest_and_every_k_th_are_kept_and_a_step_is_saved_once(state, tmp_path):
    with Checkpoints(tmp_path, keep=2, keep_every=30) as saved:
        for step in range(10, 70, 10):
            saved.save(at(state, step), {"first": True})
        saved.save(at(state, 60), {"first": False})
    with Checkpoints(tmp_path) as saved:
        assert saved.steps() == [30, 50, 60] and saved.notes() == {"first": True}


def test_saving_goes_on_while_the_buffers_are_reused(key, tmp_path):
    step = jax.jit(lambda s: dataclasses.replace(s, params=s.params + 1), donate_argnums=0)
    state = TrainState.create(key, jnp.zeros((1000, 1000)), optax.sgd(1.0))
    with Checkpoints(tmp_path) as saved:
        saved.save(state)
        for _ in range(20):
            state = step(state)
        assert float(state.params.max()) == 20.0
        np.testing.assert_array_equal(saved.restore(state, 0).params, 0.0)


def files(folder):
    return [path for path in (folder / "10").glob("**/d/*") if path.is_file()]


def truncate(folder):
    for path in files(folder):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "truncated": truncate,
    "data missing": lambda folder: [path.unlink() for path in files(folder)],
    "index missing": lambda folder: [path.unlink() for path in (folder / "10").glob("**/manifest.ocdbt")],
    "names missing": lambda folder: next((folder / "10").glob("*/_METADATA")).unlink(),
    "names truncated": lambda folder: next((folder / "10").glob("*/_METADATA")).write_text('{"tree'),
    "all missing": lambda folder: [shutil.rmtree(folder / "10"), (folder / "10").mkdir()],
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tasks that Orbax leaves behind
@pytest.mark.parametrize("sums", [True, False])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(line, state, folder, damage, sums, capsys):
    assert files(folder)
    damage(folder)
    if not sums:
        (folder / "10" / CHECKSUMS).unlink(missing_ok=True)
    with Checkpoints(folder) as saved:
        with pytest.raises(CheckpointError, match=r"(?s)10 is damaged or incomplete .*the one before is of step 5"):
            saved.restore(state, 10)
        line.equal(saved.restore(state), at(state, 5))
        assert "10 is damaged or incomplete" in capsys.readouterr().err
        saved.set_aside(after=5)
        assert saved.steps() == [5]
        saved.save(at(state, 10))
        line.equal(saved.restore(state), at(state, 10))


def test_a_flipped_bit_is_noticed_in_every_file(state, folder):
    paths = sorted(path for path in (folder / "10").rglob("*") if path.is_file() and path.stat().st_size)
    assert len(paths) > 6 and (folder / "10" / CHECKSUMS) in paths
    rng = np.random.default_rng(0)
    with Checkpoints(folder) as saved:
        for path in paths:
            data = path.read_bytes()
            bad = bytearray(data)
            bad[rng.integers(len(data))] ^= 1 << rng.integers(8)
            path.write_bytes(bytes(bad))
            name = re.escape(path.relative_to(folder / "10").as_posix())
            with pytest.raises(CheckpointError, match=rf"10 is damaged .*({name}|{CHECKSUMS}|is missing|bits have)"):
                saved.restore(state, 10)
            path.write_bytes(data)
        saved.restore(state, 10)


def test_with_all_damaged_there_is_nothing_to_go_on_from(state, folder):
    for path in folder.glob("*/**/d/*"):
        path.write_bytes(b"")
    with Checkpoints(folder) as saved, pytest.raises(CheckpointError, match=r"steps \[5, 10\] are damaged"):
        saved.restore(state)


def test_half_written_checkpoints_are_removed(folder):
    shutil.copytree(folder / "10", folder / "15.orbax-checkpoint-tmp")
    with Checkpoints(folder) as saved:
        saved.tidy()
    assert sorted(path.name for path in folder.iterdir()) == ["10", "5"]


def test_a_run_killed_while_saving_goes_on(line, state, folder):
    shutil.copytree(folder / "10", folder / "15.orbax-checkpoint-tmp")
    with Checkpoints(folder) as saved:
        assert saved.steps() == [5, 10]
        saved.save(at(state, 15))
    with Checkpoints(folder) as saved:
        line.equal(saved.restore(state), at(state, 15))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: dataclasses.replace(s, params=jax.tree.map(lambda x: x[1:], s.params)),
            r"bfloat16\[5\].*bfloat16\[4\]",
        ),
        (
            lambda s: dataclasses.replace(s, params=jax.tree.map(jnp.float16, s.params)),
            r"bfloat16\[5\] there and float16\[5\] here",
        ),
        (lambda s: dataclasses.replace(s, params={"other": jnp.zeros(2)}), r"params/net/b.*there and absent here"),
        (lambda s: dataclasses.replace(s, ema=(*s.ema, s.params)), r"'ema/2/net/b' is absent there"),
        (lambda s: dataclasses.replace(s, opt_state=s.opt_state.inner_opt_state), "opt_state"),
        (lambda s: dataclasses.replace(s, key=jax.random.key(0)), r"'key' is uint32\[4\] there and uint32\[2\] here"),
    ],
    ids=["shape", "type", "network", "averages", "optimiser", "key"],
)
def test_a_foreign_checkpoint_names_the_first_difference(state, folder, change, message):
    with Checkpoints(folder) as saved, pytest.raises(CheckpointError, match="belongs to another") as caught:
        saved.restore(change(state))
    assert caught.match(message) and caught.match("configuration that wrote it")


def test_a_missing_checkpoint_says_what_there_is(state, folder, tmp_path):
    with Checkpoints(folder) as saved, pytest.raises(CheckpointError, match=r"no checkpoint of step 7.*\[5, 10\]"):
        saved.restore(state, 7)
    with Checkpoints(tmp_path / "empty") as saved, pytest.raises(CheckpointError, match="train first"):
        saved.restore(state)

import dataclasses
import itertools
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.train import (
    Checkpoints,
    DiskError,
    LoopConfig,
    RunningError,
    TrainState,
    adam,
    ema_warmup,
    fit,
    jit_train_steps,
)

DECAYS = (0.9, ema_warmup(0.99))
TX = adam(0.05, warmup=5, clip=1.0)


def settings(**changes):
    return LoopConfig(**dict(steps=20, log_every=5, checkpoint_every=5, sample_every=0) | changes)


@pytest.fixture(scope="module")
def run(line):
    start = TrainState.create(jax.random.key(1), line.params, TX, DECAYS)
    return SimpleNamespace(start=start, steps=jit_train_steps(line.loss, TX, DECAYS))


@pytest.fixture(scope="module")
def whole(run, line, tmp_path_factory):
    return fit(run.steps, run.start, line.batches, tmp_path_factory.mktemp("whole"), settings())


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def saved_steps(workdir):
    with Checkpoints(workdir / "checkpoints") as saved:
        return saved.steps()


def spoiled(line, bad, value=np.nan):
    """The batches, with one number of the batch of step `bad` replaced."""

    def batches(start):
        for n, batch in enumerate(line.batches(start), start=start + 1):
            if n == bad:
                batch["x"][3, 1] = value
            yield batch

    return batches


def test_twenty_steps_are_ten_and_ten_more_bit_for_bit(run, line, whole, tmp_path):
    starts = []

    def batches(start):
        starts.append(start)
        return line.batches(start)

    fit(run.steps, run.start, batches, tmp_path, settings(steps=10))
    # a resumed run starts from other numbers, to show that all of them come from the disk
    other = TrainState.create(jax.random.key(9), jax.tree.map(lambda x: x + 1, line.params), TX, DECAYS)
    state, second = fit(run.steps, other, batches, tmp_path, settings(resume=True))
    line.equal(state, whole[0])
    assert starts == [0, 10] and second["steps"] == 20
    assert second["loss"] == whole[1]["loss"]
    assert [line["step"] for line in lines(tmp_path)] == [5, 10, 15, 20]
    with Checkpoints(tmp_path / "checkpoints") as saved:
        line.equal(saved.restore(run.start), whole[0])


def test_several_steps_a_call_resume_bit_for_bit_too(run, line, whole, tmp_path):
    config = dict(steps_per_call=5)
    once, _ = fit(run.steps, run.start, line.batches, tmp_path / "once", settings(**config))
    fit(run.steps, run.start, line.batches, tmp_path / "twice", settings(steps=10, **config))
    twice, _ = fit(run.steps, run.start, line.batches, tmp_path / "twice", settings(resume=True, **config))
    line.equal(once, twice)
    for a, b in zip(jax.tree.leaves(once.params), jax.tree.leaves(whole[0].params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_finished_run_is_resumed_without_a_step(run, line, tmp_path):
    def slow(start):
        time.sleep(0.3)
        yield from line.batches(start)

    state, first = fit(run.steps, run.start, slow, tmp_path, settings(steps=5))
    again, second = fit(run.steps, run.start, line.batches, tmp_path, settings(steps=5, resume=True))
    line.equal(state, again)
    assert second["loss"] == first["loss"] and second["examples_per_s"] is None
    assert first["seconds"] > 0.3 and second["seconds"] > 0.3


def test_the_figures_are_means_since_the_last_line(run, line, tmp_path):
    fit(run.steps, run.start, line.batches, tmp_path / "each", settings(steps=6, log_every=1))
    fit(run.steps, run.start, line.batches, tmp_path / "third", settings(steps=6, log_every=4))
    each, means = lines(tmp_path / "each"), lines(tmp_path / "third")
    assert [m["step"] for m in means] == [4, 6]
    assert list(means[0]) == ["step", "loss", "abs", "grad_norm", "seconds"]
    for name in ("loss", "abs", "grad_norm"):
        np.testing.assert_allclose(means[0][name], np.mean([e[name] for e in each[:4]]), rtol=1e-6)
        np.testing.assert_allclose(means[1][name], np.mean([e[name] for e in each[4:]]), rtol=1e-6)


def test_after_a_crash_each_step_is_logged_once(run, line, tmp_path):
    def torn(start):
        yield from itertools.islice(line.batches(start), 8)
        raise OSError("the disk is gone")

    config = dict(log_every=1)
    with pytest.raises(OSError, match="disk"):
        fit(run.steps, run.start, torn, tmp_path, settings(**config))
    assert [m["step"] for m in lines(tmp_path)] == list(range(1, 9)) and saved_steps(tmp_path) == [5]
    fit(run.steps, run.start, line.batches, tmp_path, settings(resume=True, **config))
    assert [m["step"] for m in lines(tmp_path)] == list(range(1, 21))


@pytest.mark.parametrize(("k", "bad", "kept"), [(1, 13, [5, 10]), (5, 13, [5, 10]), (1, 15, [5, 10]), (1, 3, [])])
def test_a_bad_loss_stops_the_run_names_the_step_and_keeps_the_last_good_checkpoint(run, line, tmp_path, k, bad, kept):
    advice = "step 10.*--resume" if kept else "No checkpoint came before"
    with pytest.raises(FloatingPointError, match=rf"loss is nan at step {bad}\. .*{advice}"):
        fit(run.steps, run.start, spoiled(line, bad), tmp_path, settings(steps_per_call=k, log_every=0))
    assert saved_steps(tmp_path) == kept
    if kept:
        state, _ = fit(run.steps, run.start, line.batches, tmp_path, settings(resume=True, steps_per_call=k))
        assert int(state.step) == 20 and np.isfinite(np.asarray(state.params["w"])).all()


def test_a_bad_gradient_is_found_before_it_is_saved(tmp_path, key):
    def root(params, keys, batch):  # finite at params = 0, with an infinite gradient
        return jnp.sqrt(jnp.abs(params)) * batch[:, 0], {}

    tx = adam(0.1)
    batches = lambda start: (np.full((4, 1), float(n == 5), np.float32) for n in itertools.count(start + 1))  # noqa: E731
    start = TrainState.create(key, jnp.zeros(()), tx)
    with pytest.raises(FloatingPointError, match=r"grad_norm is (nan|inf) at step"):
        fit(jit_train_steps(root, tx), start, batches, tmp_path, settings())
    assert saved_steps(tmp_path) == []


def test_bad_parameters_are_not_saved_whatever_the_loss_says(run, line, tmp_path):
    def steps(state, batches):
        step = state.step + 1
        params = jax.tree.map(lambda x: jnp.where(step > 7, jnp.nan, x), state.params)
        return dataclasses.replace(state, step=step, params=params), {"loss": jnp.ones(1)}

    with pytest.raises(FloatingPointError, match="parameter is not finite at step 10"):
        fit(steps, run.start, line.batches, tmp_path, settings())
    assert saved_steps(tmp_path) == [5]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_leaves(run, line, whole, tmp_path, number, capsys):
    def interrupted(start):
        for n, batch in enumerate(line.batches(start), start=start + 1):
            if n == 8:
                os.kill(os.getpid(), number)
            yield batch

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    halted = lambda: fit(  # noqa: E731
        run.steps, run.start, interrupted, tmp_path, settings(sample_every=8), lambda state: pytest.fail("drawn")
    )
    if number == signal.SIGTERM:
        with pytest.raises(SystemExit) as caught:
            halted()
        assert caught.value.code == 128 + number
    else:
        state, summary = halted()
        assert int(state.step) == summary["steps"] == 8 and summary["stopped"] == "SIGINT"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    said = capsys.readouterr().err
    assert f"{signal.Signals(number).name} received" in said and "stopped at step 8" in said
    assert saved_steps(tmp_path) == [5, 8]
    state, _ = fit(run.steps, run.start, line.batches, tmp_path, settings(resume=True))
    line.equal(state, whole[0])


def test_a_used_workdir_is_not_overwritten(run, line, tmp_path):
    fit(run.steps, run.start, line.batches, tmp_path, settings(steps=10))
    with pytest.raises(FileExistsError, match=r"up to step 10: pass LoopConfig.resume=True. .* another folder"):
        fit(run.steps, run.start, line.batches, tmp_path, settings())
    assert [m["step"] for m in lines(tmp_path)] == [5, 10] and saved_steps(tmp_path) == [5, 10]


def test_resuming_nothing_starts_anew(run, line, whole, tmp_path):
    state, _ = fit(run.steps, run.start, line.batches, tmp_path, settings(resume=True))
    line.equal(state, whole[0])


def test_data_that_end_are_reported(run, line, tmp_path):
    with pytest.raises(ValueError, match="data ended after 7 steps"):
        few = lambda start: itertools.islice(line.batches(start), 7)  # noqa: E731
        fit(run.steps, run.start, few, tmp_path, settings(steps_per_call=5))


def test_pictures_are_drawn_from_the_state_of_their_step(run, line, tmp_path):
    seen = []

    def draw(state):
        seen.append(int(state.step))
        return {"ema": np.full((2, 3, 1), seen[-1], np.uint8)} if seen[-1] != 16 else None

    fit(run.steps, run.start, line.batches, tmp_path, settings(sample_every=8), draw)
    assert seen == [8, 16, 20]
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["ema_0000008.png", "ema_0000020.png"]


def test_time_spent_sampling_does_not_count(run, line, tmp_path):
    start = time.perf_counter()
    _, summary = fit(run.steps, run.start, line.batches, tmp_path, settings(), lambda state: time.sleep(0.5))
    assert 0 < summary["seconds"] < time.perf_counter() - start - 0.5


def test_the_rate_counts_examples_after_the_first_call(run, line, tmp_path):
    def slow(start):
        for n, batch in enumerate(line.batches(start), start=start + 1):
            time.sleep(0.5 if n == 1 else 0.02)
            yield batch

    start = time.perf_counter()
    _, summary = fit(run.steps, run.start, slow, tmp_path, settings())
    seconds = time.perf_counter() - start
    assert 19 * 8 / (seconds - 0.5) < summary["examples_per_s"] < 8 / 0.02  # 19 batches of 8, at least 20 ms each


def test_a_run_is_traced_once_resumed_or_not(line, tmp_path):
    chex.clear_trace_counter()
    loss = chex.assert_max_traces(line.loss, n=1)
    steps = jit_train_steps(loss, TX, DECAYS)
    start = TrainState.create(jax.random.key(1), line.params, TX, DECAYS)
    fit(steps, start, line.batches, tmp_path, settings(steps=10))
    fit(steps, start, line.batches, tmp_path, settings(resume=True))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dict(steps=0), "at least 1"),
        (dict(steps_per_call=0), "at least 1"),
        (dict(keep=0), "at least 1"),
        (dict(log_every=-1), "log_every must be at least 0"),
        (dict(keep_every=-1), "keep_every must be at least 0"),
        (dict(steps=20, steps_per_call=3), "steps must be a multiple of steps_per_call = 3, got 20"),
        (dict(checkpoint_every=7, steps_per_call=5), "checkpoint_every must be a multiple"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        settings(**bad)


def test_a_resume_at_no_multiple_of_the_call_is_refused(run, line, tmp_path):
    fit(run.steps, run.start, line.batches, tmp_path, settings(steps=6))
    with pytest.raises(ValueError, match="step 6 is no multiple of steps_per_call = 5"):
        fit(run.steps, run.start, line.batches, tmp_path, settings(steps_per_call=5, resume=True))


def test_without_a_folder_all_stays_in_memory(run, line, whole, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    drawn = []
    state, summary = fit(run.steps, run.start, line.batches, None, settings(sample_every=10), drawn.append)
    line.equal(state, whole[0])
    assert [row["step"] for row in summary["rows"]] == [5, 10, 15, 20] and len(drawn) == 2
    assert summary["loss"] == whole[1]["loss"] and not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="needs a workdir"):
        fit(run.steps, run.start, line.batches, config=settings(resume=True))


def test_batches_may_be_a_list_and_are_taken_in_order(run, line, whole):
    state, _ = fit(
        run.steps, run.start, lambda start: list(itertools.islice(line.batches(start), 20)), None, settings()
    )
    line.equal(state, whole[0])


@pytest.mark.parametrize("batches", [[1, 2], iter([1]), None, lambda: iter([1]), lambda a, b: iter([1])])
def test_batches_that_are_no_function_of_a_step_are_refused(run, batches):
    with pytest.raises(TypeError, match="batches must be a function of a step"):
        fit(run.steps, run.start, batches)


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (np.zeros((4, 4, 1), np.uint8), "a dict of pictures"),
        ({"a": np.zeros((4, 4, 1))}, r"got float64\[4, 4, 1\] for 'a'"),
        ({"a": np.zeros((4, 4), np.uint8)}, r"got uint8\[4, 4\]"),
        ({"a": [[0]]}, "got list"),
    ],
)
@pytest.mark.parametrize("folder", [True, False])
def test_pictures_that_are_none_are_refused(run, line, tmp_path, drawn, message, folder):
    with pytest.raises(TypeError, match=message):
        fit(run.steps, run.start, line.batches, tmp_path if folder else None, settings(steps=1), lambda state: drawn)


def test_further_figures_come_from_the_state_of_their_step(run, line, tmp_path):
    fit(run.steps, run.start, line.batches, tmp_path, settings(), on_log=lambda state: {"at": int(state.step)})
    assert [(m["step"], m["at"]) for m in lines(tmp_path)] == [(n, n) for n in (5, 10, 15, 20)]


def test_a_damaged_checkpoint_is_passed_over_and_saved_anew(run, line, whole, tmp_path, capsys):
    fit(run.steps, run.start, line.batches, tmp_path, settings(steps=15))
    for step in (10, 15):
        path = max((tmp_path / "checkpoints" / str(step)).rglob("d/*"), key=lambda p: p.stat().st_size)
        data = bytearray(path.read_bytes())
        data[-9] ^= 4
        path.write_bytes(bytes(data))
    state, summary = fit(run.steps, run.start, line.batches, tmp_path, settings(resume=True))
    line.equal(state, whole[0])
    assert summary["loss"] == whole[1]["loss"] and saved_steps(tmp_path) == [10, 15, 20]
    said = capsys.readouterr().err
    assert "checkpoints/15 is damaged" in said and "bits have changed" in said and "going on from step 5" in said
    assert {p.name for p in (tmp_path / "checkpoints").glob("*.damaged")} == {"10.damaged", "15.damaged"}


def test_a_folder_that_cannot_be_a_run_s_is_refused(run, line, tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DiskError, match=r"could not write a run to.* Choose a folder that can be written to"):
            fit(run.steps, run.start, line.batches, workdir, settings())


def test_a_run_that_is_further_is_not_shortened(run, line, tmp_path):
    fit(run.steps, run.start, line.batches, tmp_path, settings(steps=10))
    with pytest.raises(ValueError, match="at step 10 already, later than steps = 5"):
        fit(run.steps, run.start, line.batches, tmp_path, settings(steps=5, resume=True))


def test_two_runs_do_not_share_a_folder(run, line, tmp_path):
    def second(start):
        with ThreadPoolExecutor(1) as pool:  # another thread counts as another run
            again = pool.submit(fit, run.steps, run.start, line.batches, tmp_path, settings(resume=True))
            assert isinstance(again.exception(), RunningError) and "another run" in str(again.exception())
        return line.batches(start)

    fit(run.steps, run.start, second, tmp_path, settings(steps=5))
    assert [m["step"] for m in lines(tmp_path)] == [5]
    fit(run.steps, run.start, line.batches, tmp_path, settings(steps=10, resume=True))


def test_levels_are_refused(run, line):
    def batches(start):
        while True:
            yield {"image": np.full((4, 2, 2, 1), 200.0, np.float32)}

    with pytest.raises(ValueError, match=r"levels 0 \.\.\. 255, but networks take \[-1, 1\]"):
        fit(run.steps, run.start, batches, None, settings())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: [a[1], a[0], *a[2:]], "train_steps is what `jit_train_steps` makes"),
        (lambda a: [a[0], a[1].params, *a[2:]], r"state is TrainState\.create"),
        (lambda a: [*a[:3], LoopConfig(), "run"], "workdir is a path or None"),
        (lambda a: [*a[:3], None, {"steps": 3}], "config is LoopConfig"),
    ],
)
def test_exchanged_arguments_are_named(run, line, change, says):
    with pytest.raises(TypeError, match=says):
        fit(*change([run.steps, run.start, line.batches]))


def test_a_state_is_printed_in_a_line(run):
    assert "\n" not in str(run.start) and len(str(run.start)) < 500

"""What experiments share: options that are misspelt, a run's folder, what a resume changes, Ctrl-C on a terminal."""

import dataclasses
import functools
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import train
from diffjax.runs import experiment, image_run, record
from diffjax.train import lock


@dataclasses.dataclass(frozen=True)
class Config:
    sde: dj.VP | dj.VE = dj.VP()
    optim: train.OptimConfig = train.OptimConfig(lr_end=1e-5)
    loop: train.LoopConfig = train.LoopConfig(steps=20)
    data: str = "digits"
    batch_size: int = 8
    flip: bool = False
    samples: int = 100
    seed: int = 0
    workdir: Path = Path("runs/x")


def changed(config, **changes):
    """{"loop.steps": 3} as nested replacements."""
    for name, value in changes.items():
        first, _, rest = name.partition("__")
        inner = changed(getattr(config, first), **{rest: value}) if rest else value
        config = dataclasses.replace(config, **{first: inner})
    return config


@pytest.fixture
def trained(tmp_path):
    """A folder in which a run of `Config` has left a checkpoint."""
    experiment.start(tmp_path, Config())
    lock.let_go(tmp_path)
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    yield tmp_path
    lock.let_go(tmp_path)


RESUME = dict(loop__resume=True)
BOUND = [
    (dict(optim__lr=0.1), "optim.lr: 0.0002 -> 0.1"),
    (dict(optim__ema=(0.5,)), r"optim.ema: \[0.9999\] -> \[0.5\]"),
    (dict(optim__clip=0.1, seed=3), r"(?s)optim.clip: 1.0 -> 0.1.*seed: 0 -> 3"),
    (dict(batch_size=4), "batch_size: 8 -> 4"),
    (dict(sde=dj.VE()), "sde: .*VP.* -> .*VE"),
    (dict(sde__beta_max=5.0), "sde.beta_max: 20.0 -> 5.0"),
    (dict(data="fashion_mnist"), "data: digits -> fashion_mnist"),
    (dict(flip=True), "flip: false -> true"),
    (dict(loop__steps=15), "loop.steps: 20 -> 15"),
]


@pytest.mark.parametrize(("changes", "message"), BOUND)
def test_a_resume_with_other_options_lists_them_and_needs_override(trained, changes, message, capsys):
    first = (trained / "config.json").read_text()
    with pytest.raises(SystemExit, match=message) as caught:
        experiment.start(trained, changed(Config(), **RESUME, **changes))
    assert "--override" in str(caught.value) and not (trained / "config.2.json").exists()
    new = changed(Config(), **RESUME, **changes, loop__override=True)
    experiment.start(trained, new)
    assert "Resuming with" in capsys.readouterr().out
    assert (trained / "config.json").read_text() == first
    kept = json.loads((trained / "config.2.json").read_text())
    assert kept.pop("date") and kept == record.present(new)
    experiment.start(trained, changed(Config(), **RESUME, **changes))  # the same again is no change
    assert not (trained / "config.3.json").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        dict(loop__steps=40),
        dict(loop__log_every=10, loop__checkpoint_every=10, loop__sample_every=0, loop__keep=1),
        dict(loop__steps_per_call=5, samples=200),
        dict(workdir=Path("runs/y")),
    ],
)
def test_what_does_not_change_training_is_free(trained, changes):
    experiment.start(trained, changed(Config(), **RESUME, **changes))
    assert (trained / "config.2.json").exists() == bool(changes.keys() - {"workdir"})


def test_a_configuration_that_is_lost_is_not_compared(trained, capsys):
    (trained / "config.json").write_text("")
    experiment.start(trained, changed(Config(), **RESUME, seed=5))
    assert "not compared" in capsys.readouterr().out and (trained / "config.json").read_text() == ""


def test_a_folder_with_checkpoints_is_not_begun_anew(trained):
    before = (trained / "config.json").read_text()
    with pytest.raises(SystemExit, match="pass --resume"):
        experiment.start(trained, Config(seed=1))
    assert (trained / "config.json").read_text() == before


def test_resuming_nothing_begins(tmp_path):
    experiment.start(tmp_path / "run", changed(Config(), **RESUME))
    assert (tmp_path / "run" / "config.json").is_file()
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(experiment.start, tmp_path / "run", Config()).exception()
    assert isinstance(second, SystemExit) and "another run" in str(second)
    experiment.finish(tmp_path / "run", {"fd": 1.0})
    assert not (tmp_path / "run" / ".lock").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="could not write"):
        experiment.start(tmp_path / "file", Config())


def test_a_description_is_the_same_in_every_process():
    described = record.describe(
        {
            "partial": functools.partial(dj.times.karras, n=3),
            "bound": jax.tree_util.Partial(dj.times.karras, 1.0),
            "table": dj.BetaTable.linear(100),
            "method": Config().optim.build,
            "array": np.arange(3),
            "type": dj.VP,
        }
    )
    text = json.dumps(described)
    assert "0x" not in text and described["array"] == [0, 1, 2]
    assert record.describe(jnp.arange(100.0)) != record.describe(jnp.arange(100.0).at[3].set(0))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--prest", "cpu"], "Unrecognized option --prest. Perhaps you meant --preset"),
        (["--lerning-rate", "3"], "Unrecognized option --lerning-rate"),
        (["--sde.beta-maxx", "5"], "Perhaps you meant --sde.beta-max"),
        (["--batchsize=5"], "Perhaps you meant --batch-size"),
        (["--nothing-like-it"], "--help lists the options"),
        (["stray"], "Unrecognized argument stray"),
    ],
)
def test_a_misspelt_option_gets_a_suggestion(argv, message):
    with pytest.raises(SystemExit, match=message):
        experiment.configure({"cpu": Config}, "doc", argv)


def test_help_wraps_paragraphs_and_leaves_tables(capsys):
    doc = "Title.\n\n    command --x      # stays\n\n" + "word " * 60 + "\nend."
    with pytest.raises(SystemExit):
        experiment.configure({"cpu": Config}, doc, ["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert "    command --x      # stays" in lines and any("tensorboard --logdir" in line for line in lines)
    assert max(len(line) for line in experiment.wrapped(doc, 60).splitlines()) <= 60


def test_ctrl_c_ends_a_command_line_and_not_a_notebook(tmp_path):
    def steps(state, batches):
        return dataclasses.replace(state, step=state.step + 1), {"loss": jnp.ones(1)}

    def batches(start):
        for n in range(start + 1, 100):
            if n == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield np.zeros((2, 1), np.float32)

    state = train.TrainState.create(jax.random.key(0), jnp.zeros(2), train.adam(0.1))
    loop = train.LoopConfig(steps=9)
    assert train.fit(steps, state, batches, tmp_path / "a", loop)[1]["stopped"] == "SIGINT"
    with pytest.raises(SystemExit) as caught:
        experiment.fit(steps, state, batches, tmp_path / "b", loop)
    assert caught.value.code == 130


def test_a_stage_says_what_it_does_before_and_after(capsys):
    with experiment.stage("Drawing", 300.0):
        assert capsys.readouterr().out == "Drawing (about 5 min) ..."
    assert capsys.readouterr().out == " 0 s\n"


def test_a_card_s_command_names_no_folder_of_the_machine_and_is_that_of_a_resumed_run():
    told = ["experiments/score_sde.py", "--data", "digits", "--steps=5"]
    again = [*told[:1], "--workdir", "/home/me/run", *told[1:], "--resume", "--data_dir=/data", "--data-dir", "/data"]
    assert (
        image_run._command(again)
        == image_run._command(told)
        == "python experiments/score_sde.py --data digits --steps=5"
    )

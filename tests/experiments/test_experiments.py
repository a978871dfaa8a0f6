"""The experiments end to end, at a size of seconds: a run, its files, its resume, its presets and its errors."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import diffjax as dj
from diffjax import train
from diffjax.runs import experiment


@pytest.fixture(scope="module")
def score_sde(load):
    return load("score_sde")


@pytest.fixture
def tiny(score_sde, pixelwise, tmp_path):
    return dataclasses.replace(
        score_sde.cpu(),
        net=pixelwise(),
        loop=train.LoopConfig(steps=4, log_every=2, checkpoint_every=2, sample_every=4),
        sampling_steps=3,
        samples=70,
        likelihoods=2,
        likelihood_tol=1e-1,
        data="digits",
        workdir=tmp_path / "run",
    )


@pytest.mark.slow
def test_a_run_leaves_its_files_and_resumes(score_sde, tiny, tmp_path):
    summary = score_sde.main(tiny)
    run = tiny.workdir
    for name in ("config.json", "summary.json", "metrics.jsonl", "samples.png", "ema.safetensors"):
        assert (run / name).is_file(), name
    assert json.loads((run / "summary.json").read_text())["steps"] == 4
    assert json.loads((run / "config.json").read_text())["sde"]["class"] == "VP"
    assert summary["count"] == 70 and np.isfinite([summary["fd"], summary["fd_floor"], summary["bits_per_dim"]]).all()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    cosine = 0.1 + 0.9 * (1 + np.cos(np.pi / 4)) / 2  # of the second step of four, down to a tenth
    assert rows[0]["lr"] == pytest.approx(2e-3 * 2 / 50 * cosine, rel=1e-5)
    assert np.isfinite([row["val_loss"] for row in rows]).all()
    assert json.loads((run / "config.json").read_text())["data"] == "digits"
    with pytest.raises(SystemExit, match="--resume"):
        score_sde.main(tiny)
    left = (run / "ema.safetensors").read_bytes()
    shutil.rmtree(run / "checkpoints/4")  # as if it had been stopped in between
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"date": "2001-02-03"}))
    resumed = dataclasses.replace(tiny, loop=dataclasses.replace(tiny.loop, resume=True))
    assert score_sde.main(resumed)["steps"] == 4
    card = dj.read_card(run)
    assert card["about"]["date"] == "2001-02-03" and not {"seconds", "examples_per_s"} & card["about"]["figures"].keys()
    dj.save(tmp_path / "again", dj.load(run), card["about"] | {"date": config["date"]}, "float16")
    assert (tmp_path / "again.safetensors").read_bytes() == left  # but for the day, to the last bit


@pytest.mark.slow
def test_of_the_user_s_own_network_a_run_leaves_the_parameters(score_sde, tiny):
    class Mine(type(tiny.net)):
        __module__ = "mine"

    loop = dataclasses.replace(tiny.loop, steps=2, sample_every=0)
    score_sde.main(dataclasses.replace(tiny, net=Mine(), loop=loop, samples=0, likelihoods=0))
    like = dj.Model.init(jax.random.key(0), Mine(), tiny.sde, tiny.precondition, np.zeros((1, 8, 8, 1)))
    assert dj.load(tiny.workdir, like=like).sample(jax.random.key(0), 2).shape == (2, 8, 8, 1)
    with pytest.raises(ValueError, match="does not describe its model"):
        dj.load(tiny.workdir)


@pytest.mark.slow
def test_a_model_of_classes_is_guided(score_sde, tiny):
    loop = dataclasses.replace(tiny.loop, steps=2, sample_every=0)
    config = dataclasses.replace(tiny, net=tiny.net.clone(num_classes=10), loop=loop, samples=0, likelihoods=0)
    config = dataclasses.replace(config, optim=train.OptimConfig(lr=0.1, warmup=0, ema=(0.0,)))
    score_sde.main(config)
    model, cond = dj.load(tiny.workdir), {"label": np.arange(3)}
    x, free = (model.sample(jax.random.key(0), 3, cond=cond, guidance_scale=scale) for scale in (2.0, 0.0))
    assert x.shape == (3, 8, 8, 1) and np.abs(x - free).max() > 0
    np.testing.assert_allclose(free, model.sample(jax.random.key(0), 3), atol=1e-5)


@pytest.mark.slow
def test_dry_run(score_sde, tiny, capsys):
    cost = score_sde.main(dataclasses.replace(tiny, dry_run=True))
    assert cost["parameters"] == 3 and cost["memory_bytes"] > cost["state_bytes"]
    assert "GFLOP" in capsys.readouterr().out and not tiny.workdir.exists()


def test_presets_are_the_papers(score_sde):
    assert list(score_sde.PRESETS) == [
        "cpu",
        "cpu-long",
        "cpu-classes",
        "cpu-emoji",
        "cpu-faces",
        *(f"cifar10-{sde}{deep}" for sde in ("vp", "subvp", "ve") for deep in ("", "-deep")),
    ]
    ve = score_sde.PRESETS["cifar10-ve-deep"]()
    assert (ve.loop.steps, ve.optim.ema, ve.sampler.corrector.snr, ve.batch_size) == (950_000, (0.999,), 0.16, 128)
    vp = score_sde.PRESETS["cifar10-vp"]()
    assert (vp.loop.steps, vp.optim.ema, vp.optim.lr, vp.optim.warmup) == (1_300_000, (0.9999,), 2e-4, 5000)


def test_command_line(score_sde):
    argv = ["--preset", "cifar10-ve", "--sde.sigma-max", "90", "--steps", "50", "--lr=1e-3", "--resume"]
    config = experiment.configure(score_sde.PRESETS, "doc", argv)
    assert (config.sde.sigma_max, config.loop.steps, config.optim.lr, config.loop.resume) == (90.0, 50, 1e-3, True)
    assert experiment.configure(score_sde.PRESETS, None, []).loop.steps == 800
    with pytest.raises(SystemExit, match=r"unknown preset 'cifar'; choose one of: cpu, cpu-long"):
        experiment.configure(score_sde.PRESETS, None, ["--preset=cifar"])
    with pytest.raises(SystemExit, match=r"Unrecognized option --stepz\. Perhaps you meant --steps"):
        experiment.configure(score_sde.PRESETS, None, ["--stepz", "3"])
    with pytest.raises(SystemExit, match=r"--lerning-rate\. Perhaps you meant --lr"):
        experiment.configure(score_sde.PRESETS, None, ["--lerning-rate", "3"])


@pytest.mark.slow
def test_toy_2d_comes_near_the_floor(load, tmp_path, monkeypatch):
    toy = load("toy_2d")
    monkeypatch.setattr(toy, "SOLVERS", {"DDIM": toy.SOLVERS["DDIM"]})  # less to compile
    config = toy.Config(samples=2000, batch_size=256, workdir=tmp_path / "toy")
    config = dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=500))
    result = toy.main(config)
    assert (tmp_path / "toy" / "samples.png").is_file()
    for solver in toy.SOLVERS:  # the data's own scale is 1, two sets of 2000 are about 0.03 apart
        assert result[solver] < 0.12 and result[f"{solver}, exact"] < 0.1


def test_a_table_measures_once_and_keeps_its_settings(tmp_path):
    path, calls = tmp_path / "rows.json", []
    fn = lambda: calls.append(1) or {"fd": 2.0}  # noqa: E731
    table, other = experiment.Table(path, {"steps": 3}), experiment.Table(path, {"steps": 3})
    table.measure("A, 1", fn)
    table.measure("A, 1", fn)
    other.measure("B, 1", fn)  # has no part in A, and keeps it
    assert len(calls) == 2 and table["A, 1/fd"] == 2.0
    assert json.loads(path.read_text()) == {"settings": {"steps": 3}, "A, 1/fd": 2.0, "B, 1/fd": 2.0}
    experiment.Table(path, {"steps": 3}).measure("B, 1", fn)
    experiment.Table(path).measure("A, 1", fn)
    assert len(calls) == 2
    with pytest.raises(SystemExit, match="figures of other settings: choose another --workdir"):
        experiment.Table(path, {"steps": 4})

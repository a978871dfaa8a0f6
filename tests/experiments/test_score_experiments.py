"""The score experiments end to end at a size of seconds: five objectives in the plane, and NCSN on small images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import data, train
from diffjax.runs import experiment
from diffjax.samplers import annealing


@pytest.fixture(scope="module")
def matching(load):
    return load("score_matching")


@pytest.fixture(scope="module")
def ncsn(load):
    return load("ncsn")


@pytest.fixture
def tiny(ncsn, pixelwise, tmp_path):
    return dataclasses.replace(
        ncsn.cpu(),
        net=pixelwise(),
        levels=0,
        loop=train.LoopConfig(steps=2, log_every=2, checkpoint_every=2, sample_every=0),
        samples=70,
        data="digits",
        workdir=tmp_path / "ncsn",
    )


@pytest.mark.slow
def test_objectives_are_run_and_reported(matching, pixelwise, monkeypatch, tmp_path):
    monkeypatch.setattr(matching.nn, "MLP", lambda width: pixelwise(2))
    result = matching.main(matching.Config(steps=100, batch_size=16, test=500, workdir=tmp_path))
    for name in ("exact", "Hutchinson, SSM-VR", "SSM-VR, Gaussian", "SSM", "denoising"):
        assert 0 < result[f"{name}, Fisher"] < 2 * result["E |grad log p|^2"], name
    with pytest.raises(ValueError, match="multiple of 100"):
        matching.Config(steps=150)


@pytest.mark.slow
def test_ncsn_runs_with_what_the_data_choose(ncsn, tiny, capsys):
    summary = ncsn.main(tiny)
    assert summary["data"] == "digits" and summary["count"] == 70 and np.isfinite(summary["fd"])
    assert "bits_per_dim" not in summary and (tiny.workdir / "samples.png").is_file()
    assert capsys.readouterr().out.count("technique") == 3
    assert jnp.isfinite(dj.load(tiny.workdir).sample(jax.random.key(0), 2)).all()


def test_the_data_choose_the_levels_and_the_step(ncsn, tiny):
    images = data.to_float(data.load("digits").train_images).reshape(-1, 64).astype(np.float64)
    square = (images**2).sum(1)
    farthest = np.sqrt((square[:, None] + square - 2 * images @ images.T).max())
    chosen = ncsn.choose(tiny)
    assert np.isclose(chosen.sigma_1, farthest, rtol=1e-9)
    assert chosen.levels == chosen.sampling_steps == annealing.n_levels(64, farthest, 0.1)
    gamma = (farthest / 0.1) ** (1 / (chosen.levels - 1))
    assert np.isclose(chosen.relative_step, annealing.step_size(3, gamma, 0.1) / 0.1**2)
    assert (chosen.sampler.eps, chosen.sampler.sigma_L, chosen.sampler.n_steps) == (chosen.relative_step, 1.0, 3)
    with pytest.raises(ValueError, match="at least two noise levels"):
        ncsn.choose(dataclasses.replace(tiny, levels=1))


def test_ncsn_presets_are_the_papers(ncsn):
    assert list(ncsn.PRESETS) == ["cpu", "ncsn-cpu", "ncsn", "ncsnv2"]
    for name, count, levels, n, step, sigma in (
        ("ncsn", 30_117_635, 10, 100, 0.2, 2.0),
        ("ncsnv2", 29_694_083, 232, 5, 0.062, 100.0),
    ):
        config = ncsn.choose(ncsn.PRESETS[name]())  # nothing is left to the data
        shapes = jax.eval_shape(config.net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros(1))
        assert train.count(shapes) == count
        assert (config.sampling_steps, config.sampler.n_steps, config.sigma_1, config.sigma_L) == (
            levels,
            n,
            sigma,
            0.02,
        )
        assert np.isclose(config.sampler.eps / config.sampler.sigma_L**2, step)
        assert (config.batch_size, config.flip, config.likelihoods) == (128, True, 0)


def test_command_line(ncsn):
    argv = ["--preset", "ncsnv2", "--sigma-1", "90", "--levels=50", "--steps", "50", "--langevin-steps", "3"]
    config = experiment.configure(ncsn.PRESETS, "doc", argv)
    assert (config.sigma_1, config.levels, config.loop.steps, config.langevin_steps) == (90.0, 50, 50, 3)

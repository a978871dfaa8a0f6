"""The experiments of guidance, inverse problems and SDEdit end to end, on made-up pictures, at a size of seconds."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import data, metrics, nn, operators, precondition, train
from diffjax.data.image_data import ImageData


@pytest.fixture
def garments(monkeypatch):
    """In place of Fashion-MNIST, wherever an experiment loads it."""
    rng = np.random.default_rng(0)
    images, labels = 127 * rng.integers(0, 3, (200, 28, 28, 1), np.uint8), np.arange(200) % 10  # paintings of k-means
    made = ImageData("fashion_mnist", images, labels, images, labels, tuple("0123456789"))
    monkeypatch.setattr(data, "load", lambda *_, **__: made)


@pytest.fixture
def model(pixelwise, tmp_path):
    """The file of a model of garments whose network is one linear map."""

    def model(classes=0):
        args = jax.random.key(0), pixelwise(1, classes), dj.VP(), precondition.from_v, jnp.zeros((1, 28, 28, 1))
        return dj.save(tmp_path / "model", dj.Model.init(*args))

    return model


@pytest.mark.slow
def test_guidance(load, garments, model, tmp_path):
    """By the committed classifiers, one of them at noisy images."""
    guidance = load("guidance")
    scales = dict(cfg=(), classifier=(2.0,), ordinary=(), dps=(), mpgd=(0.05,))
    config = guidance.Config(samples=20, steps=3, **scales, model=model(10), workdir=tmp_path)
    summary = guidance.main(config)
    assert {"classifier 2, accuracy", "ordinary, MPGD 0.05, diversity"} <= set(summary)
    assert (tmp_path / "guidance.png").is_file() and np.isfinite(list(summary.values())).all()


@pytest.fixture(scope="module")
def inverse(load):
    return load("inverse_problems")


@pytest.mark.slow
def test_inverse_problems(inverse, garments, model, tmp_path, capsys):
    methods = dict(methods=("DDRM", "MPGD-Z"), problems=("pool x 4", "HDR"))
    config = inverse.Config(images=8, **methods, model=model(), workdir=tmp_path)
    summary = inverse.main(config)
    rows = {name.partition("/")[0] for name in summary}
    assert rows == {"pool x 4, A+ y", "pool x 4, DDRM", "pool x 4, MPGD-Z", "HDR, y", "HDR, MPGD-Z"}
    assert summary["pool x 4, A+ y/unclipped"] < 1e-3  # the pseudo-inverse meets the measurement, noise included
    assert 0.5 < summary["pool x 4, DDRM/residual"] < 1.5 and np.isfinite(list(summary.values())).all()
    assert (tmp_path / "inverse_problems.png").is_file()
    capsys.readouterr()
    assert inverse.main(config) == summary and "DDRM {" not in capsys.readouterr().out  # nothing is measured again
    with pytest.raises(SystemExit, match=r"unknown: \['DDRN'\]"):
        inverse.main(dataclasses.replace(config, methods=("DDRN",)))


@pytest.mark.slow
def test_every_method_runs_on_every_operator_for_which_it_is(inverse):
    """Shapes alone, so that nothing is compiled."""
    same = Partial(lambda x, *_: x)
    parts, x, ran = inverse.Parts(same, same, same), jnp.zeros((2, 8, 8, 3)), set()
    built = {problem: build() for problem, build in inverse.problems(x.shape[1:]).items()}
    for problem, operator in built.items():
        m = operators.Measurement(operator, operator(x), 0.05)
        for name, run in inverse.runs(inverse.Config(), m, parts, x.shape).items():
            if name in inverse.METHODS:
                guided, sampler = inverse.METHODS[name].build(m, parts)
                step = partial(sampler.step, jax.random.key(0), guided, inverse.SDE, t=0.5, s=0.4, cond=None)
                end = jax.eval_shape(lambda x, step=step, sampler=sampler: step(sampler.init(x)).x, x)
                assert end.shape == x.shape
                ran.add((problem, name))
            else:
                assert run()[0].shape == x.shape, (problem, name)
    everywhere = {name for name, method in inverse.METHODS.items() if not method.linear}
    for problem, operator in built.items():
        expected = inverse.METHODS if hasattr(operator, "s") else everywhere
        assert {name for p, name in ran if p == problem} == set(expected)
    assert "grey" not in inverse.problems((8, 8, 1)) and "projection" not in inverse.problems((64, 64, 3))


@pytest.mark.slow
def test_an_autoencoder_is_trained_and_kept(load, garments, tmp_path):
    loop = train.LoopConfig(steps=2, log_every=1, checkpoint_every=0, sample_every=0)
    summary = load("autoencoder").main(load("autoencoder").Config(loop=loop, batch_size=4, workdir=tmp_path))
    assert np.isfinite(summary["psnr"]) and isinstance(dj.load(tmp_path), dj.Trained)
    assert (tmp_path / "autoencoder.png").is_file()


@pytest.mark.slow
def test_the_committed_autoencoder_reconstructs_garments(inverse):
    """The mean of each image would have 9 dB."""
    try:
        images = data.load("fashion_mnist").test_images[:64]
    except FileNotFoundError:
        pytest.skip("Fashion-MNIST is not installed (apt-get install dataset-fashion-mnist)")
    parts, x = inverse.models(inverse.Config(), (28, 28, 1)), jnp.asarray(data.to_float(images))
    assert metrics.psnr(parts.decode(parts.encode(x)), x).mean() > 22


@pytest.mark.slow
def test_sdedit(load, garments, model, tmp_path):
    sdedit = load("sdedit")
    summary = sdedit.main(sdedit.Config(images=104, steps=1, t_0=(0.1, 0.5), model=model(), workdir=tmp_path))
    assert summary["t_0 0.1, distance"] < summary["t_0 0.5, distance"]
    assert np.isfinite(list(summary.values())).all()
    assert (tmp_path / "sdedit.png").is_file()


def test_the_seam_is_the_step_across_the_box(load):
    sdedit, x = load("sdedit"), np.zeros((2, 28, 28, 1), np.float32)
    x[:, sdedit.BOX, sdedit.BOX] = [[[[0.5]]], [[[-1.5]]]]
    assert sdedit.seam(x) == pytest.approx(np.sqrt((0.5**2 + 1.5**2) / 2))


def test_the_knee(load):
    assert load("sdedit").knee((0.1, 0.2, 0.3, 0.4), [10.0, 4.0, 1.4, 1.0]) == 0.3


@pytest.mark.slow
def test_noisy_classifier(load, garments, monkeypatch, tmp_path):
    noisy = load("noisy_classifier")
    monkeypatch.setattr(nn, "Classifier", partial(nn.Classifier, width=8, multipliers=(1,)))
    config = noisy.Config(batch_size=8, test_images=10, test_times=(0.0, 1.0), workdir=tmp_path)
    config = dataclasses.replace(
        config, loop=dataclasses.replace(config.loop, steps=2, log_every=2, checkpoint_every=2)
    )
    summary = noisy.main(config)
    assert summary["steps"] == 2 and 0 <= summary["accuracy at t = 1"] <= 1
    logits = dj.load(tmp_path)(jnp.zeros((1, 28, 28, 1)), jnp.zeros(1))
    assert logits.shape == (1, 10)

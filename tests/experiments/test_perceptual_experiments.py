"""MPGD's experiments and their judges end to end, with made-up pictures, and stand-ins for the pretrained networks."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import diffjax as dj
from diffjax import data, metrics, precondition, pretrained
from diffjax.data import packages
from diffjax.data.image_data import ImageData
from diffjax.pretrained import face


def maps(x):
    return x, x[:, ::2, ::2], jnp.tanh(x)


@pytest.fixture
def small_sets(monkeypatch):
    """Forty pictures of twenty captions, networks that need no weights, features that need no network."""
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40) % 2
    captions = tuple(f"thing {i % 20}" for i in range(40))
    made = ImageData("emoji", x, labels, x, labels, ("odd", "even"), captions, captions)
    people = ImageData("olivetti", x[..., :1], np.arange(40), x[..., :1], np.arange(40), tuple(map(str, range(40))))
    monkeypatch.setattr(data, "load", lambda name, *_, **__: people if name == "olivetti" else made)
    monkeypatch.setattr(packages, "find", lambda *_: None)
    monkeypatch.setattr(
        metrics, "lite0_features", lambda *_, **__: lambda x: np.asarray(x).reshape(len(x), -1)[:, :1008]
    )
    vectors = rng.normal(size=(100, 384)).astype(np.float32)
    monkeypatch.setattr(pretrained, "sentence_vectors", lambda path, texts: vectors[: len(texts)])
    monkeypatch.setattr(
        pretrained, "load_face_net", lambda _: Partial(lambda _, x: x[:, ::8, ::8].reshape(len(x), -1), 0)
    )
    monkeypatch.setattr(face, "stages", lambda _, x: [x] * 8)
    monkeypatch.setattr(metrics, "lite0_layers", lambda: Partial(maps))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["identity", "style"])
def test_mpgd(load, small_sets, task, pixelwise, tmp_path, monkeypatch):
    mpgd = load("mpgd")
    monkeypatch.setattr(mpgd, "STYLES", (5,))
    halves = {"params": {"Dense_0": {"kernel": 0.5 * jnp.eye(4, 3), "bias": jnp.zeros(3)}}}  # x_0 = x_t / 2
    model = dj.Model(pixelwise(3), halves, dj.VP(), precondition.from_x0, (32, 32, 3))
    small = dict(scales=(0.0, 0.1), samples=4, steps=3, batch_size=2, workdir=tmp_path)
    small["model"] = dj.save(tmp_path / "model", model)
    summary = mpgd.main(dataclasses.replace(mpgd.PRESETS[task](), **small))
    key = {"identity": "distance", "style": "style"}[task]
    assert summary[f"scale 0.1, {key}"] < summary[f"scale 0, {key}"]  # guided towards the reference
    assert (tmp_path / "mpgd.png").is_file() and np.isfinite(list(summary.values())).all()


def test_mpgd_says_what_is_missing(load, small_sets, tmp_path):
    mpgd = load("mpgd")
    config = dataclasses.replace(mpgd.PRESETS["identity"](), model=tmp_path / "no.safetensors", workdir=tmp_path)
    with pytest.raises(SystemExit, match=r"there is no .*no\.safetensors.*--preset cpu-faces"):
        mpgd.main(config)


@pytest.mark.slow
@pytest.mark.parametrize("name, preset", [("emoji_clip", "linear"), ("face_judge", "Config")])
def test_judges(load, small_sets, name, preset, tmp_path):
    module = load(name)
    config = getattr(module, preset)()
    loop = dataclasses.replace(config.loop, steps=2, log_every=2, checkpoint_every=2)
    config = dataclasses.replace(config, loop=loop, batch_size=8, workdir=tmp_path)
    config = dataclasses.replace(config, versions=2) if name == "face_judge" else config
    summary = module.main(config)
    assert summary["steps"] == 2 and isinstance(dj.load(tmp_path), dj.Trained)
    assert 0 <= summary["top 5" if name == "emoji_clip" else "people, rate"] <= 1


def test_arcface_by_hand(load):
    """Two classes, centres at right angles: the own angle grows by the margin, the logits by the scale."""
    judge = load("face_judge")
    y = jnp.array([[0.8, 0.6]])
    loss = judge.ArcFace(lambda params, x, **_: (y, jnp.eye(2)), scale=3.0, margin=0.1)
    values, aux = loss(None, jax.random.key(0), {"image": y, "label": jnp.array([0])})
    own, other = 3 * np.cos(np.arccos(0.8) + 0.1), 3 * 0.6
    np.testing.assert_allclose(values, np.log1p(np.exp(other - own)), atol=1e-6)
    assert aux["hit"] == 1

"""The models that are told where, at small sizes: what they are given, begin from, train, keep and judge."""

import dataclasses
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax as dj
from diffjax import conditions, data, nn, precondition, train
from diffjax.data import scenes
from diffjax.runs import captions, image_run
from diffjax.runs.scene_reader import CLASSES

NET = nn.ConditionalUNet(channels=(8,), layers=1, attention=(False,), heads=2, groups=4, context_width=384)
LOOP = train.LoopConfig(steps=2, log_every=1, checkpoint_every=0, sample_every=0)


class Words:
    """A text encoder that needs no package: one random vector for a text."""

    def __init__(self, length):
        self.length = length

    def __call__(self, texts):
        draw = lambda text: np.random.default_rng(zlib.crc32(text.encode())).normal(size=(self.length, 384))  # noqa: E731
        return np.stack([draw(text) for text in texts]).astype(np.float16)

    def kept(self, texts, data_dir=None):
        return self(texts)

    def split(self, text):
        return [(word, 1) for word in text.replace(",", " ,").split()]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a codec, a text model with it, and the two judges, all new."""
    folder, key = tmp_path_factory.mktemp("made"), jax.random.key(0)
    net = nn.Autoencoder(3, 4, 4)
    images = data.to_float(scenes.make(range(8)).images)
    codec = dj.Codec.measured(net, jax.jit(net.init)(key, images[:1]), images)
    dj.save(folder / "codec", codec)
    batch = {"image": jnp.zeros((1, 8, 8, 4)), "context": jnp.zeros((1, 4, 384))}
    how = dict(null={"context": 0.0}, codec=codec)
    dj.save(
        folder / "text", dj.Model.init(key, NET.clone(context_length=4), dj.VP(), precondition.from_v, batch, **how)
    )
    nets = {
        "judge": nn.Classifier(48, width=8, multipliers=(1,)),
        "segmenter": nn.RefineNet(width=4, multipliers=(1,), dilations=(1,), out_channels=CLASSES, patch=4),
    }
    for name, net in nets.items():
        params = jax.jit(net.init)(key, images[:1], jnp.zeros(1))
        dj.save(folder / name, dj.Trained(net, params, (images.shape[1:], ())))
    return folder


@pytest.fixture
def small(load, made, monkeypatch, tmp_path):
    """An experiment, and its configuration of a preset."""
    monkeypatch.setattr(captions, "TextStates", Words)
    monkeypatch.setenv("DIFFJAX_DATA", str(tmp_path / "data"))
    experiment = load("latent_conditions")

    def config(preset, **changes):
        few = dict(net=NET, count=12, length=4, samples=6, sampling_steps=2, scales=(3.0,), batch_size=4, loop=LOOP)
        files = {name: made / name for name in ("codec", "judge", "segmenter")}
        return dataclasses.replace(experiment.PRESETS[preset](), **few, **files, workdir=tmp_path / "run", **changes)

    return experiment, config


@pytest.mark.parametrize(
    ("preset", "joined"), [("layout", 0), ("semantic", 16), ("super-resolution", 3), ("inpainting", 5)]
)
def test_what_the_models_are_told(small, made, preset, joined):
    experiment, config = small
    drawn, codec = scenes.make(range(5)), dj.load(made / "codec")
    given = experiment.conditioned(config(preset), codec, drawn, Words(4))
    if not joined:
        assert given["context"].shape == (5, 3, experiment.TOKENS.width) and set(given) == {"context"}
        return
    assert given["context"].shape == (5, 4, 384) and given["concat"].shape == (5, 8, 8, joined)


def test_a_hole_hides_the_whole_object_in_whole_cells(small):
    experiment, _ = small
    drawn = scenes.make(range(30))
    masks, slots = experiment.holes(drawn, 0, 8)
    assert set(np.unique(masks)) == {0, 1} and masks.shape == (30, 32, 32, 1)
    hidden = drawn.masks[np.arange(30), slots]
    assert hidden.any((1, 2)).all() and (hidden <= masks[..., 0]).all()
    cells = masks[:, ::4, ::4]
    np.testing.assert_array_equal(cells.repeat(4, 1).repeat(4, 2), masks)
    free, same = experiment.holes(drawn, 0, 8, rectangles=1.0)
    np.testing.assert_array_equal(same, slots)
    assert (free != masks).any((1, 2, 3)).mean() > 0.8 and (free[:, ::4, ::4].sum((1, 2, 3)) >= 4).all()


def test_figures_of_true_pictures_are_finite(small):
    """They go into the card of a model, and JSON has no infinity."""
    experiment, config = small
    drawn = scenes.make(range(3))
    seen = lambda x, wanted: dict.fromkeys(("colour", "shape", "binding"), 1.0)  # noqa: E731
    for task in ("super-resolution", "inpainting"):
        figure, given = experiment.judged(config(task), drawn, 8, seen, None)
        found = figure(data.to_float(drawn.images))
        assert np.isfinite(list(found.values())).all() and given.shape == (3, 32, 32, 3)
    assert image_run.untimed({"a": np.inf, "b": 1.0}) == {"a": "inf", "b": 1.0}


@pytest.mark.slow
def test_inpainting_begins_from_a_text_model(small, made, capsys):
    experiment, config = small
    optim = train.OptimConfig(lr=1e-2, warmup=0, ema=(0.5,))
    begun = config("inpainting", begin=made / "text", optim=optim)
    figures = experiment.main(begun)
    assert "conv_in/kernel\n" in capsys.readouterr().out
    assert np.isfinite(figures["test, scale 3, hole psnr"]) and "test, codec, binding" in figures
    model = dj.load(begun.workdir)
    assert model.network.in_channels == 9 and (begun.workdir / "test.png").is_file()
    first = dj.load(made / "text").params["params"]["conv_in"]["kernel"]
    kernel = model.params["params"]["conv_in"]["kernel"]
    np.testing.assert_allclose(kernel[:, :, :4], first, atol=0.05)  # two steps away
    assert 0 < np.abs(kernel[:, :, 4:]).max() < 0.05
    assert isinstance(model.null["concat"], conditions.Kept)
    with pytest.raises(ValueError, match=r'needs a cond."concat". of 5 channels, and this input in_channels = 7'):
        experiment.main(config("super-resolution", weights=begun.workdir))


@pytest.mark.slow
def test_layouts_are_judged_by_boxes(small, made, key):
    experiment, config = small
    batch = {"image": jnp.zeros((1, 8, 8, 4)), "context": jnp.zeros((1, 3, experiment.TOKENS.width))}
    net = NET.clone(context_width=experiment.TOKENS.width, context_length=3)
    how = dict(null={"context": 0.0}, codec=dj.load(made / "codec"))
    model = dj.Model.init(key, net, dj.VP(), precondition.from_v, batch, **how)
    weights = dj.save(made / "layout", model)
    figures = experiment.main(config("layout", weights=weights))
    assert {f"heldout, scale 3, {name}" for name in ("iou", "place", "hit", "shuffled", "binding")} <= set(figures)


@pytest.mark.slow
def test_images_are_edited_by_the_text_model(small, made):
    experiment, config = small
    with pytest.raises(SystemExit, match="give --weights"):
        experiment.main(config("img2img"))
    figures = experiment.main(config("img2img", weights=made / "text", strengths=(0.0, 1.0)))
    assert figures["source, kept psnr"] > 100 and figures["strength 0, kept psnr"] > 0
    assert (config("img2img").workdir / "img2img.png").is_file()


@pytest.mark.slow
def test_words_are_changed_by_prompt_to_prompt(load, made, monkeypatch, tmp_path):
    monkeypatch.setattr(captions, "TextStates", Words)
    experiment, text = load("prompt_to_prompt"), dj.load(made / "text")
    net = NET.clone(context_length=40, attention=(True,))
    batch = {"image": jnp.zeros((1, 8, 8, 4)), "context": jnp.zeros((1, 40, 384))}
    model = dj.Model.init(jax.random.key(0), net, text.sde, text.prediction, batch, null=text.null, codec=text.codec)
    dj.save(tmp_path / "model", model)
    files = {name: made / name for name in ("judge", "segmenter")} | {"weights": tmp_path / "model"}
    config = experiment.Config(
        **files, samples=5, batch=3, sampling_steps=2, cross=(0.0, 1.0), blend=0.5, workdir=tmp_path / "run"
    )
    figures = experiment.main(config)
    assert figures["pairs"] == 5 and figures["0, 0, ratio"] == 1
    assert {"1, 0.4, kept", "0.5, 0.4, blend, edit"} <= set(figures) and all(map(np.isfinite, figures.values()))
    assert (config.workdir / "edits.png").is_file()
    for wrong, message in ((dict(cross=(0.5,)), "begins with 0"), (dict(cross=(0.0, 2.0)), "share of the steps")):
        with pytest.raises(SystemExit, match=message):
            experiment.main(dataclasses.replace(config, **wrong))
    with pytest.raises(SystemExit, match="no caption"):
        dj.save(tmp_path / "short", text)
        experiment.main(dataclasses.replace(config, weights=tmp_path / "short"))
